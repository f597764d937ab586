/**
 * What is relied on in a `tokenizer.json` and its `tokenizer_config.json`, checked before anything is made of them: they come from
 * outside. Ids must be whole numbers, each of one token, below a bound; gaps are allowed, since files have them.
 */
import { TokenizerError } from './errors.ts';
import { mostTokens } from './merge-table.ts';
import { isRecord } from './records.ts';

/** Names of what ends a text, where the config doesn't say: of GPT-2 and those after it, of Llama 3, of Llama 1 and 2, of BERT. */
const knownEnds = ['<|endoftext|>', '<|end_of_text|>', '</s>', '<eos>', '[SEP]'];

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly normalized: boolean;
}

export interface HuggingFaceFiles {
  readonly tokenizer: Readonly<Record<string, unknown>> & { readonly added_tokens: readonly { readonly id: number; readonly content: string }[] };
  readonly config: Readonly<Record<string, unknown>>;
}

export interface HuggingFaceFacts {
  /** One more than the largest id. */
  readonly vocabularySize: number;
  readonly endOfText: number | null;
  /** Added tokens that are marked as special: text is never read as one of them. */
  readonly special: readonly AddedToken[];
}

function wrong(what: string): TokenizerError {
  return new TokenizerError(`tokenizer.json can't be used: ${what}`);
}

/** Throws `TokenizerError` when these are no such files at all. `config` may be null: some folders have none. */
export function huggingFaceFiles(tokenizer: unknown, config: unknown): HuggingFaceFiles {
  if (!isRecord(tokenizer) || !isRecord(tokenizer['model'])) throw wrong('it has no “model”');
  if (config !== null && !isRecord(config)) throw new TokenizerError('tokenizer_config.json is not a JSON object');
  const added = addedTokensOf(tokenizer['added_tokens'] ?? []);
  // The library wants to see each of these.
  const absent = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
  return { tokenizer: { ...absent, ...tokenizer, added_tokens: added }, config: config ?? {} };
}

function addedTokensOf(value: unknown): HuggingFaceFiles['tokenizer']['added_tokens'] {
  if (!Array.isArray(value)) throw wrong('“added_tokens” is not a list');
  if (value.length > mostTokens) throw wrong(`it adds ${value.length} tokens`);
  return value.map((token: unknown, index) => {
    if (!isRecord(token) || typeof token['content'] !== 'string' || token['content'] === '') throw wrong(`added token ${index} has no text`);
    return { ...token, content: token['content'], id: checkedId(token['id'], token['content']) };
  });
}

function checkedId(id: unknown, name: string): number {
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < mostTokens) return id;
  throw wrong(`the id of ${JSON.stringify(name)} is ${JSON.stringify(id)}, and not a whole number below ${mostTokens}`);
}

/** Throws `TokenizerError` naming the token that is wrong. */
export function checkedFiles({ tokenizer, config }: HuggingFaceFiles): HuggingFaceFacts {
  const model = isRecord(tokenizer['model']) ? tokenizer['model'] : {};
  const vocabulary = vocabularyOf(model['vocab']);
  const names = new Map<number, string>();
  for (const [name, id] of vocabulary) claim(names, checkedId(id, name), name);
  for (const { id, content } of tokenizer.added_tokens) claim(names, id, content);
  if (names.size === 0) throw wrong('it has no tokens');
  checkMerges(model['merges'], vocabulary);
  const special = tokenizer.added_tokens
    .filter((token) => 'special' in token && token.special === true)
    .map((token) => ({ id: token.id, content: token.content, normalized: 'normalized' in token && token.normalized === true }));
  const idOf = (name: string): number | undefined => tokenizer.added_tokens.find(({ content }) => content === name)?.id ?? vocabulary.get(name);
  const ends = [nameOfToken(config['eos_token']), ...knownEnds].filter((name) => name !== null);
  return {
    vocabularySize: [...names.keys()].reduce((largest, id) => Math.max(largest, id), 0) + 1,
    endOfText: ends.map(idOf).find((id) => id !== undefined) ?? null,
    special,
  };
}

function claim(names: Map<number, string>, id: number, name: string): void {
  const other = names.get(id);
  if (other !== undefined && other !== name) throw wrong(`${JSON.stringify(other)} and ${JSON.stringify(name)} both have the id ${id}`);
  names.set(id, name);
}

/** An object from tokens to ids, or (of a unigram model) a list of tokens with their scores. */
function vocabularyOf(value: unknown): ReadonlyMap<string, number> {
  if (isRecord(value)) {
    const entries = Object.entries(value);
    if (entries.length > mostTokens) throw wrong(`it has ${entries.length} tokens, and ${mostTokens} can be used`);
    return new Map(entries.map(([name, id]) => [name, checkedId(id, name)]));
  }
  if (!Array.isArray(value)) throw wrong('“model.vocab” is neither an object nor a list');
  if (value.length > mostTokens) throw wrong(`it has ${value.length} tokens, and ${mostTokens} can be used`);
  return new Map(
    value.map((entry: unknown, id) => {
      const name: unknown = Array.isArray(entry) ? entry[0] : null;
      if (typeof name !== 'string') throw wrong(`token ${id} of “model.vocab” has no text`);
      return [name, id];
    }),
  );
}

/** Merges of tokens that are not there would be looked for in vain at every word. */
function checkMerges(merges: unknown, vocabulary: ReadonlyMap<string, number>): void {
  if (merges === undefined || merges === null) return;
  if (!Array.isArray(merges) || merges.length > 4 * mostTokens) throw wrong('“model.merges” is not a list of merges');
  for (const [index, merge] of merges.entries()) {
    const sides: unknown = typeof merge === 'string' ? merge.split(' ') : merge;
    const isPair = Array.isArray(sides) && sides.length === 2 && sides.every((side) => typeof side === 'string');
    if (!isPair || !vocabulary.has(sides[0] as string) || !vocabulary.has(sides[1] as string)) throw wrong(`merge ${index} is not of two tokens of the vocabulary`);
  }
}

/** In a config a token is its text, or an object that has it. */
function nameOfToken(value: unknown): string | null {
  const text = isRecord(value) ? value['content'] : value;
  return typeof text === 'string' ? text : null;
}
