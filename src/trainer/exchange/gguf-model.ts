/** A model ⇄ a GGUF file: the container, the model's names and keys, and the tokenizer's, put together. */
import { GgufError, ggufStream, openGguf } from '../../checkpoint/gguf.ts';
import type { GgufFile, GgufValue } from '../../checkpoint/gguf.ts';
import type { ByteSource } from '../../checkpoint/bytes.ts';
import { readFlat } from '../../checkpoint/hf-folder.ts';
import type { PlacedTensor, ReadOptions } from '../../checkpoint/hf-folder.ts';
import { fitsRows } from '../../checkpoint/number-formats.ts';
import type { NumberFormat } from '../../checkpoint/number-formats.ts';
import type { WrittenTensor } from '../../checkpoint/tensor-stream.ts';
import { filesOfGguf, ggufTokenizer } from '../../data/gguf-tokenizer.ts';
import type { TokenizerFiles } from '../../data/tokenizer-files.ts';
import { configFromGguf, fromInterleaved, ggufMetadata, ggufNames, reorderedHeads, toInterleaved } from '../../model/gguf.ts';
import { parameterLayoutOf } from '../../model/parameters.ts';
import type { DecoderConfig } from '../../model/types.ts';
import type { GgufType, ModelParts, OutputFile } from './types.ts';

const formats: Readonly<Record<GgufType, NumberFormat>> = { f32: 'F32', f16: 'F16', q8_0: 'Q8_0' };
/** `general.file_type`: what most tensors are stored as. */
const fileTypes: Readonly<Record<GgufType, number>> = { f32: 0, f16: 1, q8_0: 7 };
const quantizationVersion = 2;

/** Vectors stay f32, as llama.cpp has them; matrices whose rows are not whole blocks are f16. */
function formatOf(shape: readonly number[], type: GgufType): NumberFormat {
  if (shape.length < 2) return 'F32';
  const format = formats[type];
  return fitsRows(format, shape.at(-1) ?? 0) ? format : 'F16';
}

/** Throws `TokenizerError` where llama.cpp has no such tokenizer, `GgufError` where there is none. */
export function ggufOutput({ name, config, weights, tokenizer }: ModelParts, type: GgufType, path: string): OutputFile {
  if (tokenizer === null) throw new GgufError('a GGUF file needs the model’s tokenizer, and there is none beside it');
  const names = ggufNames(config);
  const heads = reorderedHeads(config);
  const tensors = parameterLayoutOf(config).entries.map(({ name: ours, shape, offsetElements, lengthElements }): WrittenTensor => {
    const values = weights.subarray(offsetElements, offsetElements + lengthElements);
    const theirs = names.get(ours);
    if (theirs === undefined) throw new GgufError(`llama.cpp has no name for ${ours}`);
    const reordered = heads.get(ours);
    return {
      name: theirs,
      shape,
      format: formatOf(shape, type),
      // Made when it is written, so that one projection at a time is in memory twice.
      get values() {
        return reordered === undefined ? values : toInterleaved(values, reordered, config.hidden_size);
      },
    };
  });
  const metadata: (readonly [string, GgufValue])[] = [
    ...ggufMetadata(config, name),
    ['general.file_type', { type: 'u32', value: fileTypes[type] }],
    ...(type === 'q8_0' ? [['general.quantization_version', { type: 'u32', value: quantizationVersion }] as const] : []),
    ...tokenizerMetadata(tokenizer, config.vocab_size),
  ];
  return { path, ...ggufStream(metadata, tensors) };
}

function tokenizerMetadata(files: TokenizerFiles, vocabularySize: number): (readonly [string, GgufValue])[] {
  const { model, pre, tokens, types, merges, beginOfText, endOfText, unknown, chatTemplate } = ggufTokenizer(files, vocabularySize);
  const id = (key: string, value: number | null): (readonly [string, GgufValue])[] => (value === null ? [] : [[`tokenizer.ggml.${key}_token_id`, { type: 'u32', value }]]);
  return [
    ['tokenizer.ggml.model', { type: 'string', value: model }],
    ...(pre === null ? [] : [['tokenizer.ggml.pre', { type: 'string', value: pre }] as const]),
    ['tokenizer.ggml.tokens', { type: 'strings', value: tokens }],
    ['tokenizer.ggml.token_type', { type: 'i32s', value: types }],
    ...(model === 'gpt2' ? [['tokenizer.ggml.merges', { type: 'strings', value: merges }] as const] : []),
    ...id('bos', beginOfText),
    ...id('eos', endOfText),
    ...id('unknown', unknown),
    // Nothing is put before a text here, so llama.cpp is not to either.
    ['tokenizer.ggml.add_bos_token', { type: 'bool', value: false }],
    ['tokenizer.ggml.add_eos_token', { type: 'bool', value: false }],
    ...(chatTemplate === null ? [] : [['tokenizer.chat_template', { type: 'string', value: chatTemplate }] as const]),
  ];
}

export interface OpenedGguf {
  readonly name: string | null;
  readonly config: DecoderConfig;
  readonly tokenizer: TokenizerFiles;
  readonly readWeights: (options?: ReadOptions) => Promise<Float32Array<ArrayBuffer>>;
}

/** Reads the header. Throws `GgufError`, `ConfigError` or `TokenizerError`. */
export async function openGgufModel(source: ByteSource): Promise<OpenedGguf> {
  const file = await openGguf(source);
  const { metadata } = file;
  const tokens = metadata.get('tokenizer.ggml.tokens');
  if (!Array.isArray(tokens)) throw new GgufError(`${source.name}: has no tokenizer`);
  const embedding = file.tensors.get('token_embd.weight');
  const config = configFromGguf(metadata, (name) => file.tensors.has(name), embedding?.shape[0] ?? tokens.length);
  const name = metadata.get('general.name');
  return {
    name: typeof name === 'string' ? name : null,
    config,
    tokenizer: filesOfGguf(metadata, config.max_position_embeddings),
    readWeights: (options) => readGgufWeights(file, config, options),
  };
}

async function readGgufWeights(file: GgufFile, config: DecoderConfig, options?: ReadOptions): Promise<Float32Array<ArrayBuffer>> {
  const ours = new Map(Array.from(ggufNames(config), ([name, theirs]) => [theirs, name]));
  const tensors = new Map(Array.from(file.tensors, ([name, tensor]): [string, PlacedTensor] => [ours.get(name) ?? name, { ...tensor, source: file.source }]));
  const heads = reorderedHeads(config);
  return readFlat(parameterLayoutOf(config), tensors, options, (name, values) => {
    const reordered = heads.get(name);
    if (reordered !== undefined) values.set(fromInterleaved(values, reordered, config.hidden_size));
  });
}
