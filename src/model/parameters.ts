/**
 * Names and shapes of a decoder's parameters, as Hugging Face names them, and what they cost in memory.
 * Projections are [out, in], as PyTorch's Linear stores them.
 */
import { parameterLayout } from '../engine/layout.ts';
import type { ParameterLayout } from '../engine/layout.ts';
import type { Shape } from '../engine/op.ts';
import { nothingFrozen } from './frozen.ts';
import type { Frozen } from './frozen.ts';
import type { DecoderConfig } from './types.ts';

export const embeddingName = 'model.embed_tokens.weight';
export const finalNormName = 'model.norm.weight';
export const headName = 'lm_head.weight';

/** Names of one layer's parameters. `queryNorm` and `keyNorm` exist in qwen3 only. */
export function layerNames(layer: number) {
  const prefix = `model.layers.${layer}`;
  return {
    inputNorm: `${prefix}.input_layernorm.weight`,
    query: `${prefix}.self_attn.q_proj.weight`,
    key: `${prefix}.self_attn.k_proj.weight`,
    value: `${prefix}.self_attn.v_proj.weight`,
    output: `${prefix}.self_attn.o_proj.weight`,
    queryNorm: `${prefix}.self_attn.q_norm.weight`,
    keyNorm: `${prefix}.self_attn.k_norm.weight`,
    feedForwardNorm: `${prefix}.post_attention_layernorm.weight`,
    gate: `${prefix}.mlp.gate_proj.weight`,
    up: `${prefix}.mlp.up_proj.weight`,
    down: `${prefix}.mlp.down_proj.weight`,
  } as const;
}

/** Every parameter in the order of the forward pass. */
export function parameterShapes(config: DecoderConfig): readonly (readonly [name: string, shape: Shape])[] {
  const { hidden_size: hidden, intermediate_size: intermediate, head_dim: headSize } = config;
  const queries = config.num_attention_heads * headSize;
  const keys = config.num_key_value_heads * headSize;
  const shapes: (readonly [string, Shape])[] = [[embeddingName, [config.vocab_size, hidden]]];
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const names = layerNames(layer);
    shapes.push(
      [names.inputNorm, [hidden]],
      [names.query, [queries, hidden]],
      [names.key, [keys, hidden]],
      [names.value, [keys, hidden]],
    );
    if (config.model_type === 'qwen3') shapes.push([names.queryNorm, [headSize]], [names.keyNorm, [headSize]]);
    shapes.push(
      [names.output, [hidden, queries]],
      [names.feedForwardNorm, [hidden]],
      [names.gate, [intermediate, hidden]],
      [names.up, [intermediate, hidden]],
      [names.down, [hidden, intermediate]],
    );
  }
  shapes.push([finalNormName, [hidden]]);
  if (!config.tie_word_embeddings) shapes.push([headName, [config.vocab_size, hidden]]);
  return shapes;
}

/** Inside the layers, and no vector: what an optimizer may treat as a linear map of hidden states to hidden states. */
export function isLayerMatrix({ name, shape }: { readonly name: string; readonly shape: Shape }): boolean {
  return shape.length === 2 && name !== embeddingName && name !== headName;
}

/** Names of the parameters that training leaves alone. */
export function frozenNames(config: DecoderConfig, { embeddings, layers }: Frozen): ReadonlySet<string> {
  const lowest = Array.from({ length: layers }, (_, layer) => Object.values(layerNames(layer))).flat();
  const frozen = new Set([...(embeddings ? [embeddingName] : []), ...lowest]);
  return new Set(parameterShapes(config).map(([name]) => name).filter((name) => frozen.has(name)));
}

/** Where tensors lie does not depend on what is frozen. */
export function parameterLayoutOf(config: DecoderConfig, frozen: Frozen = nothingFrozen): ParameterLayout {
  return parameterLayout(parameterShapes(config), frozenNames(config, frozen));
}

export function parameterCount(config: DecoderConfig): number {
  return parameterShapes(config).reduce(
    (sum, [, shape]) => sum + shape.reduce((product, extent) => product * extent, 1),
    0,
  );
}

export function cacheNames(layer: number) {
  return { keys: `keys of layer ${layer}`, values: `values of layer ${layer}` } as const;
}

/** Names and shapes of what decoding keeps of `capacity` positions: keys and values of every layer. */
export function cacheShapes(config: DecoderConfig, capacity: number): ReadonlyMap<string, Shape> {
  const shape = [capacity, config.num_key_value_heads, config.head_dim];
  const layers = Array.from({ length: config.num_hidden_layers }, (_, layer) => cacheNames(layer));
  return new Map(layers.flatMap(({ keys, values }) => [[keys, shape] as const, [values, shape] as const]));
}

/**
 * About how many bytes training takes on one device: weights, gradients, the step's sum and two moments in f32, with local steps
 * also their weights and moments, one buffer more with Muon, master weights where the replica is not the same, and the activations of one micro-batch that the backward pass needs. An estimate for people, not the
 * plan's figure.
 */
export function estimateMemoryBytes(run: {
  readonly model: DecoderConfig;
  readonly rowsPerMicrobatch: number;
  readonly contextLength: number;
  readonly localSteps: number;
  readonly codec: string;
  readonly optimizer: { readonly method?: 'adamw' | 'muon' };
}): number {
  const { model: config, rowsPerMicrobatch: rows, contextLength } = run;
  const bytesPerElement = 4;
  const weightCopies = (run.localSteps > 1 ? 7 : 5) + (run.codec === 'fp32' ? 0 : 1) + (run.optimizer.method === 'muon' ? 1 : 0);
  const { hidden_size: hidden, intermediate_size: intermediate } = config;
  const queries = config.num_attention_heads * config.head_dim;
  const keys = config.num_key_value_heads * config.head_dim;
  // Kept per token and layer: two norms' inputs and outputs, q/k/v before and after rotation, attention's output,
  // gate, up and their product.
  const perLayer = 4 * hidden + 3 * queries + 4 * keys + 3 * intermediate;
  const perToken = config.num_hidden_layers * perLayer + 3 * hidden + config.vocab_size;
  return bytesPerElement * (weightCopies * parameterLayoutOf(config).totalElements + rows * contextLength * perToken);
}
