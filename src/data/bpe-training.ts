/**
 * Learns the merges of a byte-pair encoding from counted words (Sennrich et al. 2016): again and again the pair of neighbouring
 * tokens that occurs most often becomes one token. Of pairs that occur equally often the one with the smaller left id is taken,
 * then the one with the smaller right id, as Hugging Face's trainer does; so merges depend on words and counts alone, not on the
 * order of the text. Ends early when no pair occurs twice. Two merges may make the same bytes, and with them the same token; so a
 * pair that was joined may come up again, and is left as it is. Counts are kept up to date instead of being made anew.
 */
import { idOfByte } from './byte-characters.ts';
import { Heap } from './heap.ts';
import { MergeTable, pairKey } from './merge-table.ts';
import { encodeUtf8 } from './utf8.ts';

/** A pair that occurs once teaches nothing. */
const leastOccurrences = 2;
/** Progress is told after so many places or merges. */
const placesPerReport = 50_000;
const mergesPerReport = 16;

interface Pair {
  readonly left: number;
  readonly right: number;
  occurrences: number;
  /** Where it begins in the flat text, or began: a place may be stale, or there twice. */
  readonly places: number[];
  isMerged: boolean;
}

/** A pair as it was when it was put into the queue. */
interface Candidate {
  readonly pair: Pair;
  readonly occurrences: number;
}

function isBetter(one: Candidate, other: Candidate): boolean {
  if (one.occurrences !== other.occurrences) return one.occurrences > other.occurrences;
  return one.pair.left !== other.pair.left ? one.pair.left < other.pair.left : one.pair.right < other.pair.right;
}

/** All distinct words one after another, each token in the place of its first byte. Lists end at words' borders. */
interface FlatWords {
  readonly ids: Int32Array;
  /** Place of the token after it in the same word, or -1. */
  readonly next: Int32Array;
  readonly previous: Int32Array;
  /** How often the word occurs that the place belongs to. */
  readonly counts: Float64Array;
}

function flatten(counts: ReadonlyMap<string, number>): FlatWords {
  const words = Array.from(counts, ([word, count]) => ({ bytes: encodeUtf8(word).slice(), count }));
  const length = words.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const flat = { ids: new Int32Array(length), next: new Int32Array(length), previous: new Int32Array(length), counts: new Float64Array(length) };
  let at = 0;
  for (const { bytes, count } of words) {
    for (const [index, byte] of bytes.entries()) {
      flat.ids[at] = idOfByte[byte] ?? 0;
      flat.previous[at] = index === 0 ? -1 : at - 1;
      flat.next[at] = index === bytes.length - 1 ? -1 : at + 1;
      flat.counts[at] = count;
      at += 1;
    }
  }
  return flat;
}

/** Yields what share of the work is done, 0 to 1, and returns a table of at most `tokens` tokens. */
export function* trainMerges(counts: ReadonlyMap<string, number>, tokens: number): Generator<number, MergeTable, undefined> {
  const table = new MergeTable();
  const { ids, next, previous, counts: countAt } = flatten(counts);
  const pairs = new Map<number, Pair>();
  const grown = new Set<Pair>();

  const change = (at: number, right: number, sign: 1 | -1): void => {
    const [one, other] = [ids[at] ?? 0, ids[right] ?? 0];
    const key = pairKey(one, other);
    let pair = pairs.get(key);
    if (pair === undefined) {
      pair = { left: one, right: other, occurrences: 0, places: [], isMerged: false };
      pairs.set(key, pair);
    }
    pair.occurrences += sign * (countAt[at] ?? 0);
    if (sign < 0 || pair.isMerged) return;
    pair.places.push(at);
    grown.add(pair);
  };

  const due = new Heap<Candidate>(isBetter);
  const enqueueGrown = (): void => {
    for (const pair of grown) due.push({ pair, occurrences: pair.occurrences });
    grown.clear();
  };

  const merge = ({ left, right, places }: Pair, made: number): void => {
    // Only equal tokens can overlap, and then the leftmost two are joined first.
    if (left === right) places.sort((one, other) => one - other);
    for (const at of places) {
      const second = next[at] ?? -1;
      if (ids[at] !== left || second < 0 || ids[second] !== right) continue;
      const [before, after] = [previous[at] ?? -1, next[second] ?? -1];
      change(at, second, -1);
      if (before >= 0) change(before, at, -1);
      if (after >= 0) change(second, after, -1);
      ids[at] = made;
      ids[second] = -1;
      next[at] = after;
      if (after >= 0) previous[after] = at;
      if (before >= 0) change(before, at, 1);
      if (after >= 0) change(at, after, 1);
    }
  };

  for (let at = 0; at < ids.length; at++) {
    const second = next[at] ?? -1;
    if (second >= 0) change(at, second, 1);
    if (at % placesPerReport === 0) yield 0;
  }
  enqueueGrown();
  const first = table.size;
  for (let best = due.pop(); table.size < tokens && best !== undefined; best = due.pop()) {
    const { pair, occurrences } = best;
    if (pair.isMerged) continue;
    if (pair.occurrences !== occurrences) {
      // It has become rarer since; it comes again in its new place.
      if (pair.occurrences < occurrences && pair.occurrences >= leastOccurrences) due.push({ pair, occurrences: pair.occurrences });
      continue;
    }
    if (occurrences < leastOccurrences) break;
    pair.isMerged = true;
    merge(pair, table.add(pair.left, pair.right));
    pair.places.length = 0;
    enqueueGrown();
    if (table.merges.length % mergesPerReport === 0) yield (table.size - first) / Math.max(1, tokens - first);
  }
  return table;
}
