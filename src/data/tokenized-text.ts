/** A text as tokens, with the tokenizer that was made of it. By character it takes a moment; for all else see `tokenize-text.ts`. */
import { CharacterTokenizer } from './character-tokenizer.ts';
import type { TokenizerKind } from './serialized-tokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';

export interface TokenizedText {
  readonly kind: TokenizerKind;
  readonly tokenizer: Tokenizer;
  readonly tokens: Uint32Array<ArrayBuffer>;
}

export function byCharacter(text: string): TokenizedText {
  const tokenizer = CharacterTokenizer.fromText(text);
  return { kind: 'characters', tokenizer, tokens: tokenizer.encode(text) };
}
