/**
 * Any `tokenizer.json` of Hugging Face's, run by their own library (@huggingface/tokenizers), which is loaded only here: import this
 * file when it is needed. Such a tokenizer may change text (normalize it, drop or replace what it does not know): what it does is
 * its own, so there is no promise that text comes back exactly. Which files our own kinds read better is not decided here.
 */
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { TokenizerError } from './errors.ts';
import { checkedFiles } from './hugging-face-files.ts';
import type { AddedToken, HuggingFaceFiles } from './hugging-face-files.ts';
import { packed } from './packed-json.ts';
import type { StreamDecoder, Tokenizer } from './tokenizer.ts';

/** What stands for an id without a token: models often have room for more ids than their tokenizers name. */
const replacement = '\ufffd';
/** A character of UTF-8 has at most four bytes: a token that waits longer is broken, not unfinished. */
const longestWait = 4;
/** No text holds it: Unicode has promised that this will never be a character. */
const unlikely = '\u{10ffff}';

export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly endOfText: number | null;
  readonly #files: HuggingFaceFiles;
  readonly #library: Library;
  readonly #special: readonly AddedToken[];
  readonly #serialized: string;
  /** Without special tokens: made when a text has one of their names in it. */
  #plain: Library | null = null;

  private constructor(files: HuggingFaceFiles, packedFiles: string) {
    const { vocabularySize, endOfText, special } = checkedFiles(files);
    this.vocabularySize = vocabularySize;
    this.endOfText = endOfText;
    this.#special = special;
    this.#files = files;
    this.#serialized = JSON.stringify({ kind: 'hugging-face', vocabularySize, packedFiles });
    this.#library = opened(files);
  }

  /** Throws `TokenizerError` when the files can't be used: they come from outside. */
  static async open(files: HuggingFaceFiles): Promise<HuggingFaceTokenizer> {
    checkedFiles(files);
    return new HuggingFaceTokenizer(files, await packed({ tokenizer: files.tokenizer, config: files.config }));
  }

  /** The same for files that were packed already. */
  static unpacked(files: HuggingFaceFiles, packedFiles: string): HuggingFaceTokenizer {
    return new HuggingFaceTokenizer(files, packedFiles);
  }

  encode(text: string): Uint32Array<ArrayBuffer> {
    // A normalizer may bring a special token's name about, so that it need not be in the text.
    const couldHoldSpecial = this.#special.some(({ content, normalized }) => normalized || text.includes(content));
    return idsOf(couldHoldSpecial ? this.#withoutSpecial() : this.#library, text);
  }

  encodeMarked(text: string): Uint32Array<ArrayBuffer> {
    return idsOf(this.#library, text);
  }

  encodeKnown(text: string): Uint32Array<ArrayBuffer> {
    try {
      return this.encode(text);
    } catch (error) {
      if (!(error instanceof TokenizerError)) throw error;
      return this.encode([...text].filter((character) => isKnown(() => this.encode(character))).join(''));
    }
  }

  #withoutSpecial(): Library {
    this.#plain ??= opened(withoutTokens(this.#files, new Set(this.#special.map(({ content }) => content))));
    return this.#plain;
  }

  decode(ids: Iterable<number>): string {
    const known = [...ids].map((id) => (this.#library.id_to_token(id) === undefined ? null : id));
    const parts: string[] = [];
    for (let from = 0; from < known.length; ) {
      let end = from;
      while (end < known.length && known[end] !== null) end += 1;
      const run = known.slice(from, end).filter((id) => id !== null);
      // The library takes no empty list.
      if (run.length > 0) parts.push(this.#library.decode(run, { skip_special_tokens: false, clean_up_tokenization_spaces: false }));
      if (end < known.length) parts.push(replacement);
      from = end + 1;
    }
    return parts.join('');
  }

  /** Text is compared with and without the newest ids, since a token may be written otherwise where it begins a text. */
  streamDecoder(): StreamDecoder {
    let settled: number[] = [];
    let waiting: number[] = [];
    const take = (): string => {
      const before = this.decode(settled);
      const all = this.decode([...settled, ...waiting]);
      settled = waiting;
      waiting = [];
      return all.slice(before.length);
    };
    return {
      push: (id) => {
        waiting.push(id);
        const isUnfinished = waiting.length < longestWait && this.decode([...settled, ...waiting]).endsWith(replacement);
        return isUnfinished ? '' : take();
      },
      end: () => {
        const rest = waiting.length === 0 ? '' : take();
        settled = [];
        return rest;
      },
    };
  }

  specialId(text: string): number | null {
    return this.#special.find(({ content }) => content === text)?.id ?? null;
  }

  serialize(): string {
    return this.#serialized;
  }

  /** The files as they came; a template replaces theirs. */
  toHuggingFace(_modelMaxLength: number, chatTemplate?: string): { readonly tokenizer: object; readonly config: object } {
    const { tokenizer, config } = this.#files;
    return { tokenizer, config: chatTemplate === undefined ? config : { ...config, chat_template: chatTemplate } };
  }
}

/** The same ids for text, but never these tokens. A unigram model would make them of text even when they are not added. */
function withoutTokens({ tokenizer, config }: HuggingFaceFiles, names: ReadonlySet<string>): HuggingFaceFiles {
  const model = tokenizer['model'] as Readonly<Record<string, unknown>>;
  const hidden = (entry: readonly unknown[], id: number): unknown => (names.has(String(entry[0])) ? [unlikely + String(id), ...entry.slice(1)] : entry);
  const vocab: unknown = Array.isArray(model['vocab']) ? (model['vocab'] as (readonly unknown[])[]).map(hidden) : model['vocab'];
  const added = tokenizer.added_tokens.filter(({ content }) => !names.has(content));
  return { tokenizer: { ...tokenizer, model: { ...model, vocab }, added_tokens: added }, config };
}

function opened({ tokenizer, config }: HuggingFaceFiles): Library {
  try {
    return new Library(tokenizer, config);
  } catch (error) {
    throw new TokenizerError(`tokenizer.json can't be used: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function idsOf(library: Library, text: string): Uint32Array<ArrayBuffer> {
  const { ids } = library.encode(text, { add_special_tokens: false });
  // Typed as always a number, and undefined for what it has no token for.
  const unknown = ids.findIndex((id: number | undefined) => id === undefined);
  if (unknown >= 0) throw new TokenizerError(`the vocabulary has no token for a part of ${JSON.stringify(text.slice(0, 40))}`);
  return Uint32Array.from(ids);
}

function isKnown(encode: () => unknown): boolean {
  try {
    encode();
    return true;
  } catch (error) {
    if (error instanceof TokenizerError) return false;
    throw error;
  }
}
