/**
 * Four levels, in blocks of 64 elements: -1, 0, 1 and 2 times a scale, which is a power of two or the negative of one, so that the largest
 * value of a block is on the side of the 2. A quarter of int8's bytes; only for what is kept and sent later where it was dropped.
 *
 *   bytes = a byte for each block: 0 where all of it is 0; else the f32 exponent of its scale (biased by 63, from 1 to 126), and
 *           128 where it is negative; 127: not finite
 *           padding to a multiple of four bytes
 *           two bits for each element, the first lowest: its level and 1
 *
 * The scale is, of the four powers of two from the largest magnitude down, the one by which the squares of what is dropped add up to
 * least. They are added as whole numbers, so that every device finds the same.
 */
import { elementsPerBlock, exponentBytes } from './int8.ts';
import { checkSize, CodecError } from './types.ts';
import type { Codec } from './types.ts';

const candidates = 4;
const elementsPerByte = 4;
/** Of f32 exponents and of those here. */
const biasDifference = 127 - 63;
const mostExponent = 126;
const notFinite = 127;
const negative = 128;
/** Magnitudes of a block are taken as whole numbers below 2^16. */
const fixedBits = 16;
/** Taken off errors, so that 64 squares of them fit 32 bits. */
const droppedErrorBits = 5;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

function bitsOf(value: number): number {
  float[0] = value;
  return bits[0] ?? 0;
}

function floatOf(valueBits: number): number {
  bits[0] = valueBits;
  return float[0] ?? 0;
}

/** To nearest, ties up. `magnitude` and the result are in units of 2^-16 of the block's largest power of two. */
function levelOf(magnitude: number, scaleBits: number, isSameSign: boolean): number {
  return Math.min((magnitude + (1 << (scaleBits - 1))) >>> scaleBits, isSameSign ? 2 : 1);
}

interface Scale {
  /** As in the block's byte, without the sign. */
  readonly exponent: number;
  readonly isNegative: boolean;
  /** How many of the fixed-point bits lie below the scale. */
  readonly scaleBits: number;
  readonly toFixed: number;
}

/** Null: all of the block is 0, or too small. */
function scaleOf(block: Float32Array): Scale | 'not finite' | null {
  let largest = 0;
  let isNegative = false;
  for (const value of block) {
    const magnitude = bitsOf(value) & 0x7fffffff;
    if (magnitude <= largest) continue;
    largest = magnitude;
    isNegative = value < 0;
  }
  const exponent = largest >>> 23;
  if (exponent === 255) return 'not finite';
  // The largest scale is the power of two above the largest magnitude; the smallest is an eighth of it.
  const top = exponent + 1 - biasDifference;
  if (top > mostExponent) return 'not finite';
  if (top <= candidates) return null;
  const toFixed = floatOf((2 * 127 + fixedBits - 1 - exponent) << 23);
  let best = { errors: Infinity, below: 0 };
  for (let below = 0; below < candidates; below += 1) {
    let errors = 0;
    for (const value of block) {
      const magnitude = Math.floor(Math.abs(value) * toFixed);
      const scaleBits = fixedBits - below;
      const error = Math.abs(magnitude - levelOf(magnitude, scaleBits, value < 0 === isNegative) * 2 ** scaleBits) >>> droppedErrorBits;
      errors += error * error;
    }
    if (errors < best.errors) best = { errors, below };
  }
  return { exponent: top - best.below, isNegative, scaleBits: fixedBits - best.below, toFixed };
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
      const scale = scaleOf(block);
      if (scale === null || scale === 'not finite') {
        bytes[index] = scale === null ? 0 : notFinite;
        continue;
      }
      bytes[index] = scale.exponent + (scale.isNegative ? negative : 0);
      block.forEach((value, at) => {
        const isSameSign = value < 0 === scale.isNegative;
        const level = levelOf(Math.floor(Math.abs(value) * scale.toFixed), scale.scaleBits, isSameSign);
        const byte = Math.floor((start + at) / elementsPerByte);
        levels[byte] = (levels[byte] ?? 0) | ((1 + (isSameSign ? level : -level)) << (2 * (at % elementsPerByte)));
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
      const level = (((levels[Math.floor(at / elementsPerByte)] ?? 0) >>> (2 * (at % elementsPerByte))) & 3) - 1;
      if (exponent === 0 || level === 0) return 0;
      return level * 2 ** ((exponent % negative) - 63) * (exponent >= negative ? -1 : 1);
    });
  },
};

/** Throws as `Codec.decode` does, without decoding. */
export function checkLevels(bytes: ArrayBuffer, flatElements: number, what: string): void {
  checkSize(int2Codec, bytes, flatElements, what);
  const exponents = new Uint8Array(bytes, 0, flatElements / elementsPerBlock);
  for (const [block, byte] of exponents.entries()) {
    if (byte % negative === notFinite || byte === negative) {
      throw new CodecError(`a ${what} holds a value that is not finite between elements ${block * elementsPerBlock} and ${(block + 1) * elementsPerBlock}`);
    }
  }
}
