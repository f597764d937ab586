/**
 * Whole numbers from -127 to 127, in blocks of 64 elements with a scale that is a power of two: scale times number is exact in
 * f32, so that every device adds the same, however it fuses multiplication and addition.
 *
 *   bytes = a byte for each block: the f32 exponent (biased by 127) of its scale, 0 where all of it is 0
 *           padding to a multiple of four bytes
 *           a signed byte for each element
 */
import { chance } from './chance.ts';
import { checkSize, CodecError } from './types.ts';
import type { Codec } from './types.ts';

export const elementsPerBlock = 64;
const largest = 127;
/** Smaller scales would make numbers that some GPUs take for 0; what is below them stays with the sender. */
const leastExponent = 8;
/** -128 times the scale of a larger exponent is not finite. */
const mostExponent = 247;
/** Marks a block in which something is not finite, or close to it. */
const notFinite = 255;

export function exponentBytes(flatElements: number): number {
  return Math.ceil(flatElements / elementsPerBlock / 4) * 4;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Of the smallest power of two by which the largest magnitude, given by its bits, is at most 127. */
function scaleExponent(magnitudeBits: number): number {
  const exponent = magnitudeBits >>> 23;
  if (exponent === 255) return notFinite;
  // 127 is 1.984375 times 2^6.
  const scale = exponent - 6 + ((magnitudeBits & 0x7fffff) > 0x7e0000 ? 1 : 0);
  if (scale > mostExponent) return notFinite;
  return scale < leastExponent ? 0 : scale;
}

function scaleOf(exponent: number): number {
  return exponent === 0 ? 0 : 2 ** (exponent - 127);
}

/** To nearest, ties to even, as WGSL's `round`. */
function rounded(value: number): number {
  const down = Math.floor(value);
  const rest = value - down;
  return rest < 0.5 || (rest === 0.5 && down % 2 === 0) ? down : down + 1;
}

/** Up or down, so that the mean of many is the value; added in f32, as on the GPU. `at`: its place in the flat buffer. */
function dithered(value: number, at: number): number {
  return Math.floor(Math.fround(value + ((chance(value, at) >>> 16) + 0.5) / 65_536));
}

export const int8Codec: Codec = {
  name: 'int8',
  byteLength: (flatElements) => exponentBytes(flatElements) + flatElements,
  encode(values, rounding = 'nearest') {
    const bytes = new ArrayBuffer(int8Codec.byteLength(values.length));
    const exponents = new Uint8Array(bytes);
    const numbers = new Int8Array(bytes, exponentBytes(values.length));
    for (let block = 0; block * elementsPerBlock < values.length; block++) {
      const elements = values.subarray(block * elementsPerBlock, (block + 1) * elementsPerBlock);
      let most = 0;
      for (const value of elements) {
        float[0] = value;
        most = Math.max(most, (bits[0] ?? 0) & 0x7fffffff);
      }
      const exponent = scaleExponent(most);
      exponents[block] = exponent;
      if (exponent === 0 || exponent === notFinite) continue;
      const scale = scaleOf(exponent);
      for (let at = block * elementsPerBlock; at < (block + 1) * elementsPerBlock; at++) {
        const scaled = (values[at] ?? 0) / scale;
        const number = rounding === 'nearest' ? rounded(scaled) : dithered(scaled, at);
        numbers[at] = Math.max(-largest, Math.min(largest, number));
      }
    }
    return bytes;
  },
  decode(bytes, flatElements, what) {
    checkBlocks(bytes, flatElements, what);
    const exponents = new Uint8Array(bytes);
    const numbers = new Int8Array(bytes, exponentBytes(flatElements));
    return Float32Array.from(numbers, (number, at) => number * scaleOf(exponents[Math.floor(at / elementsPerBlock)] ?? 0));
  },
};

/** Throws as `Codec.decode` does, without decoding. */
export function checkBlocks(bytes: ArrayBuffer, flatElements: number, what: string): void {
  checkSize(int8Codec, bytes, flatElements, what);
  const exponents = new Uint8Array(bytes, 0, flatElements / elementsPerBlock);
  for (const [block, exponent] of exponents.entries()) {
    if (exponent > mostExponent || (exponent > 0 && exponent < leastExponent)) {
      throw new CodecError(`a ${what} holds a value that is not finite between elements ${block * elementsPerBlock} and ${(block + 1) * elementsPerBlock}`);
    }
  }
}
