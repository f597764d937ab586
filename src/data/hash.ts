/**
 * Pure hashing of small integers to uniform ones: where shuffled batches start. Integer arithmetic only, so every engine
 * and every peer draws the same. Not for cryptography.
 */

function avalanche(value: number): number {
  let mixed = value >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

function hash32(words: readonly number[], salt: number): number {
  let state = avalanche(salt ^ 0x9e3779b9);
  for (const word of words) {
    // Numbers past 2^32 keep their upper part in the hash.
    state = avalanche(state ^ avalanche(word >>> 0));
    state = avalanche((state + 0x9e3779b9) ^ Math.floor(word / 2 ** 32));
  }
  return state;
}

/** A uniform integer in [0, limit), a function of the words alone. `limit` up to 2^53: 53 hashed bits, scaled. */
export function hashBelow(limit: number, ...words: readonly number[]): number {
  const high = hash32(words, 1) >>> 5;
  const low = hash32(words, 2) >>> 6;
  return Math.floor(((high * 2 ** 26 + low) / 2 ** 53) * limit);
}
