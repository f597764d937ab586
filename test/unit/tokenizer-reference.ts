/**
 * Byte-pair encoding as one would explain it: counts everything anew for every merge, looks for the best pair by looking at all, and
 * has no cache, list or heap. Slow; what training and encoding are compared with.
 */
import { byteOfId } from '../../src/data/byte-characters.ts';

/** GPT-2's own pattern, but for what a blank is. */
const words = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

export interface ReferenceMerge {
  readonly left: number;
  readonly right: number;
  readonly made: number;
}

/** Bytes of well-formed text by the platform's own encoder. */
function idsOfBytes(word: string): number[] {
  return Array.from(new TextEncoder().encode(word), (byte) => byteOfId.indexOf(byte));
}

export function wordsOfReference(text: string): string[] {
  return text.match(words) ?? [];
}

function joined(ids: readonly number[], { left, right, made }: ReferenceMerge): number[] {
  const result: number[] = [];
  for (let at = 0; at < ids.length; at++) {
    if (ids[at] === left && ids[at + 1] === right) {
      result.push(made);
      at++;
    } else {
      result.push(ids[at] ?? -1);
    }
  }
  return result;
}

export function trainReference(texts: readonly string[], tokens: number): ReferenceMerge[] {
  let sequences = texts.flatMap(wordsOfReference).map(idsOfBytes);
  const bytesOf = new Map(byteOfId.map((byte, id) => [id, String(byte)]));
  const merges: ReferenceMerge[] = [];
  while (bytesOf.size < tokens) {
    const counts = new Map<string, number>();
    for (const ids of sequences) {
      for (let at = 0; at + 1 < ids.length; at++) {
        const pair = `${ids[at]},${ids[at + 1]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const open = [...counts]
      .map(([pair, count]) => ({ left: Number(pair.split(',')[0]), right: Number(pair.split(',')[1]), count }))
      .filter(({ left, right, count }) => count >= 2 && !merges.some((merge) => merge.left === left && merge.right === right))
      .sort((one, other) => other.count - one.count || one.left - other.left || one.right - other.right);
    const [best] = open;
    if (best === undefined) break;
    const bytes = `${bytesOf.get(best.left)} ${bytesOf.get(best.right)}`;
    const known = [...bytesOf].find(([, other]) => other === bytes)?.[0];
    const merge = { left: best.left, right: best.right, made: known ?? bytesOf.size };
    bytesOf.set(merge.made, bytes);
    merges.push(merge);
    sequences = sequences.map((ids) => joined(ids, merge));
  }
  return merges;
}

/** Of all merges that can be applied the one that was learned first, at its leftmost place; until there is none. */
export function encodeReference(text: string, merges: readonly ReferenceMerge[]): number[] {
  return wordsOfReference(text).flatMap((word) => {
    let ids = idsOfBytes(word);
    for (;;) {
      const merge = merges.find(({ left, right }) => ids.some((id, at) => id === left && ids[at + 1] === right));
      if (merge === undefined) return ids;
      const at = ids.findIndex((id, place) => id === merge.left && ids[place + 1] === merge.right);
      ids = [...ids.slice(0, at), merge.made, ...ids.slice(at + 2)];
    }
  });
}
