/**
 * Which documents nobody trains on: a function of seed and corpus alone, so that it is the same for whoever leads. What is
 * validated on them is decided in `batches.ts`.
 */
import type { CorpusIndex } from './corpus.ts';
import { documentCount } from './corpus.ts';
import { hashBelow } from './hash.ts';

const heldOutSalt = 0x4e1d;
/** A document that would take the held-out part further past its share is left to training. */
const mostOfShare = 1.5;

/** A seeded permutation (Fisher and Yates) of the numbers below `length`. */
export function permutation(length: number, ...seed: readonly number[]): Uint32Array {
  const order = Uint32Array.from({ length }, (_, index) => index);
  for (let last = length - 1; last > 0; last--) {
    const other = hashBelow(last + 1, ...seed, last);
    const kept = order[last] ?? 0;
    order[last] = order[other] ?? 0;
    order[other] = kept;
  }
  return order;
}

/** 1 for each document that is held out. Null when none is: there is one document only, or each is too large for the share. */
export function heldOutDocuments(index: CorpusIndex, seed: number, share: number): Uint8Array | null {
  const count = documentCount(index);
  const wanted = Math.floor(index.tokenCount * share);
  if (count < 2 || wanted < 1) return null;
  const held = new Uint8Array(count);
  let tokens = 0;
  for (const document of permutation(count, seed, heldOutSalt)) {
    const length = (index.starts[document + 1] ?? 0) - (index.starts[document] ?? 0);
    if (tokens + length > mostOfShare * wanted) continue;
    held[document] = 1;
    tokens += length;
    if (tokens >= wanted) break;
  }
  return tokens > 0 ? held : null;
}
