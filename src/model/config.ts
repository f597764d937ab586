/**
 * Hugging Face's `config.json` ⇄ `DecoderConfig`. Unknown keys are ignored; keys that would change what the model
 * computes and that we don't implement are refused by name, so that nothing trains silently differently.
 * Knows no tensors: `parameters.ts` has their names and shapes.
 */
import * as v from 'valibot';
import type { DecoderConfig } from './types.ts';

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const size = v.pipe(v.number(), v.integer('must be a whole number'), v.minValue(1, 'must be at least 1'));
const positive = v.pipe(v.number(), v.finite('must be finite'), v.gtValue(0, 'must be above 0'));

const huggingFaceSchema = v.object({
  model_type: v.picklist(['llama', 'qwen3'], 'must be "llama" or "qwen3"'),
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: v.nullish(size),
  head_dim: v.nullish(size),
  max_position_embeddings: v.nullish(size),
  rms_norm_eps: v.nullish(positive),
  rope_theta: v.nullish(positive),
  tie_word_embeddings: v.nullish(v.boolean()),
  initializer_range: v.nullish(positive),
  dropout: v.nullish(v.pipe(v.number(), v.minValue(0, 'must be at least 0'), v.ltValue(1, 'must be below 1'))),
});

/** What Hugging Face's configs may ask for and we don't compute, with the values that ask for nothing. */
const refusals: readonly (readonly [key: string, harmless: (value: unknown) => boolean])[] = [
  ['attention_bias', isUnset],
  ['mlp_bias', isUnset],
  ['attention_dropout', isUnset],
  ['use_sliding_window', isUnset],
  ['quantization_config', isUnset],
  ['rope_scaling', hasDefaultRope],
  ['rope_parameters', hasDefaultRope],
  ['hidden_act', (value) => isUnset(value) || value === 'silu' || value === 'swish'],
  ['layer_types', (value) => isUnset(value) || (Array.isArray(value) && value.every((kind) => kind === 'full_attention'))],
];

