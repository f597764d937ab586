/** What kind of tokenizer is to be made of a text, and what is known of it before it is made. */
import { trainedSpecialTokens } from './special-tokens.ts';

export type TokenizerChoice =
  /** One token for each distinct character. */
  | { readonly kind: 'characters' }
  /** Byte pairs; `vocabularySize` counts the 256 bytes and special tokens too, and is not reached by short texts. */
  | { readonly kind: 'bpe'; readonly vocabularySize: number };

/** A tokenizer to be made of a text, or one that there is, serialized: that of the model a run begins with. */
export type TextChoice = TokenizerChoice | { readonly kind: 'given'; readonly tokenizer: string };

/** What every byte-pair vocabulary has before its first merge. */
export const bytesAndSpecialTokens = 256 + trainedSpecialTokens.length;
export const largestTrainedVocabulary = 65_536;
