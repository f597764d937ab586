/** A decoder on rows that several documents share: it must learn from each what it would learn from it alone. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { interpret } from '../../src/engine/index.ts';
import type { Engine, Graph } from '../../src/engine/index.ts';
import { trainingGraph } from '../../src/model/decoder.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { randomIntegers, randomValues, relativeError } from './check-op.ts';
import { freshEngine } from './harness.ts';
import { settings } from './trainer-fixtures.ts';

// Dropout's masks differ by place in a row, and so would what it leaves.
const model = { ...settings.model, dropout: 0 };
const lengths = [9, 4, 17];
const total = lengths.reduce((a, b) => a + b);
const starts = lengths.map((_, index) => lengths.slice(0, index).reduce((a, b) => a + b, 0));
const layout = parameterLayoutOf(model);
const weights = randomValues(layout.totalElements, 1).map((value) => Math.fround(value * 0.3));
const ids = randomIntegers(total, model.vocab_size, 2);
const targets = randomIntegers(total, model.vocab_size, 3);

type Inputs = Readonly<Record<string, Float64Array>>;

/** All documents in one row, of which one is scored. */
function packed(scored: number): Inputs {
  const lossWeights = new Float64Array(total);
  lossWeights.fill(1, starts[scored], (starts[scored] ?? 0) + (lengths[scored] ?? 0));
  const documentStarts = Float64Array.from(lengths.flatMap((length, index) => new Array<number>(length).fill(starts[index] ?? 0)));
  return { ids, targets, lossWeights, documentStarts, seed: Float64Array.of(1, 2, 3, 0) };
}

/** A document in a row of its own, behind it positions that nobody scores. */
function alone(document: number): Inputs {
  const [start = 0, length = 0] = [starts[document], lengths[document]];
  const padded = (values: Float64Array): Float64Array => {
    const row = new Float64Array(total);
    row.set(values.subarray(start, start + length));
    return row;
  };
  const ones = new Float64Array(total).fill(1);
  return { ids: padded(ids), targets: padded(targets), lossWeights: padded(ones), seed: Float64Array.of(1, 2, 3, 0) };
}

interface Learned {
  readonly loss: number;
  readonly gradient: ArrayLike<number>;
}

type Trainer = (graph: Graph) => Promise<(inputs: Inputs) => Promise<Learned>>;

let engine: Engine;
beforeAll(async () => {
  engine = await freshEngine();
});
afterAll(() => {
  engine.destroy();
});

const onGpu: Trainer = async (graph) => {
  const parameters = engine.allocate('weights', layout.totalElements);
  const gradients = engine.allocate('gradients', layout.totalElements);
  const loss = engine.allocate('loss', 1);
  engine.write(parameters, Float32Array.from(weights));
  const program = await engine.compile(graph, { parameters, layout, gradients, totals: new Map([['loss', loss]]) });
  return async (inputs) => {
    for (const [name, values] of Object.entries(inputs)) {
      program.setInput(name, name === 'lossWeights' ? Float32Array.from(values) : Uint32Array.from(values));
    }
    engine.clear(gradients);
    engine.clear(loss);
    program.run();
    const [lossSum = Number.NaN] = new Float32Array(await engine.read(loss));
    return { loss: lossSum, gradient: new Float32Array(await engine.read(gradients)) };
  };
};

const inF64: Trainer = (graph) => {
  const parameters = new Map(
    layout.entries.map(({ name, offsetElements, lengthElements }) => [name, weights.subarray(offsetElements, offsetElements + lengthElements)]),
  );
  return Promise.resolve((inputs) => {
    const { totals, gradients } = interpret(graph, { parameters, inputs: new Map(Object.entries(inputs)) });
    const gradient = new Float64Array(layout.totalElements);
    for (const { name, offsetElements } of layout.entries) gradient.set(gradients.get(name) ?? [], offsetElements);
    return Promise.resolve({ loss: totals.get('loss') ?? Number.NaN, gradient });
  });
};

describe.each([
  { where: 'on the GPU', trainer: onGpu, tolerance: 1e-5 },
  { where: 'in f64', trainer: inF64, tolerance: 1e-10 },
])('$where', ({ trainer, tolerance }) => {
  test('each document of a packed row has the loss and the gradients that it has in a row of its own', async () => {
    const learnPacked = await trainer(trainingGraph(model, 1, total, { documents: true }));
    const learnAlone = await trainer(trainingGraph(model, 1, total));
    for (const document of lengths.keys()) {
      const [inRow, byItself] = [await learnPacked(packed(document)), await learnAlone(alone(document))];
      expect(Math.abs(inRow.loss / byItself.loss - 1), `loss of document ${document}`).toBeLessThan(tolerance);
      expect(relativeError(inRow.gradient, byItself.gradient), `gradients of document ${document}`).toBeLessThan(tolerance);
    }
  });
});
