/** Plain text as token ids: by the model folder's tokenizer where it has one, else by character. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { CharacterTokenizer } from '../data/character-tokenizer.ts';
import { CliError } from './errors.ts';
import { readJson, tokenizerFile } from './model-folder.ts';

export interface TextData {
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** Ids are below it. */
  readonly vocabularySize: number;
  /** Made from this text, to be saved with the model; null when the folder's own was used. */
  readonly tokenizer: CharacterTokenizer | null;
}

/** Throws `CliError` when the folder's tokenizer can't be used. */
export async function readTextData(text: string, folder: string | null): Promise<TextData> {
  const path = folder === null ? null : join(folder, tokenizerFile);
  if (folder === null || path === null || !existsSync(path)) {
    const tokenizer = CharacterTokenizer.fromText(text);
    return { tokens: tokenizer.encode(text), vocabularySize: tokenizer.vocabularySize, tokenizer };
  }
  const json = await readJson(path);
  const configPath = join(folder, 'tokenizer_config.json');
  const config = existsSync(configPath) ? await readJson(configPath) : {};
  const tokens = encode(text, path, json, config);
  return { tokens, vocabularySize: tokens.reduce((largest, id) => Math.max(largest, id), 0) + 1, tokenizer: null };
}

function encode(text: string, path: string, json: unknown, config: unknown): Uint32Array<ArrayBuffer> {
  // One of ours: the same ids without a pass of byte-pair merging over the whole text.
  const characters = CharacterTokenizer.fromHuggingFace(json);
  if (characters !== null) return characters.encode(text);
  try {
    const tokenizer = new Tokenizer(json as object, config as object);
    return Uint32Array.from(tokenizer.encode(text, { add_special_tokens: false }).ids);
  } catch (error) {
    throw new CliError(`${path} can't be used: ${error instanceof Error ? error.message : String(error)}`);
  }
}
