/** The codecs in plain arithmetic: sizes, what they keep of a value, and what they refuse. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { codecNames, codecOf, fp32Codec } from '../../src/codec/index.ts';
import type { Codec } from '../../src/codec/index.ts';

const blocks = (most: number) => fc.integer({ min: 1, max: most }).map((count) => 64 * count);

/** Flat buffers of values that gradients may have, some blocks of them much smaller than others. */
const flat = blocks(9).chain((length) =>
  fc.tuple(
    fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: length, maxLength: length }),
    fc.array(fc.integer({ min: -30, max: 20 }), { minLength: length / 64, maxLength: length / 64 }),
  ).map(([values, exponents]) => Float32Array.from(values, (value, at) => value * 2 ** (exponents[Math.floor(at / 64)] ?? 0))),
);

function roundTrip(codec: Codec, values: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  return codec.decode(codec.encode(values.slice()), values.length, 'test');
}

describe.each(codecNames.map((name) => [name, codecOf(name)] as const))('%s', (name, codec) => {
  const bytesPerElement = { fp32: 4, bf16: 2, int8: 1 + 1 / 64, int2: 1 / 4 + 1 / 64 }[name];

  it('has bytes in proportion to the elements', () => {
    fc.assert(
      fc.property(flat, (values) => {
        const bytes = codec.encode(values.slice());
        expect(bytes.byteLength).toBe(codec.byteLength(values.length));
        expect(bytes.byteLength).toBeLessThan(bytesPerElement * values.length + 4);
      }),
    );
  });

  it('keeps each value but for a share of the largest of its block, and loses none for good', () => {
    // Half of the last place kept: of 8 bits of each value itself, of 7 of the largest in the block, rounded up to a power of two. Two
    // bits may keep nothing of one value: what they do keep is tested below.
    const share = { fp32: 0, bf16: 2 ** -9, int8: 2 ** -7, int2: 1 }[name];
    fc.assert(
      fc.property(flat, (values) => {
        const kept = roundTrip(codec, values);
        for (let start = 0; start < values.length; start += 64) {
          const largest = Math.max(...values.subarray(start, start + 64).map(Math.abs));
          for (let at = start; at < start + 64; at += 1) expect(Math.abs((kept[at] ?? NaN) - (values[at] ?? NaN))).toBeLessThanOrEqual(share * largest);
        }
        // What was dropped, sent after it, leaves next to nothing.
        const dropped = values.map((value, at) => value - (kept[at] ?? 0));
        const rest = roundTrip(codec, dropped);
        const largest = Math.max(...values.map(Math.abs));
        values.forEach((value, at) => {
          expect(Math.abs((kept[at] ?? NaN) + (rest[at] ?? NaN) - value)).toBeLessThanOrEqual(share ** 2 * largest * (1 + 2 ** -10));
        });
      }),
    );
  });

  it('decodes what was decoded to the same again', () => {
    fc.assert(
      fc.property(flat, (values) => {
        const kept = roundTrip(codec, values);
        expect(roundTrip(codec, kept)).toEqual(kept);
      }),
    );
  });

  it.each([NaN, Infinity, -Infinity])('refuses a contribution with %s in it', (value) => {
    const values = new Float32Array(128).fill(1);
    values[100] = value;
    expect(() => roundTrip(codec, values)).toThrow(/^a test holds .* element/);
  });

  it('refuses bytes of another size', () => {
    for (const bytes of [0, 1, codec.byteLength(128) - 1, codec.byteLength(128) + 1, codec.byteLength(192)]) {
      expect(() => codec.decode(new ArrayBuffer(bytes), 128, 'test'), `${bytes}`).toThrow(`a test has ${bytes} bytes`);
    }
  });

  it('decodes any bytes to finite values, or refuses them', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: codec.byteLength(128), maxLength: codec.byteLength(128) }), (bytes) => {
        try {
          expect(codec.decode(bytes.slice().buffer, 128, 'test').every(Number.isFinite)).toBe(true);
        } catch (error) {
          expect(error).toMatchObject({ name: 'CodecError' });
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

test.each(['bf16', 'int8'] as const)('%s, dithered, is one of the two values nearest to each, and right on the mean', (name) => {
  const codec = codecOf(name);
  // Far below the largest of their block, where rounding to nearest would lose them.
  const small = 2 ** -10;
  for (const center of [small, -small, 0.3, -0.7]) {
    const random = (at: number): number => 1 + (((at * 2_654_435_761) >>> 0) / 2 ** 32 - 0.5) / 8;
    const values = Float32Array.from({ length: 1 << 16 }, (_, at) => (at % 64 === 0 ? 1 : center * random(at)));
    const kept = codec.decode(codec.encode(values.slice(), 'dithered'), values.length, 'test');
    let bias = 0;
    let most = 0;
    values.forEach((value, at) => {
      bias += (kept[at] ?? NaN) - value;
      most = Math.max(most, Math.abs((kept[at] ?? NaN) - value));
    });
    const step = name === 'int8' ? 2 ** -6 : 2 ** (Math.floor(Math.log2(Math.abs(center) * 1.07)) - 7);
    expect(most, `${center}`).toBeLessThanOrEqual(step);
    // Of so many chances of at most half a step each, the mean is within four of its standard deviations.
    expect(Math.abs(bias / values.length), `${center}`).toBeLessThan((4 * step) / 2 / Math.sqrt(values.length));
  }
});

test('the scale of int8 is the smallest power of two by which the largest value is at most 127', () => {
  const int8 = codecOf('int8');
  for (const [largest, scale] of [[127, 1], [127.00001, 2], [63.5, 0.5], [1, 2 ** -6], [2 ** -118, 2 ** -119 * 2 ** -5]] as const) {
    const values = new Float32Array(64);
    values[5] = largest;
    values[6] = scale;
    const kept = roundTrip(int8, values);
    const isTiny = scale < 2 ** -119;
    expect([kept[5], kept[6]], `${largest}`).toEqual(isTiny ? [0, 0] : [Math.round(largest / scale) * scale, scale]);
  }
});

test('fp32 makes no copy of memory that is given away whole', () => {
  const values = new Float32Array(64);
  expect(fp32Codec.encode(values)).toBe(values.buffer);
  expect(fp32Codec.decode(values.buffer, 64, 'test').buffer).toBe(values.buffer);
  expect(fp32Codec.encode(values.subarray(1, 3)).byteLength).toBe(8);
});

test('int2 drops less than it was given, and nothing of it in the end', () => {
  const energy = (values: Float32Array): number => values.reduce((sum, value) => sum + value * value, 0);
  const int2 = codecOf('int2');
  /** Smaller scales are not to be had. */
  const leastKept = 2 ** -100;
  fc.assert(
    fc.property(flat, (values) => {
      let rest = values;
      for (let round = 0; round < 100; round += 1) {
        const kept = roundTrip(int2, rest);
        const next = rest.map((value, at) => value - (kept[at] ?? 0));
        for (let start = 0; start < values.length; start += 64) {
          const before = energy(rest.subarray(start, start + 64));
          // One value among nothing is the worst.
          if (before > leastKept ** 2) expect(energy(next.subarray(start, start + 64))).toBeLessThanOrEqual(0.91 * before);
        }
        rest = next;
      }
      expect(energy(rest)).toBeLessThanOrEqual(1e-4 * energy(values) + leastKept ** 2);
    }),
    { numRuns: 30 },
  );
});

test('int2 takes the scale by which least is dropped', () => {
  const int2 = codecOf('int2');
  const filled = (...values: readonly number[]): Float32Array<ArrayBuffer> => Float32Array.from({ length: 64 }, (_, at) => values[at % values.length] ?? 0);
  for (const exact of [filled(0), filled(0.5), filled(1.5, -0.5), filled(-3e-3, 1e-3).map((value) => (Math.sign(value) * (Math.abs(value) > 2e-3 ? 3 : 1)) / 1024)]) {
    expect(roundTrip(int2, exact)).toEqual(exact);
  }
  const noise = Float32Array.from({ length: 64 }, (_, at) => (at === 9 ? -4 : at % 2 === 0 ? 1 : -1));
  expect(roundTrip(int2, noise).slice(8, 12)).toEqual(Float32Array.of(1, -3, 1, -1));
});
