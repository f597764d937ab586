/**
 * What llama.cpp calls the parts of these decoders: tensor names, metadata keys, and the order of rows in a Llama's query and
 * key projections. Knows no files: `src/checkpoint/gguf.ts` has the container.
 * Sources: ggml's docs/gguf.md; llama.cpp's convert_hf_to_gguf.py and gguf-py/gguf/constants.py, for names and the permutation.
 */
import { ConfigError, parseConfig } from './config.ts';
import { embeddingName, finalNormName, headName, layerNames } from './parameters.ts';
import type { DecoderConfig } from './types.ts';

/** As `GgufValue` of the container, so that this file needs none. */
export type MetadataEntry = readonly [key: string, value: { readonly type: 'u32' | 'f32'; readonly value: number } | { readonly type: 'string'; readonly value: string }];

const architectureKey = 'general.architecture';

/** Our tensor names → GGUF's. */
export function ggufNames(config: Pick<DecoderConfig, 'model_type' | 'num_hidden_layers' | 'tie_word_embeddings'>): ReadonlyMap<string, string> {
  const names = new Map<string, string>([[embeddingName, 'token_embd.weight']]);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const ours = layerNames(layer);
    const theirs = (part: string): string => `blk.${layer}.${part}.weight`;
    names.set(ours.inputNorm, theirs('attn_norm'));
    names.set(ours.query, theirs('attn_q')).set(ours.key, theirs('attn_k')).set(ours.value, theirs('attn_v')).set(ours.output, theirs('attn_output'));
    if (config.model_type === 'qwen3') names.set(ours.queryNorm, theirs('attn_q_norm')).set(ours.keyNorm, theirs('attn_k_norm'));
    names.set(ours.feedForwardNorm, theirs('ffn_norm'));
    names.set(ours.gate, theirs('ffn_gate')).set(ours.up, theirs('ffn_up')).set(ours.down, theirs('ffn_down'));
  }
  names.set(finalNormName, 'output_norm.weight');
  if (!config.tie_word_embeddings) names.set(headName, 'output.weight');
  return names;
}

/**
 * Heads whose rows llama.cpp has in another order, by our tensor name; a tensor that is not there is the same for both. Our rotary
 * embedding turns row i of a head with row i + d/2, llama.cpp's for `llama` row 2i with row 2i + 1; for `qwen3` it is as ours.
 */
export function reorderedHeads(config: DecoderConfig): ReadonlyMap<string, number> {
  if (config.model_type !== 'llama') return new Map();
  return new Map(
    Array.from({ length: config.num_hidden_layers }, (_, layer) => layerNames(layer)).flatMap(({ query, key }) => [
      [query, config.num_attention_heads] as const,
      [key, config.num_key_value_heads] as const,
    ]),
  );
}

/** Rows of a projection [heads · d, columns] from our order into llama.cpp's. */
export function toInterleaved(values: Float32Array, heads: number, columns: number): Float32Array<ArrayBuffer> {
  return reordered(values, heads, columns, (row, half) => (row < half ? 2 * row : 2 * (row - half) + 1));
}

/** The way back. */
export function fromInterleaved(values: Float32Array, heads: number, columns: number): Float32Array<ArrayBuffer> {
  return reordered(values, heads, columns, (row, half) => (row % 2 === 0 ? row / 2 : half + (row - 1) / 2));
}

function reordered(values: Float32Array, heads: number, columns: number, target: (row: number, half: number) => number): Float32Array<ArrayBuffer> {
  const result = new Float32Array(values.length);
  const rows = values.length / columns / heads;
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < rows; row++) {
      const from = (head * rows + row) * columns;
      result.set(values.subarray(from, from + columns), (head * rows + target(row, rows / 2)) * columns);
    }
  }
  return result;
}

