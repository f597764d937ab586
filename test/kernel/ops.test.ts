/** Every op of the engine but the matrix products, on random odd shapes: values, gradients, accumulation, repeats. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Graph, interpret } from '../../src/engine/index.ts';
import type { Engine } from '../../src/engine/index.ts';
import { add, copy } from '../../src/engine/ops/elementwise.ts';
import { dropout } from '../../src/engine/ops/dropout.ts';
import { embedding } from '../../src/engine/ops/embedding.ts';
import { linear } from '../../src/engine/ops/matmul.ts';
import { rmsNorm } from '../../src/engine/ops/rms-norm.ts';
import { rope } from '../../src/engine/ops/rope.ts';
import { swiglu } from '../../src/engine/ops/swiglu.ts';
import { checkOp, randomIntegers, randomValues } from './check-op.ts';
import type { OpCase } from './check-op.ts';
import { freshEngine } from './harness.ts';

/** As a software adapter runs them, and as a GPU would: lanes that share rows, workgroup memory. */
const adapters = ['as it is', 'as a GPU'] as const;
const engines = new Map<string, Engine>();
const engineOf = (adapter: string): Engine => {
  const engine = engines.get(adapter);
  if (!engine) throw new Error(`no engine ${adapter}`);
  return engine;
};

beforeAll(async () => {
  engines.set('as it is', await freshEngine());
  engines.set('as a GPU', await freshEngine({ forceKernels: 'gpu' }));
});
afterAll(() => {
  for (const engine of engines.values()) engine.destroy();
});

const seedOf = (...words: number[]) => ({ shape: [4], dtype: 'u32' as const, values: Float64Array.from(words) });

function cases(): [name: string, check: OpCase][] {
  const odd = (index: number, below: number) => 1 + (randomIntegers(40, below, 12)[index] ?? 0);
  return [
    ...[0, 1, 2].map((i): [string, OpCase] => {
      const shape = [odd(3 * i, 9), odd(3 * i + 1, 7), odd(3 * i + 2, 131)];
      return [
        `rmsNorm [${shape.join()}]`,
        { parameters: { x: shape, w: shape.slice(-1) }, build: (g, t) => rmsNorm(g, t('x'), t('w'), 1e-5), seed: i },
      ];
    }),
    [
      'a norm and two layers that read the same rows',
      {
        parameters: { x: [7, 33], n: [33], w: [33, 33], v: [33, 33] },
        build: (g, t) => add(g, add(g, rmsNorm(g, t('x'), t('n'), 1e-5), linear(g, t('x'), t('w'))), linear(g, t('x'), t('v'))),
        seed: 5,
      },
    ],
    [
      'rmsNorm of many narrow rows',
      { parameters: { x: [4099, 5], w: [5] }, build: (g, t) => rmsNorm(g, t('x'), t('w'), 1e-6), seed: 3 },
    ],
    [
      'rmsNorm of a wide row',
      { parameters: { x: [3, 1999], w: [1999] }, build: (g, t) => rmsNorm(g, t('x'), t('w'), 1e-6), seed: 4 },
    ],
    ...[0, 1].map((i): [string, OpCase] => {
      const shape = [odd(i + 20, 4), odd(i + 22, 50), odd(i + 24, 5), 2 * odd(i + 26, 20)];
      return [`rope [${shape.join()}]`, { parameters: { x: shape }, build: (g, t) => rope(g, t('x'), 10_000), seed: 10 + i }];
    }),
    [
      'rope far from the start',
      { parameters: { x: [1, 1501, 1, 6] }, build: (g, t) => rope(g, t('x'), 500_000), seed: 14 },
    ],
    ...[[7, 13], [1], [3, 5, 37]].map((shape, i): [string, OpCase] => [
      `swiglu [${shape.join()}]`,
      { parameters: { gate: shape, up: shape }, build: (g, t) => swiglu(g, t('gate'), t('up')), seed: 20 + i },
    ]),
    [
      'swiglu far from zero',
      {
        parameters: { gate: [101], up: [101] },
        values: { gate: randomValues(101, 5).map((value) => value * 200) },
        build: (g, t) => swiglu(g, t('gate'), t('up')),
        seed: 24,
      },
    ],
    ['add', { parameters: { a: [5, 29], b: [5, 29] }, build: (g, t) => add(g, t('a'), t('b')), seed: 30 }],
    [
      'a tensor with several consumers',
      {
        parameters: { a: [5, 29] },
        build: (g, t) => add(g, swiglu(g, t('a'), t('a')), add(g, t('a'), copy(g, t('a')))),
        seed: 31,
      },
    ],
    ...[1, 3, 1000].map((vocabulary, i): [string, OpCase] => [
      `embedding of ${vocabulary} tokens`,
      {
        parameters: { table: [vocabulary, 37] },
        inputs: { ids: { shape: [3, 41], dtype: 'u32', values: randomIntegers(123, vocabulary, i) } },
        build: (g, t) => embedding(g, t('ids'), t('table')),
        seed: 40 + i,
      },
    ]),
    ...[0.1, 0.5, 0.9].map((probability, i): [string, OpCase] => [
      `dropout of ${probability}`,
      {
        parameters: { x: [11, 91] },
        inputs: { seed: seedOf(0xdeadbeef, i, 4294967295, 0) },
        build: (g, t) => dropout(g, t('x'), t('seed'), probability, i + 1),
        seed: 50 + i,
      },
    ]),
  ];
}

