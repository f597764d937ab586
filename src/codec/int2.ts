/**
 * Four levels, in blocks of 64 elements: a half and one and a half times a scale that is a power of two, with either sign. A quarter of
 * int8's bytes; only for what is kept and sent later where it was dropped.
 *
 *   bytes = a byte for each block: the f32 exponent (biased by 127) of its scale, 0 where all of it is 0
 *           padding to a multiple of four bytes
 *           two bits for each element, the first lowest: 1 where it is one and a half, 2 where it is negative
 *
 * The scale is, of the five powers of two from the largest magnitude down, the one by which the squares of what is dropped add up to
 * least. They are added as whole numbers, so that every device finds the same.
 */
import { elementsPerBlock, exponentBytes } from './int8.ts';
import { checkSize, CodecError } from './types.ts';
import type { Codec } from './types.ts';

const candidates = 5;
const elementsPerByte = 4;
/** As int8's: smaller and larger ones could not be multiplied exactly. */
const leastExponent = 8;
const mostExponent = 247;
const notFinite = 255;
/** By what magnitudes of smaller blocks would be multiplied, f32 can't say. */
const leastTop = 17;
/** Magnitudes of a block are taken as whole numbers below 2^16. */
const fixedBits = 16;
/** Taken off errors, so that 64 squares of them fit 32 bits. */
const droppedErrorBits = 5;
const isLarge = 1;
const isNegative = 2;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

function magnitudeBits(value: number): number {
  float[0] = value;
  return (bits[0] ?? 0) & 0x7fffffff;
}

/** `fixed`: a magnitude in units of 2^-16 of the power of two above the block's largest. */
function errorOf(fixed: number, scaleBits: number): number {
  const reached = (fixed >>> scaleBits > 0 ? 3 : 1) << (scaleBits - 1);
  return Math.abs(fixed - reached) >>> droppedErrorBits;
}

/** The block's byte. */
function exponentOf(block: Float32Array): number {
  const exponent = Math.max(...Array.from(block, magnitudeBits)) >>> 23;
  if (exponent === 255) return notFinite;
  // The largest scale is the power of two above the largest magnitude.
  const top = exponent + 1;
  if (top > mostExponent) return notFinite;
  if (top < leastTop) return 0;
  const toFixed = 2 ** (fixedBits + 127 - top);
  const fixed = Array.from(block, (value) => Math.floor(Math.abs(value) * toFixed));
  let best = { errors: Infinity, below: 0 };
  for (let below = 0; below < candidates; below += 1) {
    const errors = fixed.reduce((sum, value) => sum + errorOf(value, fixedBits - below) ** 2, 0);
    if (errors < best.errors) best = { errors, below };
  }
  return top - best.below;
}

export const int2Codec: Codec = {
  name: 'int2',
  byteLength: (flatElements) => exponentBytes(flatElements) + flatElements / elementsPerByte,
  encode(values) {
    const bytes = new Uint8Array(int2Codec.byteLength(values.length));
    const levels = bytes.subarray(exponentBytes(values.length));
    for (let index = 0; index * elementsPerBlock < values.length; index += 1) {
      const start = index * elementsPerBlock;
      const block = values.subarray(start, start + elementsPerBlock);
      const exponent = exponentOf(block);
      bytes[index] = exponent;
      if (exponent === 0 || exponent === notFinite) continue;
      const scale = 2 ** (exponent - 127);
      block.forEach((value, at) => {
        const level = (Math.abs(value) >= scale ? isLarge : 0) + (value < 0 ? isNegative : 0);
        const byte = Math.floor((start + at) / elementsPerByte);
        levels[byte] = (levels[byte] ?? 0) | (level << (2 * (at % elementsPerByte)));
      });
    }
    return bytes.buffer;
  },
  decode(bytes, flatElements, what) {
    checkLevels(bytes, flatElements, what);
    const exponents = new Uint8Array(bytes);
    const levels = new Uint8Array(bytes, exponentBytes(flatElements));
    return Float32Array.from({ length: flatElements }, (_, at) => {
      const exponent = exponents[Math.floor(at / elementsPerBlock)] ?? 0;
      if (exponent === 0) return 0;
      const level = (levels[Math.floor(at / elementsPerByte)] ?? 0) >>> (2 * (at % elementsPerByte));
      return 2 ** (exponent - 127) * ((level & isLarge) === 0 ? 0.5 : 1.5) * ((level & isNegative) === 0 ? 1 : -1);
    });
  },
};

/** Throws as `Codec.decode` does, without decoding. */
export function checkLevels(bytes: ArrayBuffer, flatElements: number, what: string): void {
  checkSize(int2Codec, bytes, flatElements, what);
  const exponents = new Uint8Array(bytes, 0, flatElements / elementsPerBlock);
  for (const [block, exponent] of exponents.entries()) {
    if (exponent > mostExponent || (exponent > 0 && exponent < leastExponent)) {
      throw new CodecError(`a ${what} holds a value that is not finite between elements ${block * elementsPerBlock} and ${(block + 1) * elementsPerBlock}`);
    }
  }
}
