/** GGUF files that we write, read by real llama.cpp: the same greedy text as from our own sampler, and the same tokens. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CharacterTokenizer } from '../../src/data/character-tokenizer.ts';
import type { TokenizerFiles } from '../../src/data/tokenizer-files.ts';
import type { DecoderConfig } from '../../src/model/types.ts';
import { ggufOutput } from '../../src/trainer/exchange/gguf-model.ts';
import { bpeFiles, bpeTexts } from '../llama-cpp/bpe.ts';
import { readWithLlamaCpp, whyNoLlamaCpp } from '../llama-cpp/llama-cpp.ts';
import { greedyText, tellingWeights, tinyDecoder } from './tiny-decoders.ts';

const reason = whyNoLlamaCpp();
if (reason !== null) console.warn(`skipped: llama.cpp can’t be had here: ${reason}`);
const count = 64;

describe.skipIf(reason !== null)('llama.cpp', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cotrain-gguf-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  async function written(config: DecoderConfig, weights: Float32Array<ArrayBuffer>, tokenizer: TokenizerFiles, type: 'f32' | 'f16' | 'q8_0'): Promise<string> {
    const output = ggufOutput({ name: 'a tiny model', config, weights, tokenizer }, type, 'model.gguf');
    const path = join(folder, `${config.model_type}-${type}.gguf`);
    await writeFile(path, Buffer.concat([...output.chunks()]));
    return path;
  }

  it.each([
    ['llama', false],
    ['qwen3', true],
  ] as const)('continues greedily from an f32 %s as our sampler does, and has the same tokens for texts', async (type, isTied) => {
    const config = tinyDecoder(type, 320, isTied);
    const weights = tellingWeights(config);
    const prompt = [72, 101, 108, 108, 111];
    const answer = readWithLlamaCpp(await written(config, weights, bpeFiles, 'f32'), { texts: bpeTexts, prompt, count });
    const reference = new HuggingFaceTokenizer(bpeFiles.tokenizer, bpeFiles.config);
    expect(answer.ids).toEqual(bpeTexts.map((text) => reference.encode(text, { add_special_tokens: false }).ids));
    expect(answer.decoded).toEqual(bpeTexts);
    expect(answer.endOfText).toBe(256);
    expect(answer.continuation).toEqual(await greedyText(config, weights, prompt, count));
    expect(new Set(answer.continuation).size).toBeGreaterThan(count / 4);
  });

  it.each(['f16', 'q8_0'] as const)('opens a model in %s', async (type) => {
    const config = tinyDecoder('llama', 320, true);
    const answer = readWithLlamaCpp(await written(config, tellingWeights(config), bpeFiles, type), { texts: [], prompt: [72], count: 8 });
    expect(answer.continuation).toHaveLength(8);
  });

  it('reads our character tokenizer: one token for each character, of one byte or four, and no end of text', async () => {
    const text = 'héllo wörld\n\t„“ \\n 日本 🙂!';
    const tokenizer = CharacterTokenizer.fromText(text);
    const config = tinyDecoder('llama', tokenizer.vocabularySize, true);
    const files = tokenizer.toHuggingFace(128);
    const answer = readWithLlamaCpp(await written(config, tellingWeights(config), files, 'f32'), { texts: [text], prompt: [...tokenizer.encode('hé')], count });
    expect(answer.ids).toEqual([[...tokenizer.encode(text)]]);
    expect(answer.decoded).toEqual([text]);
    expect(answer.endOfText).toBeNull();
    expect(answer.continuation).toHaveLength(count);
  });
});
