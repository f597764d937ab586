/**
 * How files store numbers, and the same numbers in f32. f16 and bf16 round to nearest, ties to even, as IEEE 754 and PyTorch do.
 * `Q8_0` is llama.cpp's: blocks of 32, an f16 scale and 32 signed bytes, x ≈ scale · q (ggml's docs/gguf.md and quantize_row_q8_0). `U32` are counts and ids, which f32 has exactly up to 2²⁴.
 */
import { widenHalves } from '../engine/half.ts';

export type NumberFormat = 'F32' | 'F16' | 'BF16' | 'Q8_0' | 'U32';

const q8Block = 32;
const q8BlockBytes = 2 + q8Block;

/** Numbers that are stored together, and in how many bytes. */
const units: Readonly<Record<NumberFormat, readonly [elements: number, bytes: number]>> = {
  F32: [1, 4],
  F16: [1, 2],
  BF16: [1, 2],
  U32: [1, 4],
  Q8_0: [q8Block, q8BlockBytes],
};

/** Of so many numbers; a count that is not whole blocks has no size: a `RangeError`. */
export function bytesOf(format: NumberFormat, elements: number): number {
  const [unit, bytes] = units[format];
  if (elements % unit !== 0) throw new RangeError(`${elements} numbers are not whole blocks of ${unit}`);
  return (elements / unit) * bytes;
}

/** Numbers can be stored so if each row of the tensor is whole blocks. */
export function fitsRows(format: NumberFormat, rowElements: number): boolean {
  return rowElements % units[format][0] === 0;
}

/** `bytes` holds whole blocks. */
export function decodeNumbers(bytes: Uint8Array, format: NumberFormat): Float32Array<ArrayBuffer> {
  // A copy: bytes in a file need not be aligned for a typed array.
  const { buffer } = new Uint8Array(bytes);
  switch (format) {
    case 'F32':
      return new Float32Array(buffer);
    case 'F16':
      return widenHalves(new Uint16Array(buffer));
    case 'BF16': {
      const halves = new Uint16Array(buffer);
      return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
    }
    case 'U32':
      return Float32Array.from(new Uint32Array(buffer));
    case 'Q8_0':
      return decodeQ8(new DataView(buffer));
  }
}

/** Whole blocks of numbers. */
export function encodeNumbers(values: Float32Array, format: NumberFormat): Uint8Array<ArrayBuffer> {
  switch (format) {
    case 'F32':
      return new Uint8Array(values.slice().buffer);
    case 'F16':
      return new Uint8Array(Uint16Array.from(bitsOf(values), halfBits).buffer);
    case 'BF16':
      return new Uint8Array(Uint16Array.from(bitsOf(values), bf16Bits).buffer);
    case 'U32':
      return new Uint8Array(Uint32Array.from(values).buffer);
    case 'Q8_0':
      return encodeQ8(values);
  }
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.slice().buffer);
}

const f32ExponentMask = 0x7f800000;
const f32FractionBits = 23;

/** f32 bits → bf16 bits. NaN stays NaN, whatever is cut off. */
function bf16Bits(bits: number): number {
  if ((bits & 0x7fffffff) > f32ExponentMask) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** f32 bits → f16 bits; too large a value is infinite. */
function halfBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > f32ExponentMask) return sign | 0x7e00;
  // 65,520 lies half way between the largest f16 and the next that there would be, and ties go to that one.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  const exponent = magnitude >>> f32FractionBits;
  // Below 2⁻¹⁴ steps have one size: the fraction is shifted until its unit is 2⁻²⁴.
  const shift = exponent >= 113 ? 13 : Math.min(126 - exponent, 31);
  const significand = exponent >= 113 ? magnitude - (112 << f32FractionBits) : (magnitude & 0x7fffff) | 0x800000;
  const kept = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const up = rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0;
  return sign | (kept + up);
}

function decodeQ8(view: DataView): Float32Array<ArrayBuffer> {
  const blocks = view.byteLength / q8BlockBytes;
  const scales = widenHalves(Uint16Array.from({ length: blocks }, (_, block) => view.getUint16(block * q8BlockBytes, true)));
  const values = new Float32Array(blocks * q8Block);
  for (let at = 0; at < values.length; at++) {
    const block = Math.floor(at / q8Block);
    values[at] = (scales[block] ?? 0) * view.getInt8(block * q8BlockBytes + 2 + (at % q8Block));
  }
  return values;
}

const largestQ8 = 127;

function encodeQ8(values: Float32Array): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(bytesOf('Q8_0', values.length)));
  const scales = new Float32Array(values.length / q8Block);
  for (let block = 0; block < scales.length; block++) {
    const numbers = values.subarray(block * q8Block, (block + 1) * q8Block);
    scales[block] = numbers.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / largestQ8;
    // The scale before it is rounded, as llama.cpp has it.
    const scale = scales[block] ?? 0;
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    numbers.forEach((value, at) => {
      const quotient = Math.fround(value * inverse);
      view.setInt8(block * q8BlockBytes + 2 + at, Math.sign(quotient) * Math.floor(Math.abs(quotient) + 0.5));
    });
  }
  const bits = bitsOf(scales);
  bits.forEach((bit, block) => {
    view.setUint16(block * q8BlockBytes, halfBits(bit), true);
  });
  return new Uint8Array(view.buffer);
}
