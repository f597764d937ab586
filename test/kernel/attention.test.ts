/** Causal attention with grouped queries, on both sets of kernels, against f64 and finite differences. */
import { expect, test } from 'vitest';
import { Graph, interpret, parameterLayout } from '../../src/engine/index.ts';
import type { Engine, EngineOptions } from '../../src/engine/index.ts';
import { attention, attentionBackwardOp, attentionOp } from '../../src/engine/ops/attention.ts';
import { cast } from '../../src/engine/ops/cast.ts';
import { rope } from '../../src/engine/ops/rope.ts';
import { checkOp, randomValues, relativeError } from './check-op.ts';
import { freshEngine } from './harness.ts';

type Kernels = NonNullable<EngineOptions['forceKernels']>;

interface Case {
  readonly kernels: Kernels;
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly size: number;
}

const engines = new Map<string, Promise<Engine>>();

function engineWith(kernels: Kernels): Promise<Engine> {
  const engine = engines.get(kernels) ?? freshEngine({ forceKernels: kernels });
  engines.set(kernels, engine);
  return engine;
}

// Both families compile for every adapter; sizes share pipelines, but for what one invocation holds of a head on GPUs.
test.each<Case>([
  { kernels: 'software', batch: 1, time: 1, heads: 1, kvHeads: 1, size: 8 },
  { kernels: 'software', batch: 2, time: 13, heads: 6, kvHeads: 2, size: 8 },
  { kernels: 'software', batch: 3, time: 21, heads: 3, kvHeads: 3, size: 20 },
  { kernels: 'software', batch: 1, time: 19, heads: 2, kvHeads: 1, size: 96 },
  { kernels: 'gpu', batch: 2, time: 13, heads: 6, kvHeads: 2, size: 8 },
  // In no whole quads of each, and lanes to spare; the larger sizes share its pipelines.
  { kernels: 'gpu', batch: 2, time: 71, heads: 4, kvHeads: 2, size: 68 },
  { kernels: 'gpu', batch: 1, time: 71, heads: 4, kvHeads: 2, size: 64 },
  { kernels: 'gpu', batch: 1, time: 45, heads: 2, kvHeads: 1, size: 96 },
  { kernels: 'gpu', batch: 1, time: 37, heads: 2, kvHeads: 1, size: 128 },
  { kernels: 'gpu', batch: 1, time: 21, heads: 2, kvHeads: 1, size: 256 },
])(
  'values and gradients agree with f64: batch $batch, $time positions, $heads heads on $kvHeads of $size (kernels for $kernels)',
  async ({ kernels, batch, time, heads, kvHeads, size }) => {
    await checkOp(await engineWith(kernels), {
      parameters: { q: [batch, time, heads, size], k: [batch, time, kvHeads, size], v: [batch, time, kvHeads, size] },
      build: (graph, tensor) => attention(graph, tensor('q'), tensor('k'), tensor('v')),
      seed: time + heads,
    });
  },
);

const { hasF16 } = (await engineWith('software')).profile;

test.skipIf(!hasF16).each(['software', 'gpu'] as const)('values and gradients in f16 lose no more than its rounding, rotated ones too (%s)', async (kernels) => {
  const parameters = { q: [2, 21, 6, 8], k: [2, 21, 2, 8], v: [2, 21, 2, 8] };
  await checkOp(await engineWith(kernels), {
    parameters,
    // Multiples of 2^-10 up to one: f16 holds them exactly.
    values: Object.fromEntries(
      Object.entries(parameters).map(([name, shape], seed) => [
        name,
        randomValues(shape.reduce((a, b) => a * b), seed).map((value) => Math.round(value * 1024) / 1024),
      ]),
    ),
    build(graph, tensor) {
      const [q, k, v] = [cast(graph, tensor('q'), 'f16'), cast(graph, tensor('k'), 'f16'), cast(graph, tensor('v'), 'f16')];
      return cast(graph, attention(graph, rope(graph, q, 10_000), rope(graph, k, 10_000), v), 'f32');
    },
    seed: 21,
    // Half a unit in the last of 11 bits, for each of the four roundings between a value and its gradient.
    tolerance: 4 * 2 ** -11,
  });
});

/** By row: how long its documents are. */
function documentStarts(rows: readonly (readonly number[])[]): number[] {
  return rows.flatMap((lengths) => {
    let start = 0;
    return lengths.flatMap((length) => {
      start += length;
      return new Array<number>(length).fill(start - length);
    });
  });
}

