/** The codecs' kernels against their plain arithmetic, bit for bit, in one buffer and in many. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codecOf, Compressor, Expander } from '../../src/codec/index.ts';
import { parameterLayout } from '../../src/engine/index.ts';
import type { Engine } from '../../src/engine/index.ts';
import { randomValues } from './check-op.ts';
import { freshEngine } from './harness.ts';

const layout = parameterLayout([
  ['large', [600, 31]],
  ['square', [60, 60]],
  ['scale', [301]],
  ['shift', [77]],
]);
const elements = layout.totalElements;

/** Large and small blocks, and some of zeros alone. */
function gradientsOf(seed: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(randomValues(elements, seed), (value, at) => {
    const block = Math.floor(at / 64);
    return block % 7 === 3 ? 0 : value * 2 ** (((block * 5) % 41) - 30);
  });
}

describe.each([
  ['one buffer', 1 << 27],
  ['several buffers', 20 * 1024],
])('in %s', (_name, bytes) => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await freshEngine({ limits: { maxStorageBufferBindingBytes: bytes, maxBufferBytes: bytes } });
  });
  afterAll(() => engine.destroy());

  test.each(['bf16', 'int8'] as const)('%s encodes what it dropped before along with each gradient, and adds what it decodes', async (name) => {
    const codec = codecOf(name);
    const gradients = engine.allocateFlat('gradients', layout);
    const sum = engine.allocateFlat('sum', layout);
    const compressor = await Compressor.create(engine, name, layout, gradients);
    const expander = await Expander.create(engine, name, sum);
    let dropped = new Float32Array(elements);
    const expectedSum = new Float32Array(elements);
    const exactSum = new Float64Array(elements);
    for (let round = 0; round < 4; round += 1) {
      const given = gradientsOf(round);
      engine.write(gradients, given);
      const encoded = await compressor.encode();
      const values = given.map((value, at) => value + (dropped[at] ?? 0));
      expect(new Uint8Array(encoded), `round ${round}`).toEqual(new Uint8Array(codec.encode(values.slice())));
      const kept = codec.decode(encoded.slice(0), elements, 'test');
      dropped = values.map((value, at) => value - (kept[at] ?? 0));
      expander.add(encoded);
      for (let at = 0; at < elements; at += 1) {
        expectedSum[at] = (expectedSum[at] ?? 0) + (kept[at] ?? 0);
        exactSum[at] = (exactSum[at] ?? 0) + (given[at] ?? 0);
      }
      expect(new Float32Array(await engine.read(sum)), `round ${round}`).toEqual(expectedSum);
    }
    // Nothing is lost but what waits to be sent.
    for (let at = 0; at < elements; at += 1) {
      const missing = (exactSum[at] ?? 0) - (expectedSum[at] ?? 0) - (dropped[at] ?? 0);
      expect(Math.abs(missing), 'of sums up to 2^12 in f32').toBeLessThan(2 ** 12 * 2 ** -23);
    }
    compressor.forget();
    engine.write(gradients, gradientsOf(9));
    expect(new Uint8Array(await compressor.encode())).toEqual(new Uint8Array(codec.encode(gradientsOf(9))));
  });

  test.each(['bf16', 'int8'] as const)('%s adds nothing of a contribution that is not finite or mis-sized', async (name) => {
    const gradients = engine.allocateFlat('gradients', layout);
    const sum = engine.allocateFlat('sum', layout);
    const compressor = await Compressor.create(engine, name, layout, gradients);
    const expander = await Expander.create(engine, name, sum);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, -3.4e38 * 1.0007]) {
      engine.write(gradients, gradientsOf(1));
      engine.write(gradients, Float32Array.of(value), elements - 3);
      const encoded = await compressor.encode();
      compressor.forget();
      expect(() => {
        expander.add(encoded);
      }, `${value}`).toThrow(/contribution holds a value that is not finite/);
      expect(() => {
        expander.add(encoded.slice(4));
      }).toThrow(/contribution has/);
    }
    expect(new Float32Array(await engine.read(sum)).every((value) => value === 0)).toBe(true);
  });
});
