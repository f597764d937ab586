/**
 * From a text to its tokens: makes the tokenizer that was chosen, of this very text, and encodes it. In steps, so that whoever
 * drives it can tell how far it is, and stop: a worker for a page (see `tokenizing-client.ts`), the command line for itself.
 */
import { BpeTokenizer } from './bpe-tokenizer.ts';
import { trainMerges } from './bpe-training.ts';
import { IdBuffer } from './id-buffer.ts';
import { trainedSpecialTokens } from './special-tokens.ts';
import { nextBorder } from './text-borders.ts';
import { byCharacter } from './tokenized-text.ts';
import type { TokenizedText } from './tokenized-text.ts';
import type { TokenizerKind } from './serialized-tokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';
import { bytesAndSpecialTokens } from './tokenizer-choice.ts';
import type { TokenizerChoice } from './tokenizer-choice.ts';
import { WordCounter } from './word-counter.ts';

export interface TokenizingProgress {
  readonly stage: 'counting' | 'learning' | 'encoding';
  /** Of the stage, 0 to 1. */
  readonly share: number;
}

const charactersAtOnce = 2 ** 17;

/** Learns a tokenizer of at most `vocabularySize` tokens, special ones included; of fewer where the words don't give so many. */
export function* trainBpe(counts: ReadonlyMap<string, number>, vocabularySize: number): Generator<TokenizingProgress, BpeTokenizer, undefined> {
  const training = trainMerges(counts, Math.max(bytesAndSpecialTokens, vocabularySize) - trainedSpecialTokens.length);
  for (let step = training.next(); ; step = training.next()) {
    if (step.done === true) return new BpeTokenizer(step.value, trainedSpecialTokens);
    yield { stage: 'learning', share: step.value };
  }
}

export function* tokenizeText(text: string, choice: TokenizerChoice): Generator<TokenizingProgress, TokenizedText, undefined> {
  if (choice.kind === 'characters') return byCharacter(text);
  const counter = new WordCounter();
  for (const { piece, end } of piecesOf(text)) {
    counter.add(piece);
    yield { stage: 'counting', share: end / text.length };
  }
  const tokenizer = yield* trainBpe(counter.counted().counts, choice.vocabularySize);
  return yield* encodeText(text, tokenizer, 'bpe');
}

/** By a tokenizer that is there already. Those of others may treat borders in ways of their own, so they get the text whole. */
export function* encodeText(text: string, tokenizer: Tokenizer, kind: TokenizerKind): Generator<TokenizingProgress, TokenizedText, undefined> {
  if (kind === 'hugging-face') return { kind, tokenizer, tokens: tokenizer.encode(text) };
  const ids = new IdBuffer();
  for (const { piece, end } of piecesOf(text)) {
    ids.append(tokenizer.encode(piece));
    yield { stage: 'encoding', share: end / text.length };
  }
  return { kind, tokenizer, tokens: ids.ids() };
}

function* piecesOf(text: string): Generator<{ readonly piece: string; readonly end: number }, void, undefined> {
  for (let from = 0; from < text.length; ) {
    const end = nextBorder(text, from + charactersAtOnce);
    yield { piece: text.slice(from, end), end };
    from = end;
  }
}