test.each([
  { kernels: 'software', size: 12, rows: [[9, 1, 14, 13], [37]] },
  { kernels: 'gpu', size: 96, rows: [[9, 1, 14, 13, 30], [3, 40, 24]] },
] as const)('documents of $rows positions don’t see each other, heads of $size ($kernels)', async ({ kernels, size, rows }) => {
  const starts = documentStarts(rows);
  const [batch, time] = [rows.length + 1, starts.length / rows.length];
  // A row more, of starts that lie past it: each of its positions is a document of its own.
  const values = Float64Array.from([...starts, ...new Array<number>(time).fill(0xffffffff)]);
  await checkOp(await engineWith(kernels), {
    parameters: { q: [batch, time, 4, size], k: [batch, time, 2, size], v: [batch, time, 2, size] },
    inputs: { starts: { shape: [batch, time], dtype: 'u32', values } },
    build: (graph, tensor) => attention(graph, tensor('q'), tensor('k'), tensor('v'), tensor('starts')),
    seed: size,
  });
});

test('starts in disorder harm nobody but their own row', async () => {
  const engine = await engineWith('software');
  const graph = new Graph({ differentiates: false });
  const [q, k, v] = ['q', 'k', 'v'].map((name) => graph.input(name, [2, 37, 2, 12], 'f32'));
  if (!q || !k || !v) throw new Error('three inputs are declared');
  const outputs = new Map([['o', attention(graph, q, k, v, graph.input('starts', [2, 37], 'u32'))]]);
  const program = await engine.compile(graph, { parameters: engine.allocate('none', 64), layout: parameterLayout([]), outputs });
  for (const name of ['q', 'k', 'v']) program.setInput(name, Float32Array.from(randomValues(2 * 37 * 24, name.length)));
  const secondRowAfter = async (first: (position: number) => number): Promise<Float32Array> => {
    program.setInput('starts', Uint32Array.from({ length: 2 * 37 }, (_, i) => (i < 37 ? first(i) : 0)));
    program.run();
    return (await program.readOutput('o')).slice(37 * 24);
  };
  const undisturbed = await secondRowAfter(() => 0);
  expect(await secondRowAfter((i) => Math.imul(i, 0x9e3779b1) >>> 0)).toEqual(undisturbed);
});

test.each([
  { kernels: 'software', time: 256, size: 64 },
  { kernels: 'software', time: 17, size: 256 },
  { kernels: 'gpu', time: 260, size: 8 },
] as const)('$time positions of head size $size, large scores included (kernels for $kernels)', async ({ kernels, time, size }) => {
  const engine = await engineWith(kernels);
  const graph = new Graph({ differentiates: true });
  const [q, k, v, dO] = ['q', 'k', 'v', 'dO'].map((name) =>
    graph.input(name, [1, time, name === 'q' || name === 'dO' ? 4 : 2, size], 'f32'),
  );
  if (!q || !k || !v || !dO) throw new Error('four inputs are declared');
  const [o, logSumExp] = graph.apply(attentionOp, [q, k, v], {});
  if (!o || !logSumExp) throw new Error('attention has two outputs');
  const [dQ, dK, dV] = graph.apply(attentionBackwardOp, [q, k, v, o, logSumExp, dO], {});
  if (!dQ || !dK || !dV) throw new Error('its backward pass has three');
  const outputs = new Map(Object.entries({ o, logSumExp, dQ, dK, dV }));
  // Scores up to about ±80: without the running maximum, exp would overflow f32.
  const inputs = new Map(
    [q, k, v, dO].map(({ name, shape }, seed) => [
      name,
      randomValues(shape.reduce((a, b) => a * b), seed).map((value) => Math.fround(name === 'q' ? value * 40 : value)),
    ]),
  );
  const program = await engine.compile(graph, { parameters: engine.allocate('none', 64), layout: parameterLayout([]), outputs });
  for (const [name, values] of inputs) program.setInput(name, Float32Array.from(values));
  program.run();
  const expected = interpret(graph, { parameters: new Map(), inputs });
  for (const [name, tensor] of outputs) {
    expect(relativeError(await program.readOutput(name), expected.values(tensor)), name).toBeLessThan(2e-5);
  }
});

/** Rows of attention and its gradients at one head, by the formulas, in time that grows with the context alone. */
function rowsInF64(q: Float32Array, k: Float32Array, v: Float32Array, dO: Float32Array, size: number) {
  const row = (x: Float32Array, i: number): Float32Array => x.subarray(i * size, (i + 1) * size);
  const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((sum, x, d) => sum + x * (b[d] ?? 0), 0);
  const mix = (weights: readonly number[], of: (index: number) => Float32Array): number[] =>
    Array.from({ length: size }, (_, d) => weights.reduce((sum, weight, index) => sum + weight * (of(index)[d] ?? 0), 0));
  const query = (i: number) => {
    const exps = Array.from({ length: i + 1 }, (_, j) => Math.exp(dot(row(q, i), row(k, j)) / Math.sqrt(size)));
    const sum = exps.reduce((a, b) => a + b);
    const shares = exps.map((exp) => exp / sum);
    const o = mix(shares, (j) => row(v, j));
    const slopes = shares.map((share, j) => (share * (dot(row(dO, i), row(v, j)) - dot(row(dO, i), o))) / Math.sqrt(size));
    return { shares, slopes, o, dQ: mix(slopes, (j) => row(k, j)) };
  };
  const key = (j: number) => {
    const queries = Array.from({ length: q.length / size - j }, (_, index) => query(j + index));
    return {
      dK: mix(queries.map(({ slopes }) => slopes[j] ?? 0), (index) => row(q, j + index)),
      dV: mix(queries.map(({ shares }) => shares[j] ?? 0), (index) => row(dO, j + index)),
    };
  };
  return { query, key, row };
}

