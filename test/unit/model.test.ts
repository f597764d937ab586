import { expect, it } from 'vitest';
import { ConfigError, parseConfig, toHuggingFaceConfig } from '../../src/model/config.ts';
import { trainingGraph } from '../../src/model/decoder.ts';
import { liveNodes } from '../../src/engine/planner.ts';
import { initialWeights } from '../../src/model/initial.ts';
import { frozenNames, parameterCount, parameterLayoutOf, parameterShapes } from '../../src/model/parameters.ts';

const llama = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 96,
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
};

function messageOf(json: unknown): string {
  try {
    parseConfig(json);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return 'accepted';
}

it('fills what a Hugging Face config may leave out', () => {
  expect(parseConfig(llama)).toMatchObject({ head_dim: 32, num_key_value_heads: 4, rope_theta: 10_000, dropout: 0, rms_norm_eps: 1e-5 });
});

it('reads rope_theta from rope_parameters, where newer configs keep it', () => {
  const config = { ...llama, rope_parameters: { rope_type: 'default', rope_theta: 500_000 } };
  expect(parseConfig(config).rope_theta).toBe(500_000);
});

it('gives back the same config through the file that it writes', () => {
  const config = parseConfig({ ...llama, model_type: 'qwen3', head_dim: 20, num_key_value_heads: 2, dropout: 0.1 });
  const written: unknown = JSON.parse(JSON.stringify(toHuggingFaceConfig(config)));
  expect(parseConfig(written)).toEqual(config);
  expect(written).toMatchObject({ architectures: ['Qwen3ForCausalLM'], torch_dtype: 'float32' });
});

it.each([
  ['model_type', { ...llama, model_type: 'gpt2' }],
  ['model_type', { ...llama, model_type: undefined }],
  ['hidden_size', { ...llama, hidden_size: undefined }],
  ['hidden_size', { ...llama, hidden_size: '128' }],
  ['vocab_size', { ...llama, vocab_size: 0 }],
  ['num_hidden_layers', { ...llama, num_hidden_layers: 2.5 }],
  ['num_key_value_heads', { ...llama, num_key_value_heads: 3 }],
  ['head_dim', { ...llama, head_dim: 6 }],
  ['head_dim', { ...llama, num_attention_heads: 3 }],
  ['rope_scaling', { ...llama, rope_scaling: { rope_type: 'yarn', factor: 4 } }],
  ['rope_parameters', { ...llama, rope_parameters: { rope_type: 'llama3', factor: 8 } }],
  ['attention_bias', { ...llama, attention_bias: true }],
  ['mlp_bias', { ...llama, mlp_bias: true }],
  ['hidden_act', { ...llama, hidden_act: 'gelu' }],
  ['layer_types', { ...llama, layer_types: ['sliding_attention'] }],
  ['quantization_config', { ...llama, quantization_config: { bits: 4 } }],
  ['dropout', { ...llama, dropout: 1 }],
  ['JSON object', []],
])('refuses a config by naming %s', (key, config) => {
  expect(messageOf(config)).toContain(key);
});

it('counts the parameters of the Moby-Dick model at a vocabulary of 96: 865,408', () => {
  expect(parameterCount(parseConfig(llama))).toBe(865_408);
});

it('names a head of its own only in an untied model, and query and key norms only in qwen3', () => {
  const names = (config: object) => parameterShapes(parseConfig(config)).map(([name]) => name);
  expect(names(llama)).not.toContain('lm_head.weight');
  expect(names({ ...llama, tie_word_embeddings: false })).toContain('lm_head.weight');
  expect(names(llama).some((name) => name.endsWith('q_norm.weight'))).toBe(false);
  expect(names({ ...llama, model_type: 'qwen3' })).toContain('model.layers.3.self_attn.k_norm.weight');
});

it('draws initial weights from the seed alone, with norms at one and the asked spread', () => {
  const config = parseConfig({ ...llama, tie_word_embeddings: false });
  const weights = initialWeights(config, 7);
  const equals = (other: Float32Array) => other.every((value, index) => value === weights[index]);
  expect(equals(initialWeights(config, 7))).toBe(true);
  expect(equals(initialWeights(config, 8))).toBe(false);
  const layout = parameterLayoutOf(config);
  const part = (name: string) => {
    const entry = layout.byName.get(name);
    if (entry === undefined) throw new Error(`no ${name}`);
    return weights.subarray(entry.offsetElements, entry.offsetElements + entry.lengthElements);
  };
  const spread = (name: string) => Math.sqrt(part(name).reduce((sum, value) => sum + value * value, 0) / part(name).length);
  expect(part('model.norm.weight').every((value) => value === 1)).toBe(true);
  expect(spread('model.layers.0.mlp.up_proj.weight')).toBeCloseTo(0.02, 3);
  expect(spread('model.layers.0.mlp.down_proj.weight')).toBeCloseTo(0.02 / Math.sqrt(8), 3);
  expect(spread('lm_head.weight')).toBeCloseTo(0.02, 3);
});

it('leaves the padding between tensors at zero', () => {
  const config = parseConfig({ ...llama, hidden_size: 40, head_dim: 12, vocab_size: 7 });
  const weights = initialWeights(config, 1);
  const layout = parameterLayoutOf(config);
  const used = new Uint8Array(layout.totalElements);
  for (const entry of layout.entries) used.fill(1, entry.offsetElements, entry.offsetElements + entry.lengthElements);
  expect(used.includes(0)).toBe(true);
  expect(weights.every((value, index) => used[index] === 1 || value === 0)).toBe(true);
});

it.each([
  { embeddings: false, layers: 0 },
  { embeddings: true, layers: 0 },
  { embeddings: false, layers: 3 },
  { embeddings: true, layers: 4 },
])('what is frozen ($embeddings, $layers) has no gradient and lies where it lay, and all else is trained', (frozen) => {
  const config = parseConfig(llama);
  const names = frozenNames(config, frozen);
  const layout = parameterLayoutOf(config, frozen);
  expect(layout.entries).toEqual(parameterLayoutOf(config).entries);
  const isTrained = (element: number) => layout.trainedSpans.some(({ start, end }) => element >= start && element < end);
  const graph = trainingGraph(config, 1, 4, { frozen });
  const learned = new Set([...graph.accumulations.values()].flatMap(({ kind, name }) => (kind === 'gradient' ? [name] : [])));
  for (const { name, offsetElements, lengthElements } of layout.entries) {
    const isFrozen = (frozen.embeddings && name === 'model.embed_tokens.weight') || Number(/layers[.](\d+)/.exec(name)?.[1] ?? Infinity) < frozen.layers;
    expect(names.has(name), name).toBe(isFrozen);
    expect(learned.has(name), name).toBe(!isFrozen);
    expect([isTrained(offsetElements), isTrained(offsetElements + lengthElements - 1)], name).toEqual([!isFrozen, !isFrozen]);
  }
});

it('nothing is computed backward below the lowest tensor that is not frozen', () => {
  const config = parseConfig(llama);
  const backward = (layers: number) =>
    liveNodes(trainingGraph(config, 1, 4, { frozen: { embeddings: true, layers } }), new Set()).filter(({ op }) => /^(matmulNN|matmulTN)$/.test(op.name)).length;
  // Of a layer, seven weights' gradients and seven products on the way to its input; the lowest that is trained needs three of the latter no more than its input.
  expect([backward(0), backward(1), backward(3)].map((count, at, all) => (at === 0 ? 0 : (all[0] ?? 0) - count))).toEqual([0, 14, 42]);
});