/** What llama.cpp needs to know of the model, but for its tokenizer and how its tensors are stored. */
export function ggufMetadata(config: DecoderConfig, name: string): readonly MetadataEntry[] {
  const architecture = config.model_type;
  const u32 = (key: string, value: number): MetadataEntry => [`${architecture}.${key}`, { type: 'u32', value }];
  const f32 = (key: string, value: number): MetadataEntry => [`${architecture}.${key}`, { type: 'f32', value }];
  return [
    [architectureKey, { type: 'string', value: architecture }],
    ['general.type', { type: 'string', value: 'model' }],
    ['general.name', { type: 'string', value: name }],
    u32('vocab_size', config.vocab_size),
    u32('context_length', config.max_position_embeddings),
    u32('embedding_length', config.hidden_size),
    u32('block_count', config.num_hidden_layers),
    u32('feed_forward_length', config.intermediate_size),
    u32('attention.head_count', config.num_attention_heads),
    u32('attention.head_count_kv', config.num_key_value_heads),
    u32('attention.key_length', config.head_dim),
    u32('attention.value_length', config.head_dim),
    f32('attention.layer_norm_rms_epsilon', config.rms_norm_eps),
    u32('rope.dimension_count', config.head_dim),
    f32('rope.freq_base', config.rope_theta),
  ];
}

/** Keys under an architecture's name that ask for something that isn't computed here, with the values that ask for nothing. */
const refusals: readonly (readonly [key: string, harmless: (value: unknown) => boolean])[] = [
  ['rope.scaling.type', (value) => value === undefined || value === 'none'],
  ['rope.scale_linear', (value) => value === undefined || value === 1],
  ['expert_count', (value) => value === undefined || value === 0],
  ['attention.sliding_window', (value) => value === undefined || value === 0],
];

/**
 * The configuration that a GGUF's metadata says. `has` tells which tensors the file has: without an `output.weight` the head is the
 * embedding. Throws `ConfigError` naming the key.
 */
export function configFromGguf(metadata: ReadonlyMap<string, unknown>, has: (tensor: string) => boolean, vocabularySize: number): DecoderConfig {
  const architecture = metadata.get(architectureKey);
  if (architecture !== 'llama' && architecture !== 'qwen3') {
    throw new ConfigError(`${architectureKey} ${JSON.stringify(architecture ?? null)} is not supported: supported are llama and qwen3`);
  }
  const value = (key: string): unknown => metadata.get(`${architecture}.${key}`);
  for (const [key, harmless] of refusals) {
    if (!harmless(value(key))) throw new ConfigError(`${architecture}.${key} = ${JSON.stringify(value(key))} is not supported`);
  }
  if (has('rope_freqs.weight')) throw new ConfigError('rotary embedding with frequency factors (rope_freqs.weight) is not supported');
  const headSize = value('attention.key_length') ?? value('rope.dimension_count');
  const rotated = value('rope.dimension_count') ?? headSize;
  if (headSize !== rotated) throw new ConfigError(`${architecture}.rope.dimension_count = ${JSON.stringify(rotated)} is not supported: all ${JSON.stringify(headSize)} dimensions are turned`);
  return parseConfig({
    model_type: architecture,
    vocab_size: vocabularySize,
    hidden_size: value('embedding_length'),
    intermediate_size: value('feed_forward_length'),
    num_hidden_layers: value('block_count'),
    num_attention_heads: value('attention.head_count'),
    num_key_value_heads: value('attention.head_count_kv'),
    head_dim: headSize,
    max_position_embeddings: value('context_length'),
    // In a file it is f32: 1e-6 comes back as 9.999999974752427e-7.
    rms_norm_eps: shortest(value('attention.layer_norm_rms_epsilon')),
    rope_theta: shortest(value('rope.freq_base')),
    tie_word_embeddings: !has('output.weight'),
  });
}

/** The shortest decimal that is the same f32. */
function shortest(value: unknown): unknown {
  if (typeof value !== 'number') return value;
  for (let digits = 1; digits <= 9; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === Math.fround(value)) return rounded;
  }
  return value;
}
