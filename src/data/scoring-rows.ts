/** A whole text as rows to score: every token once, each seen from what comes before it in its row. No batches to train on. */
import type { MicrobatchRows } from './types.ts';

/**
 * Micro-batches [rows, contextLength] in which each token from `ids[firstScored]` on is a target exactly once, with weight 1. A row
 * begins with the last token that the row before it scored. `firstScored` is at least 1: the first token follows nothing.
 */
export function* scoringRows(ids: Uint32Array, firstScored: number, { rows, contextLength }: Pick<MicrobatchRows, 'rows' | 'contextLength'>): Generator<MicrobatchRows> {
  for (let next = Math.max(1, firstScored); next < ids.length; ) {
    const size = rows * contextLength;
    const batch = { rows, contextLength, inputIds: new Uint32Array(size), targets: new Uint32Array(size), lossWeights: new Float32Array(size) };
    for (let row = 0; row < rows && next < ids.length; row++) {
      const count = Math.min(contextLength, ids.length - next);
      const base = row * contextLength;
      batch.inputIds.set(ids.subarray(next - 1, next - 1 + count), base);
      batch.targets.set(ids.subarray(next, next + count), base);
      batch.lossWeights.fill(1, base, base + count);
      next += count;
    }
    yield batch;
  }
}
