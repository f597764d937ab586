/** The head with its loss: values, fused gradients, chunks, and rows that must count for nothing. */
import { expect, test } from 'vitest';
import { Graph, interpret, parameterLayout, valueAndGrad } from '../../src/engine/index.ts';
import type { EngineOptions } from '../../src/engine/index.ts';
import { linearCrossEntropy, linearCrossEntropyOp } from '../../src/engine/ops/linear-cross-entropy.ts';
import { checkOp, randomIntegers, randomValues, relativeError } from './check-op.ts';
import type { GivenInput } from './check-op.ts';
import { freshEngine } from './harness.ts';

type Kernels = NonNullable<EngineOptions['forceKernels']>;

function rowInputs(rows: number, vocabulary: number, seed: number): Readonly<Record<'targets' | 'weights', GivenInput>> {
  const targets = randomIntegers(rows, vocabulary, seed);
  // Every third row counts for nothing and names a target that does not exist.
  const weights = randomValues(rows, seed + 1).map((value, row) => (row % 3 === 1 ? 0 : 1 + value / 2));
  targets.forEach((_, row) => {
    if (row % 3 === 1) targets[row] = 4_000_000_000;
  });
  return {
    targets: { shape: [rows], dtype: 'u32', values: targets },
    weights: { shape: [rows], dtype: 'f32', values: weights },
  };
}

test.each<{ kernels: Kernels; rows: number; width: number; vocabulary: number; labelSmoothing: number }>([
  { kernels: 'software', rows: 1, width: 4, vocabulary: 3, labelSmoothing: 0 },
  { kernels: 'software', rows: 37, width: 21, vocabulary: 101, labelSmoothing: 0.1 },
  { kernels: 'software', rows: 70, width: 6, vocabulary: 515, labelSmoothing: 0 },
  { kernels: 'gpu', rows: 37, width: 21, vocabulary: 101, labelSmoothing: 0.3 },
])('$rows rows of width $width over a vocabulary of $vocabulary, smoothed by $labelSmoothing (kernels for $kernels)', async ({ kernels, rows, width, vocabulary, labelSmoothing }) => {
  const engine = await freshEngine({ forceKernels: kernels });
  await checkOp(engine, {
    parameters: { hidden: [rows, width], head: [vocabulary, width] },
    inputs: rowInputs(rows, vocabulary, rows),
    build: (graph, tensor) =>
      linearCrossEntropy(graph, tensor('hidden'), tensor('head'), tensor('targets'), tensor('weights'), { labelSmoothing }),
    seed: rows,
  });
  engine.destroy();
});

interface Head {
  readonly graph: Graph;
  readonly loss: ReturnType<typeof linearCrossEntropy>;
}

function head(rows: number, width: number, vocabulary: number, differentiates: boolean): Head {
  const graph = new Graph({ differentiates });
  const loss = linearCrossEntropy(
    graph,
    graph.parameter('hidden', [rows, width]),
    graph.parameter('head', [vocabulary, width]),
    graph.input('targets', [rows], 'u32'),
    graph.input('weights', [rows], 'f32'),
  );
  return { graph, loss };
}

test.each([3, 96, 1000])('equal logits cost ln V per unit of weight, V = %d', async (vocabulary) => {
  const engine = await freshEngine();
  const { graph, loss } = head(11, 8, vocabulary, false);
  const layout = parameterLayout([...graph.parameters].map(([name, { shape }]) => [name, shape]));
  const parameters = engine.allocate('parameters', layout.totalElements);
  const program = await engine.compile(graph, { parameters, layout, outputs: new Map([['loss', loss]]) });
  program.setInput('targets', new Uint32Array(11).fill(2));
  program.setInput('weights', new Float32Array(11).fill(0.5));
  program.run();
  const [sum] = await program.readOutput('loss');
  expect(sum).toBeCloseTo(5.5 * Math.log(vocabulary), 4);
  engine.destroy();
});

