/**
 * Byte-level byte-pair encoding in GPT-2's way: text is cut into words, words into bytes, and bytes are joined by merges. Exact for
 * any string, lone surrogates included: they are written as three bytes that are no UTF-8 (see `utf8.ts`), where other libraries put
 * U+FFFD or refuse. Ids are GPT-2's: 256 bytes, then merges, then special tokens. Trains nothing (see `bpe-training.ts`).
 */
import { bpeFiles, readBpe } from './bpe-files.ts';
import { byteOfId, characterOfId } from './byte-characters.ts';
import { TokenizerError } from './errors.ts';
import { IdBuffer } from './id-buffer.ts';
import { MergeTable } from './merge-table.ts';
import { MarkSplitter, endOfTextToken } from './special-tokens.ts';
import type { StreamDecoder, Tokenizer } from './tokenizer.ts';
import { Utf8Decoder, encodeUtf8 } from './utf8.ts';
import { wordsOf } from './words.ts';

/** Words are looked up before they are merged: text repeats itself. Long ones rarely do. */
const mostKeptWords = 100_000;
const longestKeptWord = 64;

const byteOfCharacter = new Map(characterOfId.map((character, id) => [character, byteOfId[id] ?? 0]));

/** Takes ten milliseconds or so. */
const sidesAtOnce = 8192;

/** A page that opens a large tokenizer draws in between. */
function breath(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** As it travels with a run. `merges`: ids of both sides of each merge, one after another. */
export interface SerializedBpe {
  readonly kind: 'bpe';
  readonly vocabularySize: number;
  readonly merges: readonly number[];
  readonly specialTokens: readonly string[];
}

export class BpeTokenizer implements Tokenizer {
  readonly endOfText: number | null;
  readonly #table: MergeTable;
  readonly #specialTokens: readonly string[];
  readonly #specialIds: ReadonlyMap<string, number>;
  readonly #marks: MarkSplitter;
  readonly #kept = new Map<string, readonly number[]>();

  /** Throws `TokenizerError` for a special token that is there twice. */
  constructor(table: MergeTable, specialTokens: readonly string[]) {
    this.#table = table;
    this.#specialTokens = specialTokens;
    this.#specialIds = new Map(specialTokens.map((text, index) => [text, table.size + index]));
    if (this.#specialIds.size !== specialTokens.length) throw new TokenizerError('a special token is in the vocabulary twice');
    this.#marks = new MarkSplitter(specialTokens);
    this.endOfText = this.specialId(endOfTextToken);
  }

  /** Throws `TokenizerError` when merges don't build on one another, or come to another number of tokens than is said. */
  static async open({ vocabularySize, merges, specialTokens }: SerializedBpe): Promise<BpeTokenizer> {
    const table = new MergeTable();
    if (merges.length % 2 !== 0) throw new TokenizerError('a merge has only one side');
    for (let at = 0; at < merges.length; at += 2) {
      table.add(merges[at] ?? 0, merges[at + 1] ?? 0);
      if (at % sidesAtOnce === sidesAtOnce - 2) await breath();
    }
    const tokenizer = new BpeTokenizer(table, specialTokens);
    if (tokenizer.vocabularySize === vocabularySize) return tokenizer;
    throw new TokenizerError(`the tokenizer has ${tokenizer.vocabularySize} tokens, and ${vocabularySize} were announced`);
  }

  get vocabularySize(): number {
    return this.#table.size + this.#specialTokens.length;
  }

  specialId(text: string): number | null {
    return this.#specialIds.get(text) ?? null;
  }

  encode(text: string): Uint32Array<ArrayBuffer> {
    const ids = new IdBuffer();
    for (const word of wordsOf(text)) ids.append(this.#encodeWord(word));
    return ids.ids();
  }

  encodeMarked(text: string): Uint32Array<ArrayBuffer> {
    const ids = new IdBuffer();
    for (const piece of this.#marks.split(text)) {
      if (piece.isMark) ids.push(this.#specialIds.get(piece.text) ?? 0);
      else ids.append(this.encode(piece.text));
    }
    return ids.ids();
  }

  /** Everything can be expressed. */
  encodeKnown(text: string): Uint32Array<ArrayBuffer> {
    return this.encode(text);
  }

  #encodeWord(word: string): readonly number[] {
    const kept = this.#kept.get(word);
    if (kept !== undefined) return kept;
    const ids = this.#table.encodeWord(encodeUtf8(word));
    if (word.length <= longestKeptWord) {
      if (this.#kept.size >= mostKeptWords) this.#kept.clear();
      this.#kept.set(word, ids);
    }
    return ids;
  }

  decode(ids: Iterable<number>): string {
    const decoder = this.streamDecoder();
    const parts: string[] = [];
    for (const id of ids) parts.push(decoder.push(id));
    parts.push(decoder.end());
    return parts.join('');
  }

  streamDecoder(): StreamDecoder {
    const bytes = new Utf8Decoder();
    return {
      push: (id) => {
        const special = this.#specialTokens[id - this.#table.size];
        if (special !== undefined) {
          bytes.end();
          return bytes.take() + special;
        }
        const name = this.#table.nameOf(id);
        if (name === '') throw new TokenizerError(`token ${id} is outside the vocabulary of ${this.vocabularySize}`);
        for (const character of name) bytes.push(byteOfCharacter.get(character) ?? 0);
        return bytes.take();
      },
      end: () => {
        bytes.end();
        return bytes.take();
      },
    };
  }

  serialize(): string {
    const merges = this.#table.merges.flatMap(({ left, right }) => [left, right]);
    const written: SerializedBpe = { kind: 'bpe', vocabularySize: this.vocabularySize, merges, specialTokens: this.#specialTokens };
    return JSON.stringify(written);
  }

  toHuggingFace(modelMaxLength: number, chatTemplate?: string): { readonly tokenizer: object; readonly config: object } {
    return bpeFiles(this.#table, this.#specialTokens, { modelMaxLength, ...(chatTemplate === undefined ? {} : { chatTemplate }) });
  }

  /** Reads a `tokenizer.json` that `toHuggingFace` wrote, or another that says the same, as GPT-2's does; null when it says anything else. */
  static fromHuggingFace(json: unknown): BpeTokenizer | null {
    const read = readBpe(json);
    return read === null ? null : new BpeTokenizer(read.table, read.specialTokens);
  }
}
