import { expect, it } from 'vitest';
import { fp32Codec } from '../../src/codec/fp32.ts';

it('carries gradient sums and weights without changing a bit, in four bytes each', () => {
  const values = Float32Array.of(1, -0, 1e-45, 3.4e38).subarray(0, 4);
  const bytes = fp32Codec.encodeContribution(values.subarray(1));
  expect(bytes.byteLength).toBe(12);
  expect(fp32Codec.decodeContribution(bytes, 3)).toEqual(values.slice(1));
  expect(fp32Codec.decodeUpdate(fp32Codec.encodeUpdate(values.slice()), 4)).toEqual(values);
});

it('makes no copy of memory that is given away whole', () => {
  const values = new Float32Array(3);
  expect(fp32Codec.encodeUpdate(values)).toBe(values.buffer);
  expect(fp32Codec.decodeUpdate(values.buffer, 3).buffer).toBe(values.buffer);
});

it('refuses bytes of another size and values that are not finite', () => {
  expect(() => fp32Codec.decodeContribution(new ArrayBuffer(12), 4)).toThrow('12 bytes');
  expect(() => fp32Codec.decodeUpdate(new ArrayBuffer(13), 3)).toThrow('13 bytes');
  expect(() => fp32Codec.decodeContribution(Float32Array.of(1, NaN).buffer, 2)).toThrow('NaN at element 1');
});