test.each(['software', 'gpu'] as const)('logits far beyond what exp can hold give a finite loss and gradient (kernels for %s)', async (kernels) => {
  const engine = await freshEngine({ forceKernels: kernels });
  const { graph, loss } = head(5, 4, 9, true);
  valueAndGrad(graph, loss, 'loss');
  const layout = parameterLayout([...graph.parameters].map(([name, { shape }]) => [name, shape]));
  const [parameters, gradients, total] = [layout.totalElements, layout.totalElements, 1].map((n, i) => engine.allocate(`region ${i}`, n));
  if (!parameters || !gradients || !total) throw new Error('three regions are allocated');
  const values = new Map([...graph.parameters].map(([name, { shape }]) => [name, randomValues(shape.reduce((a, b) => a * b), 3).map((x) => Math.fround(30 * x))]));
  // Row 2 has weight zero: not even logits past the largest f32 may count.
  values.get('hidden')?.fill(3e38, 2 * 4, 3 * 4);
  for (const [name, data] of values) engine.write(parameters, Float32Array.from(data), layout.byName.get(name)?.offsetElements);
  const program = await engine.compile(graph, { parameters, gradients, layout, totals: new Map([['loss', total]]) });
  const inputs = new Map([
    ['targets', Float64Array.of(0, 8, 3, 3, 1)],
    ['weights', Float64Array.of(1, 1, 0, 0.5, 2)],
  ]);
  program.setInput('targets', Uint32Array.from(inputs.get('targets') ?? []));
  program.setInput('weights', Float32Array.from(inputs.get('weights') ?? []));
  program.run();
  const expected = interpret(graph, { parameters: values, inputs });
  expect(relativeError(new Float32Array(await engine.read(total)), [expected.totals.get('loss') ?? NaN])).toBeLessThan(1e-5);
  const sums = new Float32Array(await engine.read(gradients));
  for (const { name, offsetElements, lengthElements } of layout.entries) {
    const part = sums.subarray(offsetElements, offsetElements + lengthElements);
    expect(relativeError(part, expected.gradients.get(name) ?? []), name).toBeLessThan(1e-5);
  }
  engine.destroy();
});

test.each([
  { rows: 150, width: 5, vocabulary: 33, tokenRanges: 1 },
  { rows: 131, width: 140, vocabulary: 300, tokenRanges: 2 },
])('rows are taken in chunks whose logits fit a binding, the weight in $tokenRanges ranges, and all adds up', async ({ rows, width, vocabulary, tokenRanges }) => {
  const engine = await freshEngine();
  const rowElements = Math.ceil(vocabulary / 4) * 4;
  const adapter = { ...engine.profile, maxStorageBufferBindingBytes: 128 * rowElements * 4 };
  const graph = new Graph({ differentiates: true });
  const hidden = graph.input('hidden', [rows, width], 'f32');
  const weight = graph.input('head', [vocabulary, width], 'f32');
  const targets = graph.input('targets', [rows], 'u32');
  const lossWeights = graph.input('weights', [rows], 'f32');
  const narrow = { ...linearCrossEntropyOp, lower: (args: Parameters<typeof linearCrossEntropyOp.lower>[0]) => linearCrossEntropyOp.lower({ ...args, adapter }) };
  const attrs = { differentiates: true, labelSmoothing: 0, isWeightFrozen: false };
  const [loss, dHidden, dWeight] = graph.apply(narrow, [hidden, weight, targets, lossWeights], attrs);
  if (!loss || !dHidden || !dWeight) throw new Error('three outputs');
  const lowering = narrow.lower({
    inputs: [hidden, weight, targets, lossWeights],
    outputs: [loss, dHidden, dWeight],
    accumulate: [false, false, false],
    attrs,
    adapter,
  });
  expect(lowering.scratchElements?.[0]).toBe(128 * rowElements);
  expect(lowering.dispatches.filter(({ label }) => label.startsWith('cross-entropy'))).toHaveLength(2);
  expect(lowering.dispatches.filter(({ label }) => label.startsWith('matmul NT'))).toHaveLength(2 * tokenRanges);

  const given = rowInputs(rows, vocabulary, 8);
  const inputs = new Map([
    ['hidden', randomValues(rows * width, 1).map(Math.fround)],
    ['head', randomValues(vocabulary * width, 2).map(Math.fround)],
    ['targets', given.targets.values],
    ['weights', given.weights.values.map(Math.fround)],
  ]);
  const outputs = new Map(Object.entries({ loss, dHidden, dWeight }));
  const program = await engine.compile(graph, { parameters: engine.allocate('none', 64), layout: parameterLayout([]), outputs });
  for (const [name, values] of inputs) program.setInput(name, name === 'targets' ? Uint32Array.from(values) : Float32Array.from(values));
  program.run();
  const expected = interpret(graph, { parameters: new Map(), inputs });
  for (const [name, tensor] of outputs) {
    const values = await program.readOutput(name);
    expect(relativeError(values, expected.values(tensor)), name).toBeLessThan(1e-5);
    if (name === 'dHidden') expect([...values.subarray(width, 2 * width)], 'a row of weight zero').toEqual(Array(width).fill(0));
  }
  engine.destroy();
});
