/** Activation checkpointing: a decoder whose layers are computed again has the same gradients, in less memory. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Graph, interpret, valueAndGrad } from '../../src/engine/index.ts';
import type { Engine } from '../../src/engine/index.ts';
import { linear } from '../../src/engine/ops/matmul.ts';
import { linearCrossEntropy } from '../../src/engine/ops/linear-cross-entropy.ts';
import { swiglu } from '../../src/engine/ops/swiglu.ts';
import { trainingGraph } from '../../src/model/decoder.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import type { DecoderConfig } from '../../src/model/types.ts';
import { openRun } from '../../src/trainer/run.ts';
import { randomIntegers, randomValues, relativeError } from './check-op.ts';
import { freshEngine, nodeGpu } from './harness.ts';
import { settings } from './trainer-fixtures.ts';

const rows = 2;
const contextLength = 12;
const positions = rows * contextLength;
const deep: DecoderConfig = { ...settings.model, num_hidden_layers: 12 };

let engine: Engine;
beforeAll(async () => {
  engine = await freshEngine();
});
afterAll(() => {
  engine.destroy();
});

async function gradientsOf(model: DecoderConfig, recomputesLayers: boolean) {
  const layout = parameterLayoutOf(model);
  const weights = engine.allocate('weights', layout.totalElements);
  const gradients = engine.allocate('gradients', layout.totalElements);
  const loss = engine.allocate('loss', 1);
  const program = await engine.compile(trainingGraph(model, rows, contextLength, { recomputesLayers }), {
    parameters: weights,
    layout,
    gradients,
    totals: new Map([['loss', loss]]),
  });
  engine.write(weights, Float32Array.from(randomValues(layout.totalElements, 1), (value) => value * 0.3));
  program.setInput('ids', Uint32Array.from(randomIntegers(positions, model.vocab_size, 2)));
  program.setInput('targets', Uint32Array.from(randomIntegers(positions, model.vocab_size, 3)));
  program.setInput('lossWeights', new Float32Array(positions).fill(1));
  program.setInput('seed', Uint32Array.of(1, 2, 3, 0));
  program.run();
  const values = [...new Uint32Array(await engine.read(gradients)), ...new Uint32Array(await engine.read(loss))];
  return { values, arenaBytes: program.stats.arenaBytes };
}

test('twelve layers computed again have the same gradients, bit for bit, dropout included, in less than half the memory', async () => {
  const kept = await gradientsOf(deep, false);
  const again = await gradientsOf(deep, true);
  expect(again.values).toEqual(kept.values);
  expect(kept.values.some((bits) => bits !== 0)).toBe(true);
  expect(again.arenaBytes).toBeLessThan(kept.arenaBytes / 2);
});

test('a run computes its layers again when its activations would exceed the budget, and not before', async () => {
  const arenaWith = async (activationBudgetBytes: number): Promise<number> => {
    const run = await openRun(nodeGpu(), { ...settings, model: deep, activationBudgetBytes }, undefined);
    const { arenaBytes } = run.training.stats;
    run.engine.destroy();
    return arenaBytes;
  };
  const full = engine.activationBytes(trainingGraph(deep, settings.rowsPerMicrobatch, settings.contextLength));
  expect(await arenaWith(full)).toBe(full);
  expect(await arenaWith(full - 1)).toBeLessThan(full / 2);
});

test('a segment whose values are read after it and inside it differentiates as if it were none', () => {
  const gradientsWith = (recomputes: boolean) => {
    const graph = new Graph({ differentiates: true });
    const [x, w, v] = [graph.parameter('x', [3, 4]), graph.parameter('w', [4, 4]), graph.parameter('v', [5, 4])];
    const inner = () => {
      const gate = linear(graph, x, w);
      return { gate, y: linear(graph, swiglu(graph, gate, x), w, x) };
    };
    const { gate, y } = recomputes ? graph.recomputed(inner) : inner();
    const hidden = linear(graph, y, w, gate);
    valueAndGrad(graph, linearCrossEntropy(graph, hidden, v, graph.input('t', [3], 'u32'), graph.input('s', [3], 'f32')), 'loss');
    const host = {
      parameters: new Map(Object.entries({ x: randomValues(12, 1), w: randomValues(16, 2), v: randomValues(20, 3) })),
      inputs: new Map(Object.entries({ t: Float64Array.of(0, 3, 4), s: Float64Array.of(1, 0.5, 2) })),
    };
    return { nodes: graph.nodes.length, gradients: interpret(graph, host).gradients };
  };
  const [kept, again] = [gradientsWith(false), gradientsWith(true)];
  expect(again.nodes).toBe(kept.nodes + 3);
  for (const [name, gradient] of kept.gradients) expect(relativeError(again.gradients.get(name) ?? [], gradient), name).toBeLessThan(1e-14);
});
