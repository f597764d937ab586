/** The tokenizer and the chat template of a model folder. Which texts they are for is the commands' affair. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { openTemplate } from '../data/chats/own-template.ts';
import type { ChatTemplate } from '../data/chats/template.ts';
import { TokenizerError } from '../data/errors.ts';
import { tokenizerFromHuggingFace } from '../data/serialized-tokenizer.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { CliError } from './errors.ts';
import { readJson, readText, tokenizerConfigFile, tokenizerFile } from './model-folder.ts';

const templateFile = 'chat_template.jinja';

/** Null where the folder has none. Throws `CliError` when it can't be used. */
export async function folderTokenizer(folder: string | null): Promise<Tokenizer | null> {
  const path = folder === null ? null : join(folder, tokenizerFile);
  if (folder === null || path === null || !existsSync(path)) return null;
  const json = await readJson(path);
  const config = await configOf(folder);
  try {
    return await tokenizerFromHuggingFace(json, config);
  } catch (error) {
    throw error instanceof TokenizerError ? new CliError(`${path}: ${error.message}`) : error;
  }
}

/** Throws `CliError` when the folder has none, or one that can't be used. */
export async function readFolderTokenizer(folder: string): Promise<Tokenizer> {
  const tokenizer = await folderTokenizer(folder);
  if (tokenizer === null) throw new CliError(`${folder} has no ${tokenizerFile}: text needs the model's tokenizer`);
  return tokenizer;
}

/** The folder's own template, else ChatML. Throws `DataError` where conversations can't be written for this tokenizer. */
export async function folderTemplate(folder: string | null, tokenizer: Tokenizer): Promise<ChatTemplate> {
  if (folder === null) return openTemplate(tokenizer, null);
  const path = join(folder, templateFile);
  return openTemplate(tokenizer, { tokenizerConfig: await configOf(folder), chatTemplate: existsSync(path) ? await readText(path) : null });
}

async function configOf(folder: string): Promise<unknown> {
  const path = join(folder, tokenizerConfigFile);
  return existsSync(path) ? readJson(path) : null;
}