describe.each(adapters)('with the adapter %s', (adapter) => {
  test.each(cases())('%s agrees with f64, forward and backward', async (_name, check) => {
    await checkOp(engineOf(adapter), check);
  });
});

test('an embedding of 50,257 tokens at 8,192 positions, some tokens at hundreds and most at none', async () => {
  const ids = randomValues(8192, 6).map((value) => Math.floor(50_257 * value ** 4));
  await checkOp(engineOf('as it is'), {
    parameters: { table: [50_257, 2] },
    inputs: { ids: { shape: [2, 4096], dtype: 'u32', values: ids } },
    build: (g, t) => embedding(g, t('ids'), t('table')),
    seed: 7,
  });
});

test('an embedding whose table needs several bindings is the same', async () => {
  const engine = await freshEngine({ limits: { maxStorageBufferBindingBytes: 128 * 37 * 4 } });
  await checkOp(engine, {
    parameters: { table: [300, 37] },
    inputs: { ids: { shape: [60], dtype: 'u32', values: randomIntegers(60, 300, 1) } },
    build: (g, t) => embedding(g, t('ids'), t('table')),
    seed: 1,
    readsParametersDirectly: true,
  });
  engine.destroy();
});

describe('dropout', () => {
  const maskOf = (seed: number[], site: number): Float64Array => {
    const graph = new Graph({ differentiates: false });
    const y = dropout(graph, graph.parameter('x', [20_000]), graph.input('seed', [4], 'u32'), 0.25, site);
    const parameters = new Map([['x', new Float64Array(20_000).fill(1)]]);
    return interpret(graph, { parameters, inputs: new Map([['seed', Float64Array.from(seed)]]) }).values(y);
  };
  const agreement = (a: Float64Array, b: Float64Array): number => a.filter((value, i) => value === b[i]).length / a.length;

  test('zeroes the share it is told and keeps the mean', () => {
    const mask = maskOf([1, 2, 3, 0], 1);
    const zeros = mask.filter((value) => value === 0).length / mask.length;
    expect(Math.abs(zeros - 0.25)).toBeLessThan(0.012);
    expect(new Set(mask)).toEqual(new Set([0, 4 / 3]));
  });

  test('masks of other seeds, steps, micro-batches and sites are independent', () => {
    const mask = maskOf([1, 2, 3, 0], 1);
    // Two independent masks of 0.25 agree on 0.25² + 0.75² of the elements.
    for (const other of [maskOf([2, 2, 3, 0], 1), maskOf([1, 3, 3, 0], 1), maskOf([1, 2, 4, 0], 1), maskOf([1, 2, 3, 0], 2)]) {
      expect(Math.abs(agreement(mask, other) - 0.625)).toBeLessThan(0.015);
    }
  });

  test('of probability zero is no op', () => {
    const graph = new Graph({ differentiates: false });
    const x = graph.parameter('x', [3]);
    expect(dropout(graph, x, graph.input('seed', [4], 'u32'), 0, 1)).toBe(x);
  });
});