function isUnset(value: unknown): boolean {
  return value === undefined || value === null || value === false || value === 0;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function hasDefaultRope(value: unknown): boolean {
  if (isUnset(value)) return true;
  if (!isRecord(value)) return false;
  const kind = value['rope_type'] ?? value['type'];
  const known = new Set(['rope_type', 'type', 'rope_theta', 'partial_rotary_factor']);
  return (
    (kind === undefined || kind === 'default') &&
    Object.keys(value).every((key) => known.has(key)) &&
    (value['partial_rotary_factor'] ?? 1) === 1
  );
}

/** Newer Hugging Face configs keep `rope_theta` inside `rope_parameters`. */
function ropeThetaOf(json: Readonly<Record<string, unknown>>): unknown {
  const nested = json['rope_parameters'] ?? json['rope_scaling'];
  return json['rope_theta'] ?? (isRecord(nested) ? nested['rope_theta'] : undefined);
}

/**
 * Reads the parsed JSON of a `config.json`. `head_dim` defaults to hidden_size / num_attention_heads, key-value heads
 * to the attention heads, the rest to Hugging Face's defaults. Throws `ConfigError` naming the key.
 */
export function parseConfig(json: unknown): DecoderConfig {
  if (!isRecord(json)) throw new ConfigError('the model config is not a JSON object');
  const type = json['model_type'];
  if (type !== 'llama' && type !== 'qwen3') {
    throw new ConfigError(
      type === undefined
        ? 'model_type is missing: supported are llama and qwen3'
        : `model_type ${JSON.stringify(type)} is not supported: supported are llama and qwen3`,
    );
  }
  for (const [key, harmless] of refusals) {
    if (!harmless(json[key])) throw new ConfigError(`${key} = ${JSON.stringify(json[key])} is not supported`);
  }
  const result = v.safeParse(huggingFaceSchema, { ...json, rope_theta: ropeThetaOf(json) });
  if (!result.success) {
    const issue = result.issues[0];
    const key = v.getDotPath(issue) ?? 'config';
    const missing = issue.received === 'undefined';
    throw new ConfigError(missing ? `${key} is missing` : `${key} ${describe(issue.message)}, and is ${issue.received}`);
  }
  const given = result.output;
  if (given.head_dim == null && given.hidden_size % given.num_attention_heads !== 0) {
    throw new ConfigError(
      `hidden_size ${given.hidden_size} is not a multiple of num_attention_heads ${given.num_attention_heads}, and head_dim is not given`,
    );
  }
  const config: DecoderConfig = {
    model_type: given.model_type,
    vocab_size: given.vocab_size,
    hidden_size: given.hidden_size,
    intermediate_size: given.intermediate_size,
    num_hidden_layers: given.num_hidden_layers,
    num_attention_heads: given.num_attention_heads,
    num_key_value_heads: given.num_key_value_heads ?? given.num_attention_heads,
    head_dim: given.head_dim ?? given.hidden_size / given.num_attention_heads,
    max_position_embeddings: given.max_position_embeddings ?? 2048,
    rms_norm_eps: given.rms_norm_eps ?? 1e-6,
    rope_theta: given.rope_theta ?? 10_000,
    tie_word_embeddings: given.tie_word_embeddings ?? false,
    initializer_range: given.initializer_range ?? 0.02,
    dropout: given.dropout ?? 0,
  };
  const problem = configProblem(config);
  if (problem !== null) throw new ConfigError(problem);
  return config;
}

function describe(message: string): string {
  return message.startsWith('must') ? message : 'has the wrong type';
}

/** Attention reads four numbers of a head at a time; rotary embedding alone would need two. */
const headDimStep = 4;

/** Many more than any model has; a file may claim any number, and names are made for each. */
const maxLayers = 1024;

/** What keeps these hyperparameters from making a model, in one sentence naming the key; null when nothing does. */
export function configProblem(config: DecoderConfig): string | null {
  const sizes = [
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'head_dim',
    'max_position_embeddings',
  ] as const;
  for (const key of sizes) {
    if (!Number.isSafeInteger(config[key]) || config[key] < 1) return `${key} must be a whole number of at least 1, and is ${config[key]}`;
  }
  if (config.num_hidden_layers > maxLayers) return `num_hidden_layers ${config.num_hidden_layers} is more than ${maxLayers}`;
  if (config.num_attention_heads % config.num_key_value_heads !== 0) {
    return `num_attention_heads ${config.num_attention_heads} is not a multiple of num_key_value_heads ${config.num_key_value_heads}`;
  }
  if (config.head_dim % headDimStep !== 0) {
    return `head_dim ${config.head_dim} is not a multiple of ${headDimStep}, which the attention kernels need`;
  }
  if (!(config.dropout >= 0 && config.dropout < 1)) return `dropout must be from 0 to below 1, and is ${config.dropout}`;
  for (const key of ['rms_norm_eps', 'rope_theta', 'initializer_range'] as const) {
    if (!(config[key] > 0 && Number.isFinite(config[key]))) return `${key} must be above 0, and is ${config[key]}`;
  }
  return null;
}

/** The `config.json` object for a folder that Hugging Face's libraries read. */
export function toHuggingFaceConfig(config: DecoderConfig): Record<string, unknown> {
  const { dropout, ...shared } = config;
  return {
    architectures: [config.model_type === 'qwen3' ? 'Qwen3ForCausalLM' : 'LlamaForCausalLM'],
    ...shared,
    attention_bias: false,
    attention_dropout: 0,
    bos_token_id: null,
    eos_token_id: null,
    hidden_act: 'silu',
    ...(config.model_type === 'llama' ? { mlp_bias: false } : {}),
    ...(dropout > 0 ? { dropout } : {}),
    rope_scaling: null,
    torch_dtype: 'float32',
    use_cache: true,
  };
}
