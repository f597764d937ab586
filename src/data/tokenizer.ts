/** What every tokenizer can do, whoever made it: text to ids and back, exactly. Which kinds there are is said by those who make them. */

/** Decodes ids as they come. What it has given out is never half a character, and never taken back. */
export interface StreamDecoder {
  /** The text that is certain now: of this id, and of those before it that had to wait. */
  push(id: number): string;
  /** What was still waiting; then it begins anew. */
  end(): string;
}

export interface Tokenizer {
  /** Ids are below it. */
  readonly vocabularySize: number;
  /** The token between two documents, which also ends a text; null where the vocabulary has none. */
  readonly endOfText: number | null;
  /** Throws `TokenizerError` for what the vocabulary can't express. Text that looks like a special token is text. */
  encode(text: string): Uint32Array<ArrayBuffer>;
  /** The same, but special tokens' texts become those tokens: for what a chat's template has written, never for what people have. */
  encodeMarked(text: string): Uint32Array<ArrayBuffer>;
  /** What can't be expressed left out: for prompts typed by a person. */
  encodeKnown(text: string): Uint32Array<ArrayBuffer>;
  decode(ids: Iterable<number>): string;
  /** For samples: a token may end within a character. */
  streamDecoder(): StreamDecoder;
  /** The id of a special token by its text, such as a chat's `<|im_end|>`; null where it is none. */
  specialId(text: string): number | null;
  /** JSON of what travels with a run and lies beside its checkpoints (see `serialized-tokenizer.ts`). */
  serialize(): string;
  /** `tokenizer.json` and `tokenizer_config.json` with the same ids for Hugging Face's libraries. `chatTemplate`: in Jinja. */
  toHuggingFace(modelMaxLength: number, chatTemplate?: string): { readonly tokenizer: object; readonly config: object };
}