test('a context of 8,192 is as exact as a short one, and takes twice the memory of 4,096', async () => {
  const engine = await engineWith('software');
  const size = 4;
  const programOf = (time: number) => {
    const graph = new Graph({ differentiates: true });
    const [q, k, v, dO] = ['q', 'k', 'v', 'dO'].map((name) => graph.input(name, [1, time, 1, size], 'f32'));
    if (!q || !k || !v || !dO) throw new Error('four inputs are declared');
    const [o, logSumExp] = graph.apply(attentionOp, [q, k, v], {});
    if (!o || !logSumExp) throw new Error('attention has two outputs');
    const [dQ, dK, dV] = graph.apply(attentionBackwardOp, [q, k, v, o, logSumExp, dO], {});
    if (!dQ || !dK || !dV) throw new Error('its backward pass has three');
    const outputs = new Map(Object.entries({ o, dQ, dK, dV }));
    return engine.compile(graph, { parameters: engine.allocate('none', 64), layout: parameterLayout([]), outputs });
  };
  const time = 8192;
  const [program, half] = [await programOf(time), await programOf(time / 2)];
  expect(program.stats.arenaBytes).toBe(2 * half.stats.arenaBytes);
  const values = (seed: number) => Float32Array.from(randomValues(time * size, seed), (value) => value * 3);
  const [q, k, v, dO] = [values(1), values(2), values(3), values(4)];
  for (const [name, data] of Object.entries({ q, k, v, dO })) program.setInput(name, data);
  program.run();
  const { query, key, row } = rowsInF64(q, k, v, dO, size);
  const actual = new Map(await Promise.all(['o', 'dQ', 'dK', 'dV'].map(async (name) => [name, await program.readOutput(name)] as const)));
  const compare = (expected: Readonly<Record<string, readonly number[]>>, at: number): void => {
    for (const [name, wanted] of Object.entries(expected)) {
      expect(relativeError(row(actual.get(name) ?? q, at), wanted), `${name} at ${at}`).toBeLessThan(2e-5);
    }
  };
  for (const at of [1, 5001, 8191]) {
    const { o, dQ } = query(at);
    compare({ o, dQ }, at);
  }
  for (const at of [8150, 8191]) compare(key(at), at);
});

test('a later key changes nothing before it', async () => {
  const engine = await freshEngine();
  const graph = new Graph({ differentiates: false });
  const shape = [1, 19, 2, 8];
  const tensors = ['q', 'k', 'v'].map((name) => graph.input(name, shape, 'f32'));
  const [q, k, v] = tensors;
  if (!q || !k || !v) throw new Error('three inputs are declared');
  const o = attention(graph, q, k, v);
  const program = await engine.compile(graph, {
    parameters: engine.allocate('none', 64),
    layout: parameterLayout([]),
    outputs: new Map([['o', o]]),
  });
  for (const name of ['q', 'k', 'v']) program.setInput(name, Float32Array.from(randomValues(19 * 16, name.length)));
  program.run();
  const before = await program.readOutput('o');
  for (const name of ['k', 'v']) program.setInput(name, Float32Array.from(randomValues(19 * 16, 1).fill(99, 15 * 16)));
  program.run();
  const after = await program.readOutput('o');
  expect(after.subarray(0, 15 * 16)).toEqual(before.subarray(0, 15 * 16));
  expect(after.subarray(15 * 16)).not.toEqual(before.subarray(15 * 16));
  engine.destroy();
});

test('heads that do not divide, and head sizes that are no multiple of 4, are refused', () => {
  const graph = new Graph({ differentiates: false });
  const of = (heads: number, size: number) => graph.input(`${heads}×${size}`, [1, 2, heads, size], 'f32');
  const threeHeads = of(3, 8);
  const twoHeads = of(2, 8);
  expect(() => attention(graph, threeHeads, twoHeads, twoHeads)).toThrow('attention of f32[1, 2, 3, 8]');
  const odd = of(1, 6);
  expect(() => attention(graph, odd, odd, odd)).toThrow('head size of 6 is not a multiple of 4 up to 256');
});
