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
const lossy = ['bf16', 'int8', 'int2'] as const;

/** Large and small blocks, and some of zeros alone. */
function gradientsOf(seed: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(randomValues(elements, seed), (value, at) => {
    const block = Math.floor(at / 64);
    return block % 7 === 3 ? 0 : value * 2 ** (((block * 5) % 41) - 30);
  });
}

function encoded(compressor: Compressor): Promise<ArrayBuffer> {
  compressor.run();
  return compressor.read();
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

  test.each(lossy)('%s encodes what it dropped before along with each gradient, and adds what it decodes', async (name) => {
    const codec = codecOf(name);
    const gradients = engine.allocateFlat('gradients', layout);
    const sum = engine.allocateFlat('sum', layout);
    const residual = engine.allocateFlat('residual', layout);
    const compressor = await Compressor.ofGradients(engine, name, gradients, residual);
    const expander = await Expander.create(engine, name, sum);
    let dropped = new Float32Array(elements);
    const expectedSum = new Float32Array(elements);
    const exactSum = new Float64Array(elements);
    for (let round = 0; round < 4; round += 1) {
      const given = gradientsOf(round);
      engine.write(gradients, given);
      const bytes = await encoded(compressor);
      const values = given.map((value, at) => value + (dropped[at] ?? 0));
      expect(new Uint8Array(bytes), `round ${round}`).toEqual(new Uint8Array(codec.encode(values.slice())));
      const kept = codec.decode(bytes.slice(0), elements, 'test');
      dropped = values.map((value, at) => value - (kept[at] ?? 0));
      expander.add(bytes);
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
    engine.clear(residual);
    engine.write(gradients, gradientsOf(9));
    expect(new Uint8Array(await encoded(compressor))).toEqual(new Uint8Array(codec.encode(gradientsOf(9))));
  });

  test.each(lossy)('%s refuses what is not finite or mis-sized', async (name) => {
    const gradients = engine.allocateFlat('gradients', layout);
    const sum = engine.allocateFlat('sum', layout);
    const residual = engine.allocateFlat('residual', layout);
    const compressor = await Compressor.ofGradients(engine, name, gradients, residual);
    const expander = await Expander.create(engine, name, sum);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, -3.4e38 * 1.0007]) {
      engine.write(gradients, gradientsOf(1));
      engine.write(gradients, Float32Array.of(value), elements - 3);
      const bytes = await encoded(compressor);
      engine.clear(residual);
      expect(() => {
        expander.check(bytes, 'test');
      }, `${value}`).toThrow(/a test holds a value that is not finite/);
      expect(() => {
        expander.check(bytes.slice(4), 'test');
      }).toThrow(/a test has/);
    }
  });

  test.each(lossy)('%s takes two replicas along the same way to the master weights, bit for bit', async (name) => {
    const codec = codecOf(name);
    const [master, replica, other] = ['master', 'replica', 'other'].map((label) => engine.allocateFlat(label, layout));
    if (master === undefined || replica === undefined || other === undefined) throw new Error('three are asked for');
    const compressor = await Compressor.ofChange(engine, name, master, replica);
    const expander = await Expander.create(engine, name, other);
    const start = gradientsOf(0);
    for (const memory of [replica, other]) engine.write(memory, start);
    let expected = start;
    for (let round = 1; round < 4; round += 1) {
      const goal = gradientsOf(round).map((value, at) => (start[at] ?? 0) + value / 100);
      engine.write(master, goal);
      const bytes = await encoded(compressor);
      const before = expected;
      expect(new Uint8Array(bytes)).toEqual(new Uint8Array(codec.encode(goal.map((value, at) => value - (before[at] ?? 0)))));
      const change = codec.decode(bytes.slice(0), elements, 'test');
      expected = before.map((value, at) => value + (change[at] ?? 0));
      expander.check(bytes, 'update');
      expander.add(bytes);
      for (const memory of [replica, other]) expect(new Float32Array(await engine.read(memory)), `round ${round}`).toEqual(expected);
    }
  });

  test.each(['bf16', 'int8'] as const)('%s rounds a sum to what its bytes say, dithered, bit for bit', async (name) => {
    const codec = codecOf(name);
    const [sum, other] = [engine.allocateFlat('sum', layout), engine.allocateFlat('other', layout)];
    const compressor = await Compressor.ofSum(engine, name, sum);
    const expander = await Expander.create(engine, name, other);
    for (let round = 0; round < 3; round += 1) {
      const given = gradientsOf(round);
      engine.write(sum, given);
      const bytes = await encoded(compressor);
      expect(new Uint8Array(bytes), `round ${round}`).toEqual(new Uint8Array(codec.encode(given.slice(), 'dithered')));
      const rounded = codec.decode(bytes.slice(0), elements, 'test');
      expect(new Float32Array(await engine.read(sum)), `round ${round}`).toEqual(rounded);
      engine.clear(other);
      expander.add(bytes);
      expect(new Float32Array(await engine.read(other)), `round ${round}`).toEqual(rounded);
    }
    // The optimizer must see it.
    for (const value of [Number.NaN, Number.NEGATIVE_INFINITY]) {
      engine.write(sum, gradientsOf(1));
      engine.write(sum, Float32Array.of(value), elements - 3);
      compressor.run();
      expect(Number.isFinite(new Float32Array(await engine.read(sum))[elements - 3]), `${value}`).toBe(false);
    }
  });
});
