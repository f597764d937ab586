/**
 * Losses as figures that can be compared: perplexity, and bits per byte of the text that was scored, which is the same measure
 * whatever the tokenizer (a nat per token says little where tokens are longer). No model here.
 */
import type { MicrobatchRows } from './types.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Of a mean loss in nats per token: among how many equally likely tokens the model is as unsure. */
export function perplexityOf(loss: number): number {
  return Math.exp(loss);
}

/** −log₂ p of the text, over its bytes: a mean loss in nats per token, and how many bytes of UTF-8 a scored token stands for. */
export function bitsPerByteOf(loss: number, bytesPerToken: number): number {
  return loss / Math.LN2 / bytesPerToken;
}

const utf8 = new TextEncoder();

export function byteLengthOf(text: string): number {
  return utf8.encode(text).length;
}

/** What a decoder writes for each byte that no character begins with, and for the beginning of one at the end. */
const replacement = '\uFFFD';

/**
 * Bytes of UTF-8 that a scored token of these rows stands for, on average; null where none is scored. Exact, but for a row that ends within
 * a character that takes several tokens: what there is of it counts as one byte.
 */
export function bytesPerScoredToken(microbatches: readonly MicrobatchRows[], tokenizer: Pick<Tokenizer, 'decode'>): number | null {
  let bytes = 0;
  let tokens = 0;
  for (const { rows, contextLength, targets, lossWeights } of microbatches) {
    for (let row = 0; row < rows; row++) {
      const scored = Array.from(targets.subarray(row * contextLength, (row + 1) * contextLength)).filter(
        (_, at) => (lossWeights[row * contextLength + at] ?? 0) > 0,
      );
      tokens += scored.length;
      bytes += byteLengthOfPart(tokenizer.decode(scored));
    }
  }
  return tokens > 0 ? bytes / tokens : null;
}

/** Of text that was cut somewhere: a replacement character at its edges is a byte. */
function byteLengthOfPart(text: string): number {
  let [start, end] = [0, text.length];
  while (text[start] === replacement) start++;
  while (end > start && text[end - 1] === replacement) end--;
  return byteLengthOf(text.slice(start, end)) + start + (text.length - end);
}
