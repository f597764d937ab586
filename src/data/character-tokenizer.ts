/**
 * One token for each distinct code point of a text, in code point order. Exact for any string, lone surrogates included.
 * Characters that the vocabulary lacks can't be encoded; there is no unknown token.
 */
import { TokenizerError } from './errors.ts';
import type { StreamDecoder, Tokenizer } from './tokenizer.ts';
import { isRecord } from './records.ts';

function nameOf(character: string): string {
  const code = (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
  return `${JSON.stringify(character)} (U+${code})`;
}

export class CharacterTokenizer implements Tokenizer {
  /** characters[id] is the token's text. */
  readonly characters: readonly string[];
  readonly #ids: ReadonlyMap<string, number>;

  constructor(characters: Iterable<string>) {
    this.characters = [...characters];
    this.#ids = new Map(this.characters.map((character, id) => [character, id]));
    if (this.#ids.size !== this.characters.length) throw new TokenizerError('a character is in the vocabulary twice');
    const wrong = this.characters.find((character) => [...character].length !== 1);
    if (wrong !== undefined) throw new TokenizerError(`${JSON.stringify(wrong)} is not a single character`);
  }

  static fromText(text: string): CharacterTokenizer {
    return new CharacterTokenizer([...new Set(text)].sort((a, b) => (a.codePointAt(0) ?? 0) - (b.codePointAt(0) ?? 0)));
  }

  get vocabularySize(): number {
    return this.characters.length;
  }

  /** Characters are all there is: no special tokens. */
  readonly endOfText = null;

  specialId(): null {
    return null;
  }

  encodeMarked(text: string): Uint32Array<ArrayBuffer> {
    return this.encode(text);
  }

  encode(text: string): Uint32Array<ArrayBuffer> {
    // A code point is at most two UTF-16 units, so the string's length bounds the tokens.
    const ids = new Uint32Array(text.length);
    let count = 0;
    for (const character of text) {
      const id = this.#ids.get(character);
      if (id === undefined) throw new TokenizerError(`the vocabulary has no character ${nameOf(character)}`);
      ids[count++] = id;
    }
    return ids.slice(0, count);
  }

  /** The ids of the characters that are known, the others left out: for prompts typed by a person. */
  encodeKnown(text: string): Uint32Array<ArrayBuffer> {
    return this.encode([...text].filter((character) => this.#ids.has(character)).join(''));
  }

  decode(ids: Iterable<number>): string {
    const parts: string[] = [];
    for (const id of ids) {
      const character = this.characters[id];
      if (character === undefined) throw new TokenizerError(`token ${id} is outside the vocabulary of ${this.vocabularySize}`);
      parts.push(character);
    }
    return parts.join('');
  }

  /** A token is a whole character: nothing has to wait. */
  streamDecoder(): StreamDecoder {
    return { push: (id) => this.decode([id]), end: () => '' };
  }

  /** JSON that `deserializeTokenizer` reads. An array, since joined lone surrogates could merge into one character. */
  serialize(): string {
    return JSON.stringify({ kind: 'characters', characters: this.characters });
  }

  /**
   * `tokenizer.json` and `tokenizer_config.json` with the same ids for Hugging Face's libraries: byte-pair encoding with
   * a character vocabulary and no merges. They drop characters that are not in the vocabulary.
   */
  toHuggingFace(modelMaxLength: number, chatTemplate?: string): { readonly tokenizer: object; readonly config: object } {
    return {
      tokenizer: {
        version: '1.0',
        truncation: null,
        padding: null,
        added_tokens: [],
        normalizer: null,
        pre_tokenizer: null,
        post_processor: null,
        decoder: { type: 'Fuse' },
        model: {
          type: 'BPE',
          dropout: null,
          unk_token: null,
          continuing_subword_prefix: null,
          end_of_word_suffix: null,
          fuse_unk: false,
          byte_fallback: false,
          ignore_merges: false,
          vocab: Object.fromEntries(this.characters.map((character, id) => [character, id])),
          merges: [],
        },
      },
      config: {
        tokenizer_class: 'PreTrainedTokenizerFast',
        model_max_length: modelMaxLength,
        clean_up_tokenization_spaces: false,
        ...(chatTemplate === undefined ? {} : { chat_template: chatTemplate }),
      },
    };
  }

  /** Reads a `tokenizer.json` that `toHuggingFace` wrote; null when it is any other. */
  static fromHuggingFace(json: unknown): CharacterTokenizer | null {
    const model = isRecord(json) ? json['model'] : null;
    if (!isRecord(json) || !isRecord(model) || model['type'] !== 'BPE' || !isRecord(model['vocab'])) return null;
    const merges = model['merges'];
    const addsSteps = ['normalizer', 'pre_tokenizer', 'post_processor'].some((step) => (json[step] ?? null) !== null);
    if (addsSteps || !Array.isArray(merges) || merges.length > 0) return null;
    const entries = Object.entries(model['vocab']).sort(([, a], [, b]) => Number(a) - Number(b));
    const isDense = entries.every(([character, id], index) => id === index && [...character].length === 1);
    return isDense ? new CharacterTokenizer(entries.map(([character]) => character)) : null;
  }
}
