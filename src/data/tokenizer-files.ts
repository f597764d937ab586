/**
 * What the files of a Hugging Face tokenizer say about it: its tokens by id, its merges, its special tokens, its end-of-text.
 * Encodes nothing.
 */
import { TokenizerError } from './errors.ts';
import { isRecord } from './records.ts';

/** `tokenizer.json` and `tokenizer_config.json`, parsed. */
export interface TokenizerFiles {
  readonly tokenizer: object;
  readonly config: object;
}

export interface AddedToken {
  readonly id: number;
  readonly text: string;
  /** It is never part of a text. */
  readonly isSpecial: boolean;
}

export interface DescribedTokenizer {
  /** texts[id], as the file has them; a hole where no token has the id. */
  readonly texts: readonly (string | undefined)[];
  readonly added: readonly AddedToken[];
  readonly merges: readonly (readonly [string, string])[];
  readonly beginOfText: number | null;
  readonly endOfText: number | null;
  readonly chatTemplate: string | null;
}

/** More would be a mistake, or a trap: ids are places in a list. */
const maxTokens = 2 ** 22;

function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < maxTokens;
}

/** Throws `TokenizerError` for anything but byte-pair encoding, and for ids or merges that are none. */
export function describeTokenizer({ tokenizer, config }: TokenizerFiles): DescribedTokenizer {
  const json: unknown = tokenizer;
  const model = isRecord(json) ? json['model'] : null;
  if (!isRecord(json) || !isRecord(model) || !isRecord(model['vocab'])) throw new TokenizerError('tokenizer.json has no vocabulary');
  if (model['type'] !== 'BPE') throw new TokenizerError(`tokenizer.json is a ${JSON.stringify(model['type'] ?? null)} tokenizer; BPE is supported`);
  const texts: (string | undefined)[] = [];
  const place = (id: unknown, text: string): void => {
    if (!isId(id)) throw new TokenizerError(`tokenizer.json gives ${JSON.stringify(text)} the id ${JSON.stringify(id)}`);
    if (texts[id] !== undefined && texts[id] !== text) throw new TokenizerError(`tokenizer.json gives ${JSON.stringify(texts[id])} and ${JSON.stringify(text)} the same id, ${id}`);
    texts[id] = text;
  };
  for (const [text, id] of Object.entries(model['vocab'])) place(id, text);
  const added = addedTokens(json['added_tokens']);
  for (const { id, text } of added) place(id, text);
  const settings: unknown = config;
  const idOf = (key: string): number | null => {
    const named = isRecord(settings) ? textOf(settings[key]) : null;
    const id = named === null ? -1 : texts.indexOf(named);
    return id === -1 ? null : id;
  };
  return {
    texts: Array.from(texts),
    added,
    merges: mergesOf(model['merges']),
    beginOfText: idOf('bos_token'),
    endOfText: idOf('eos_token'),
    chatTemplate: isRecord(settings) ? templateOf(settings['chat_template']) : null,
  };
}

function addedTokens(claim: unknown): readonly AddedToken[] {
  const list: readonly unknown[] = Array.isArray(claim) ? claim : [];
  return list.map((token) => {
    const { id, content, special } = isRecord(token) ? token : {};
    if (!isId(id) || typeof content !== 'string') throw new TokenizerError(`tokenizer.json has an added token without id or text: ${JSON.stringify(token)}`);
    return { id, text: content, isSpecial: special === true };
  });
}

/** Older files have “a b”, newer ones ["a", "b"]. */
function mergesOf(claim: unknown): readonly (readonly [string, string])[] {
  const list: readonly unknown[] = Array.isArray(claim) ? claim : [];
  return list.map((merge, index) => {
    const [left, right, ...rest] = typeof merge === 'string' ? merge.split(' ') : Array.isArray(merge) ? (merge as readonly unknown[]) : [];
    if (typeof left !== 'string' || typeof right !== 'string' || rest.length > 0) throw new TokenizerError(`tokenizer.json: merge ${index} is ${JSON.stringify(merge)}, not two tokens`);
    return [left, right];
  });
}

/** A token in a config is its text, or an object with it. */
function textOf(token: unknown): string | null {
  if (typeof token === 'string') return token;
  const content = isRecord(token) ? token['content'] : null;
  return typeof content === 'string' ? content : null;
}

/** One template, or several by name, of which the default counts. */
function templateOf(claim: unknown): string | null {
  if (typeof claim === 'string') return claim;
  const list: readonly unknown[] = Array.isArray(claim) ? claim : [];
  const chosen = list.find((entry) => isRecord(entry) && entry['name'] === 'default');
  const template = isRecord(chosen) ? chosen['template'] : null;
  return typeof template === 'string' ? template : null;
}
