/** Tiny models and files of them for the tests of what is read and written. */
import { memorySource } from '../../src/checkpoint/bytes.ts';
import type { FileSet } from '../../src/checkpoint/hf-folder.ts';
import { parseConfig } from '../../src/model/config.ts';
import { initialWeights } from '../../src/model/initial.ts';
import type { DecoderConfig } from '../../src/model/types.ts';
import type { ModelParts, OutputFile } from '../../src/trainer/exchange/types.ts';
import { bpeFiles } from '../llama-cpp/bpe.ts';

export function tinyConfig(type: 'llama' | 'qwen3', changes: object = {}): DecoderConfig {
  return parseConfig({
    model_type: type,
    vocab_size: 320,
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
    max_position_embeddings: 128,
    tie_word_embeddings: true,
    ...changes,
  });
}

export function tinyModel(config: DecoderConfig): ModelParts {
  return { name: 'tiny', config, weights: initialWeights(config, 3), tokenizer: bpeFiles };
}

export function joined(chunks: Iterable<Uint8Array>): Uint8Array<ArrayBuffer> {
  const parts = [...chunks];
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export async function collected(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return joined(parts);
}

export function filesOf(outputs: readonly OutputFile[]): FileSet {
  return new Map(outputs.map(({ path, chunks }) => [path, memorySource(path, joined(chunks()))]));
}

export function single(name: string, bytes: Uint8Array): FileSet {
  return new Map([[name, memorySource(name, bytes)]]);
}
