/** The optimizer's kernels against f64 on the CPU, in one binding and in many. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parameterLayout } from '../../src/engine/index.ts';
import type { Engine, Memory } from '../../src/engine/index.ts';
import { partLengths, rowRanges } from '../../src/engine/ranges.ts';
import { AdamW, AdamWReference, ContributionAdder, Muon, muonDefaults, MuonReference, OuterMomentum, OuterMomentumReference, ReplicaHash, replicaHashOf } from '../../src/optim/index.ts';
import { freshEngine } from './harness.ts';
import { randomValues, relativeError } from './check-op.ts';

const settings = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, gradientClip: 1 };
const tensors = [
  ['large', [600, 31]],
  ['square', [60, 60]],
  ['scale', [301]],
  ['shift', [77]],
] as const;
const layout = parameterLayout(tensors);

describe.each([
  ['one buffer', 1 << 27],
  ['several buffers', 20 * 1024],
])('AdamW in %s', (_name, bytes) => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await freshEngine({ limits: { maxStorageBufferBindingBytes: bytes, maxBufferBytes: bytes } });
  });
  afterAll(() => engine.destroy());

  test('follows the f64 optimizer over 20 updates with and without clipping', async () => {
    const weights = engine.allocateFlat('weights', layout);
    const gradientSum = engine.allocateFlat('gradient sum', layout);
    const start = randomValues(layout.totalElements, 7);
    engine.write(weights, Float32Array.from(start));
    const optimizer = await AdamW.create(engine, layout, { weights, gradientSum }, settings);
    const reference = new AdamWReference(Float64Array.from(Float32Array.from(start)), layout, settings);
    for (let update = 1; update <= 20; update++) {
      const gradients = Float32Array.from(randomValues(layout.totalElements, 100 + update), (g) => g * 37 * 10 ** -(update % 4));
      engine.write(gradientSum, gradients);
      reference.gradientSum.set(gradients);
      const commit = { learningRate: 1e-2 / update, update, weightSum: 37 };
      optimizer.commit(commit);
      const expected = reference.commit(commit);
      const result = await optimizer.result();
      expect(result.applied).toBe(true);
      expect(Math.abs(result.gradNorm / expected.gradNorm - 1)).toBeLessThan(1e-5);
    }
    const read = async (memory: Memory) => Float64Array.from(new Float32Array(await engine.read(memory)));
    expect(relativeError(await read(weights), reference.weights)).toBeLessThan(1e-6);
    expect(relativeError(await read(optimizer.firstMoment), reference.firstMoment)).toBeLessThan(1e-5);
    expect(relativeError(await read(optimizer.secondMoment), reference.secondMoment)).toBeLessThan(1e-5);
  });

  test('frozen tensors count nowhere and stay as they are, with their moments, whatever a sum says of them', async () => {
    const freezing = parameterLayout(tensors, new Set(['square', 'scale']));
    const [weights, gradientSum] = [engine.allocateFlat('weights', layout), engine.allocateFlat('gradient sum', layout)];
    const start = Float32Array.from(randomValues(layout.totalElements, 9));
    engine.write(weights, start);
    const optimizer = await AdamW.create(engine, freezing, { weights, gradientSum }, settings);
    const moment = Float32Array.from(randomValues(layout.totalElements, 10), Math.abs);
    for (const memory of [optimizer.firstMoment, optimizer.secondMoment]) engine.write(memory, moment);
    const reference = new AdamWReference(Float64Array.from(start), freezing, settings);
    for (const moments of [reference.firstMoment, reference.secondMoment]) moments.set(moment);
    const gradients = Float32Array.from(randomValues(layout.totalElements, 11));
    const square = layout.byName.get('square');
    gradients.fill(Number.NaN, square?.offsetElements, (square?.offsetElements ?? 0) + (square?.lengthElements ?? 0));
    engine.write(gradientSum, gradients);
    reference.gradientSum.set(gradients);
    const commit = { learningRate: 1e-2, update: 3, weightSum: 2 };
    optimizer.commit(commit);
    const { gradNorm, applied } = await optimizer.result();
    expect(applied).toBe(true);
    expect(Math.abs(gradNorm / reference.commit(commit).gradNorm - 1)).toBeLessThan(1e-5);
    const after = new Float32Array(await engine.read(weights));
    expect(relativeError(after, reference.weights)).toBeLessThan(1e-6);
    const moments = new Float32Array(await engine.read(optimizer.firstMoment));
    for (const { name, offsetElements, lengthElements } of layout.entries) {
      const range = [offsetElements, offsetElements + lengthElements] as const;
      const isFrozen = name === 'square' || name === 'scale';
      expect(after.subarray(...range).every((value, at) => value === start[offsetElements + at]), name).toBe(isFrozen);
      expect(moments.subarray(...range).every((value, at) => value === moment[offsetElements + at]), name).toBe(isFrozen);
    }
  });

  test('outer momentum follows its f64 reference over 10 updates, and changes nothing when a change is not finite', async () => {
    const weights = engine.allocateFlat('weights', layout);
    const gradientSum = engine.allocateFlat('gradient sum', layout);
    const start = Float32Array.from(randomValues(layout.totalElements, 7));
    engine.write(weights, start);
    const outer = { outerLearningRate: 0.7, outerMomentum: 0.9 };
    const optimizer = await OuterMomentum.create(engine, layout, { weights, gradientSum }, outer);
    const reference = new OuterMomentumReference(Float64Array.from(start), outer);
    for (let update = 1; update <= 10; update++) {
      const changes = Float32Array.from(randomValues(layout.totalElements, 200 + update), (change) => change * 0.37);
      engine.write(gradientSum, changes);
      reference.gradientSum.set(changes);
      optimizer.commit({ weightSum: 37 });
      const { gradNorm } = reference.commit({ weightSum: 37 });
      const result = await optimizer.result();
      expect(result.applied).toBe(true);
      expect(Math.abs(result.gradNorm / gradNorm - 1)).toBeLessThan(1e-5);
    }
    const read = async (memory: Memory) => Float64Array.from(new Float32Array(await engine.read(memory)));
    expect(relativeError(await read(weights), reference.weights)).toBeLessThan(1e-6);
    expect(relativeError(await read(optimizer.firstMoment), reference.firstMoment)).toBeLessThan(1e-5);
    const before = await read(weights);
    engine.write(gradientSum, Float32Array.of(Number.NaN), layout.totalElements - 1);
    optimizer.commit({ weightSum: 37 });
    expect((await optimizer.result()).applied).toBe(false);
    expect(await read(weights)).toEqual(before);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, 3e38])('changes nothing when a gradient is %s', async (value) => {
    const weights = engine.allocateFlat('weights', layout);
    const gradientSum = engine.allocateFlat('gradient sum', layout);
    engine.write(weights, Float32Array.from(randomValues(layout.totalElements, 8)));
    const optimizer = await AdamW.create(engine, layout, { weights, gradientSum }, settings);
    const before = new Uint8Array(await engine.read(weights));
    engine.write(gradientSum, Float32Array.of(value), layout.totalElements - 100);
    const submits = engine.counters.submits;
    optimizer.commit({ learningRate: 1e-3, update: 1, weightSum: 1 });
    expect(engine.counters.submits - submits).toBe(1);
    expect((await optimizer.result()).applied).toBe(false);
    expect(new Uint8Array(await engine.read(weights))).toEqual(before);
    expect(new Uint8Array(await engine.read(optimizer.firstMoment)).every((byte) => byte === 0)).toBe(true);
  });

  test('contributions are added whole or not at all', async () => {
    const sum = engine.allocateFlat('sum', layout);
    const contribution = engine.allocateFlat('contribution', layout);
    const adder = await ContributionAdder.create(engine, sum, contribution);
    const first = Float32Array.from(randomValues(layout.totalElements, 1));
    engine.write(contribution, first);
    adder.add();
    expect(await adder.wasAdded()).toBe(true);
    adder.add();
    const twice = first.map((value) => value * 2);
    expect(new Float32Array(await engine.read(sum))).toEqual(twice);
    engine.write(contribution, Float32Array.of(Number.NaN), layout.totalElements - 1);
    adder.add();
    expect(await adder.wasAdded()).toBe(false);
    expect(new Float32Array(await engine.read(sum))).toEqual(twice);
  });

  test("the replica's hash is the CPU's and sees a flipped bit and swapped values", async () => {
    const weights = engine.allocateFlat('weights', layout);
    const hash = await ReplicaHash.create(engine, weights);
    const values = Float32Array.from(randomValues(layout.totalElements, 5));
    values[100] = -0;
    values[101] = Number.NaN;
    engine.write(weights, values);
    const original = await hash.compute();
    expect(original).toMatch(/^[0-9a-f]{16}$/);
    expect(original).toBe(replicaHashOf(values));
    const flipped = values.slice();
    flipped[100] = 0;
    engine.write(weights, flipped);
    expect(await hash.compute()).toBe(replicaHashOf(flipped));
    const swapped = values.slice();
    [swapped[9], swapped[15_000]] = [values[15_000] ?? 0, values[9] ?? 0];
    engine.write(weights, swapped);
    const hashes = [original, replicaHashOf(flipped), await hash.compute()];
    expect(new Set(hashes).size).toBe(3);
  });
});

test('parts of flat buffers fit a binding, and no tensor or range of its rows crosses from one to the next', () => {
  const limits = { maxStorageBufferBindingBytes: 20 * 1024, maxBufferBytes: 1 << 20 };
  const lengths = partLengths(layout, limits);
  expect(lengths.reduce((sum, length) => sum + length)).toBe(layout.totalElements);
  const starts = lengths.map((_, index) => lengths.slice(0, index).reduce((sum, length) => sum + length, 0));
  for (const [index, length] of lengths.entries()) {
    expect(length * 4).toBeLessThanOrEqual(limits.maxStorageBufferBindingBytes);
    expect((starts[index] ?? 0) % 64).toBe(0);
  }
  const partOf = (element: number): number => starts.findLastIndex((start) => start <= element);
  for (const { shape, offsetElements } of layout.entries) {
    const [rows = 1, width = 1] = shape;
    for (const { firstRow, endRow } of rowRanges(rows, width, limits)) {
      expect(partOf(offsetElements + firstRow * width)).toBe(partOf(offsetElements + endRow * width - 1));
    }
  }
  expect(lengths.length).toBeGreaterThan(4);
  expect(partLengths(layout, { maxStorageBufferBindingBytes: 1 << 27, maxBufferBytes: 1 << 28 })).toEqual([layout.totalElements]);
});

describe.each([
  ['one buffer', 1 << 27],
  ['several buffers', 20 * 1024],
])('Muon in %s', (_name, bytes) => {
  const muonLayout = parameterLayout([
    ['table', [90, 31]],
    ['wide', [24, 130]],
    ['tall', [65, 40]],
    ['square', [33, 33]],
    ['head', [50, 31]],
    ['scale', [301]],
  ]);
  const isMatrix = ({ name }: { readonly name: string }): boolean => ['wide', 'tall', 'square'].includes(name);
  const muonSettings = { ...settings, ...muonDefaults };
  let engine: Engine;
  beforeAll(async () => {
    engine = await freshEngine({ limits: { maxStorageBufferBindingBytes: bytes, maxBufferBytes: bytes } });
  });
  afterAll(() => engine.destroy());

  test('follows the f64 optimizer over 6 updates, the same way each time, and changes nothing when a gradient is not finite', async () => {
    const start = Float32Array.from(randomValues(muonLayout.totalElements, 7), (value, i) => (isPadding(muonLayout, i) ? 0 : value));
    const reference = new MuonReference(Float64Array.from(start), muonLayout, muonSettings, isMatrix);
    const runs = await Promise.all([0, 1].map(async () => {
      const weights = engine.allocateFlat('weights', muonLayout);
      const gradientSum = engine.allocateFlat('gradient sum', muonLayout);
      engine.write(weights, start);
      return { weights, gradientSum, optimizer: await Muon.create(engine, muonLayout, { weights, gradientSum }, muonSettings, isMatrix) };
    }));
    const read = async (memory: Memory) => Float64Array.from(new Float32Array(await engine.read(memory)));
    for (let update = 1; update <= 6; update++) {
      const gradients = Float32Array.from(randomValues(muonLayout.totalElements, 100 + update), (g, i) => (isPadding(muonLayout, i) ? 0 : g * 37 * 10 ** -(update % 4)));
      const commit = { learningRate: 1e-2 / update, update, weightSum: 37 };
      reference.gradientSum.set(gradients);
      const { gradNorm } = reference.commit(commit);
      for (const { gradientSum, optimizer } of runs) {
        engine.write(gradientSum, gradients);
        optimizer.commit(commit);
        const result = await optimizer.result();
        expect(result.applied).toBe(true);
        expect(Math.abs(result.gradNorm / gradNorm - 1)).toBeLessThan(1e-5);
      }
    }
    const [first, second] = await Promise.all(runs.map(({ weights }) => read(weights)));
    expect(first).toEqual(second);
    for (const { name, offsetElements, lengthElements } of muonLayout.entries) {
      const change = (of: Float64Array) => of.slice(offsetElements, offsetElements + lengthElements).map((value, i) => value - (start[offsetElements + i] ?? 0));
      expect(relativeError(change(first ?? new Float64Array(0)), change(reference.weights)), name).toBeLessThan(1e-4);
    }
    const [run] = runs;
    if (run === undefined) throw new Error('no run');
    engine.write(run.gradientSum, Float32Array.of(Number.NaN), 100);
    run.optimizer.commit({ learningRate: 1e-2, update: 7, weightSum: 37 });
    expect((await run.optimizer.result()).applied).toBe(false);
    expect(await read(run.weights)).toEqual(first);
  });
});

/** Between two tensors. */
function isPadding({ entries }: typeof layout, index: number): boolean {
  return !entries.some(({ offsetElements, lengthElements }) => index >= offsetElements && index < offsetElements + lengthElements);
}
