/** Chance for dithered rounding: a hash of a value's own bits, the lowest of which are as good as chance, and of its place. */
import { mixed } from '../engine/index.ts';

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** 32 bits. `valueBits` are those of an f32; `at` is its place in the flat buffer. */
export function chanceOfBits(valueBits: number, at: number): number {
  return mixed(valueBits ^ Math.imul(at, 0x9e3779b1));
}

export function chance(value: number, at: number): number {
  float[0] = value;
  return chanceOfBits(bits[0] ?? 0, at);
}
