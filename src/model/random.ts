/**
 * Seeded uniform and normal numbers for initial weights: a stream for each (seed, name), so that adding a tensor does
 * not change the others. Not for cryptography, and not the dropout's generator: that one lives in WGSL.
 */

/** FNV-1a over the name's UTF-16 units, started from the seed. */
function hashName(seed: number, name: string): number {
  let hash = (0x811c9dc5 ^ Math.imul(seed | 0, 0x9e3779b1)) >>> 0;
  for (let index = 0; index < name.length; index++) {
    hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193) >>> 0;
  }
  return hash;
}

/** Uniform 32-bit integers: Weyl sequence through a 32-bit avalanche (the finaliser known as lowbias32). */
function integerStream(seed: number, name: string): () => number {
  let state = hashName(seed, name);
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x7feb352d);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b);
    return (mixed ^ (mixed >>> 16)) >>> 0;
  };
}

/** Fills `target` with normal numbers of mean 0 and the given standard deviation (Box and Muller 1958). */
export function fillNormal(target: Float32Array, standardDeviation: number, seed: number, name: string): void {
  const next = integerStream(seed, name);
  for (let index = 0; index < target.length; index += 2) {
    // (0, 1], so that the logarithm is finite.
    const radius = standardDeviation * Math.sqrt(-2 * Math.log((next() + 1) / 2 ** 32));
    const angle = (2 * Math.PI * next()) / 2 ** 32;
    target[index] = radius * Math.cos(angle);
    if (index + 1 < target.length) target[index + 1] = radius * Math.sin(angle);
  }
}
