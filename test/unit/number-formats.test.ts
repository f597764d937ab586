import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytesOf, decodeNumbers, encodeNumbers } from '../../src/checkpoint/number-formats.ts';

function halves(values: readonly number[]): number[] {
  return [...new Uint16Array(encodeNumbers(Float32Array.from(values), 'F16').buffer)];
}

describe('numbers in files', () => {
  it('are the same after f16 and back, for every f16', () => {
    const all = Uint16Array.from({ length: 2 ** 16 }, (_, bits) => bits);
    const values = decodeNumbers(new Uint8Array(all.buffer), 'F16');
    const back = new Uint16Array(encodeNumbers(values, 'F16').buffer);
    expect(all.every((bits, at) => back[at] === bits || (Number.isNaN(values[at]) && Number.isNaN(decodeNumbers(new Uint8Array(back.slice(at, at + 1).buffer), 'F16')[0])))).toBe(true);
  });

  it('go to the nearest f16, ties to even', () => {
    const step = 2 ** -10;
    expect(halves([1 + step / 2, 1 + 1.5 * step, 1 + 0.5001 * step, -1 - step / 2])).toEqual([0x3c00, 0x3c02, 0x3c01, 0xbc00]);
    expect(halves([65519.99, 65520, -1e30, 2 ** -25, 2 ** -25 * 1.0001, 1.5 * 2 ** -24, 2.5 * 2 ** -24, 1e-30])).toEqual([0x7bff, 0x7c00, 0xfc00, 0, 1, 2, 2, 0]);
    expect(halves([2 ** -14 - 2 ** -25, 2 ** -14])).toEqual([0x400, 0x400]);
  });

  it('go to the f16 that no other is nearer than', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -65504, max: 65504 }), (value) => {
        const [bits = 0] = halves([value]);
        const at = (half: number): number => decodeNumbers(new Uint8Array(Uint16Array.of(half).buffer), 'F16')[0] ?? 0;
        const magnitude = bits & 0x7fff;
        const own = Math.abs(value - at(bits));
        for (const other of [magnitude - 1, magnitude + 1]) {
          if (other < 0 || other >= 0x7c00) continue;
          const distance = Math.abs(value - at((bits & 0x8000) | other));
          expect(own < distance || (own === distance && (bits & 1) === 0)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('go to bf16 nearest, ties to even, and NaN stays NaN', () => {
    const step = 2 ** -7;
    const bits = new Uint16Array(encodeNumbers(Float32Array.of(1 + step / 2, 1 + 1.5 * step, 3.4e38, -Infinity), 'BF16').buffer);
    expect([...bits]).toEqual([0x3f80, 0x3f82, 0x7f80, 0xff80]);
    const nan = new Float32Array(Uint32Array.of(0x7f800001, 0xffffffff).buffer);
    expect([...decodeNumbers(encodeNumbers(nan, 'BF16'), 'BF16')]).toEqual([Number.NaN, Number.NaN]);
    expect([...decodeNumbers(encodeNumbers(nan, 'F16'), 'F16')]).toEqual([Number.NaN, Number.NaN]);
  });

  it('are within half a step of the block’s largest in Q8_0', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true, min: -100, max: 100 }), { minLength: 64, maxLength: 64 }), (numbers) => {
        const values = Float32Array.from(numbers);
        const bytes = encodeNumbers(values, 'Q8_0');
        expect(bytes.length).toBe(bytesOf('Q8_0', 64));
        const back = decodeNumbers(bytes, 'Q8_0');
        for (let block = 0; block < 2; block++) {
          const largest = values.subarray(block * 32, block * 32 + 32).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
          // Half a step, and what rounding the scale to f16 moves 127 of them by (2⁻²⁵ at the least, for tiny scales).
          const allowed = largest / 254 + 127 * Math.max((largest / 127) * 2 ** -11, 2 ** -25) + 1e-30;
          for (let at = block * 32; at < block * 32 + 32; at++) expect(Math.abs((back[at] ?? 0) - (values[at] ?? 0))).toBeLessThanOrEqual(allowed * 1.0001);
        }
      }),
      { numRuns: 100 },
    );
  });

  it('has the bytes that llama.cpp writes for a block', () => {
    // scale = 12.7 / 127; halves away from zero.
    const values = new Float32Array(32);
    values.set([12.7, -12.7, 0.05, -0.05, 0.149, 6]);
    const bytes = encodeNumbers(values, 'Q8_0');
    expect(new DataView(bytes.buffer).getUint16(0, true)).toBe(0x2e66);
    expect([...new Int8Array(bytes.buffer, 2, 7)]).toEqual([127, -127, 1, -1, 1, 60, 0]);
  });
});
