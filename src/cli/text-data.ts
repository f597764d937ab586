/** Plain text as token ids: by the model folder's tokenizer where it has one, else by character. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { TokenizerError } from '../data/errors.ts';
import { tokenizerFromHuggingFace } from '../data/serialized-tokenizer.ts';
import { byCharacter } from '../data/tokenized-text.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { CliError } from './errors.ts';
import { readJson, tokenizerConfigFile, tokenizerFile } from './model-folder.ts';

export interface TextData {
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** Ids are below it. */
  readonly vocabularySize: number;
  /** Made from this text, to be saved with the model; null when the folder's own was used. */
  readonly tokenizer: Tokenizer | null;
}

/** Throws `CliError` when the folder's tokenizer can't be used. */
export async function readTextData(text: string, folder: string | null): Promise<TextData> {
  if (folder === null || !existsSync(join(folder, tokenizerFile))) {
    const { tokenizer, tokens } = byCharacter(text);
    return { tokens, vocabularySize: tokenizer.vocabularySize, tokenizer };
  }
  const { vocabularySize, encode } = await readTokenizer(folder);
  return { tokens: encode(text), vocabularySize, tokenizer: null };
}

/** A folder's tokenizer; what it can't do is a `CliError` that names its file. */
export async function readTokenizer(folder: string): Promise<{ readonly vocabularySize: number; readonly encode: (text: string) => Uint32Array<ArrayBuffer> }> {
  const path = join(folder, tokenizerFile);
  const configPath = join(folder, tokenizerConfigFile);
  const json = await readJson(path);
  const config = existsSync(configPath) ? await readJson(configPath) : null;
  try {
    const tokenizer = await tokenizerFromHuggingFace(json, config);
    return { vocabularySize: tokenizer.vocabularySize, encode: (text) => named(path, () => tokenizer.encode(text)) };
  } catch (error) {
    throw inFile(path, error);
  }
}

function named<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw inFile(path, error);
  }
}

function inFile(path: string, error: unknown): unknown {
  return error instanceof TokenizerError ? new CliError(`${path}: ${error.message}`) : error;
}
