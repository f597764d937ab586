/** The tokenizer of a model folder, for text in both directions. Which texts and what for is the commands' affair. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { CharacterTokenizer } from '../data/character-tokenizer.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { CliError } from './errors.ts';
import { readJson, tokenizerFile } from './model-folder.ts';

export type TextTokenizer = Pick<Tokenizer, 'encode' | 'decode' | 'endOfText'>;

/** Throws `CliError` when the folder has none, or one that can't be used. */
export async function readFolderTokenizer(folder: string): Promise<TextTokenizer> {
  const path = join(folder, tokenizerFile);
  if (!existsSync(path)) throw new CliError(`${folder} has no ${tokenizerFile}: text needs the model's tokenizer`);
  const json = await readJson(path);
  const characters = CharacterTokenizer.fromHuggingFace(json);
  if (characters !== null) return characters;
  const configPath = join(folder, 'tokenizer_config.json');
  const config = existsSync(configPath) ? await readJson(configPath) : {};
  try {
    const tokenizer = new HuggingFaceTokenizer(json as object, config as object);
    const endOfText = endTokenOf(config);
    return {
      encode: (text) => Uint32Array.from(tokenizer.encode(text, { add_special_tokens: false }).ids),
      decode: (ids) => tokenizer.decode([...ids], { skip_special_tokens: false, clean_up_tokenization_spaces: false }),
      endOfText: endOfText === null ? null : (tokenizer.token_to_id(endOfText) ?? null),
    };
  } catch (error) {
    throw new CliError(`${path} can't be used: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** `eos_token` is a text, or an object that has it. */
function endTokenOf(config: unknown): string | null {
  if (typeof config !== 'object' || config === null || !('eos_token' in config)) return null;
  const token = config.eos_token;
  if (typeof token === 'string') return token;
  return typeof token === 'object' && token !== null && 'content' in token && typeof token.content === 'string' ? token.content : null;
}
