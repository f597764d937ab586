/**
 * A tokenizer whose tokens can be told by looking at them: words with the space before them, single other characters, and special
 * tokens. What lies beyond the Basic Multilingual Plane is four bytes, so that tokens end within characters as byte pairs do.
 */
import type { StreamDecoder, Tokenizer } from '../../src/data/tokenizer.ts';

const firstWord = 1000;
const firstByte = 100;

export class WordTokenizer implements Tokenizer {
  readonly vocabularySize = 100_000;
  readonly endOfText: number | null;
  readonly #special: readonly string[];
  readonly #words: string[] = [];
  readonly #ids = new Map<string, number>();

  constructor(special: readonly string[]) {
    this.#special = special;
    this.endOfText = this.specialId('<|endoftext|>');
  }

  specialId(text: string): number | null {
    const id = this.#special.indexOf(text);
    return id < 0 ? null : id;
  }

  encode(text: string): Uint32Array<ArrayBuffer> {
    const pieces = text.match(/ ?[\p{L}\p{M}]+| ?\p{N}+|[^]/gu) ?? [];
    return Uint32Array.from(pieces.flatMap((piece) => this.#idsOf(piece)));
  }

  #idsOf(piece: string): readonly number[] {
    if ((piece.codePointAt(0) ?? 0) > 0xffff) return [...new TextEncoder().encode(piece)].map((byte) => firstByte + byte);
    const id = this.#ids.get(piece) ?? firstWord + this.#words.push(piece) - 1;
    this.#ids.set(piece, id);
    return [id];
  }

  encodeMarked(text: string): Uint32Array<ArrayBuffer> {
    const places = this.#special.map((token) => ({ token, at: text.indexOf(token) })).filter(({ at }) => at >= 0);
    const first = places.sort((one, other) => one.at - other.at || other.token.length - one.token.length)[0];
    if (first === undefined) return this.encode(text);
    const rest = this.encodeMarked(text.slice(first.at + first.token.length));
    return Uint32Array.from([...this.encode(text.slice(0, first.at)), this.#special.indexOf(first.token), ...rest]);
  }

  encodeKnown(text: string): Uint32Array<ArrayBuffer> {
    return this.encode(text);
  }

  decode(ids: Iterable<number>): string {
    const decoder = this.streamDecoder();
    return [...ids].map((id) => decoder.push(id)).join('') + decoder.end();
  }

  streamDecoder(): StreamDecoder {
    const bytes = new TextDecoder();
    return {
      push: (id) => {
        if (id >= firstWord) return this.#words[id - firstWord] ?? '';
        return id >= firstByte ? bytes.decode(Uint8Array.of(id - firstByte), { stream: true }) : (this.#special[id] ?? '');
      },
      end: () => bytes.decode(),
    };
  }

  serialize(): string {
    return '';
  }

  toHuggingFace(): { readonly tokenizer: object; readonly config: object } {
    return { tokenizer: {}, config: {} };
  }
}
