/** IEEE 754 half-precision numbers on the host, which not every engine has typed arrays for. */

const exponentMask = 0x1f;
const fractionBits = 10;
const fractionMask = 0x3ff;
const bias = 15;

/** f16 bits → the same values in f32, exactly. */
export function widenHalves(bits: Uint16Array): Float32Array<ArrayBuffer> {
  return Float32Array.from(bits, widen);
}

function widen(bits: number): number {
  const sign = bits >> 15 === 1 ? -1 : 1;
  const exponent = (bits >> fractionBits) & exponentMask;
  const fraction = bits & fractionMask;
  if (exponent === exponentMask) return fraction === 0 ? sign * Infinity : Number.NaN;
  // Subnormals have the least exponent and no hidden bit.
  const significand = exponent === 0 ? fraction : fraction + (1 << fractionBits);
  return sign * significand * 2 ** (Math.max(exponent, 1) - bias - fractionBits);
}
