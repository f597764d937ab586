/** Looking into a graph: every kernel of a whole decoder against its op's meaning, and the op that first went wrong. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { compileInspection } from '../../src/engine/index.ts';
import type { Engine, HostInputs, InspectedNode } from '../../src/engine/index.ts';
import { trainingGraph } from '../../src/model/decoder.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import type { DecoderConfig } from '../../src/model/types.ts';
import { randomIntegers, randomValues } from './check-op.ts';
import { freshEngine } from './harness.ts';
import { settings } from './trainer-fixtures.ts';

const rows = 2;
const { contextLength } = settings;
const positions = rows * contextLength;

let engine: Engine;
beforeAll(async () => {
  engine = await freshEngine();
});
afterAll(() => {
  engine.destroy();
});

function inputsOf({ vocab_size: vocabulary }: DecoderConfig): HostInputs {
  return new Map<string, Float32Array | Uint32Array>([
    ['ids', Uint32Array.from(randomIntegers(positions, vocabulary, 2))],
    ['targets', Uint32Array.from(randomIntegers(positions, vocabulary, 3))],
    ['lossWeights', new Float32Array(positions).fill(1)],
    ['seed', Uint32Array.of(1, 2, 3, 0)],
  ]);
}

/** `spoil` changes the weights before they are used. */
async function inspected(model: DecoderConfig, spoil: (weights: Float32Array, at: (name: string) => number) => void): Promise<InspectedNode[]> {
  const layout = parameterLayoutOf(model);
  const weights = Float32Array.from(randomValues(layout.totalElements, 1), (value) => value * 0.3);
  spoil(weights, (name) => layout.byName.get(name)?.offsetElements ?? Number.NaN);
  const parameters = engine.allocate('weights', layout.totalElements);
  const gradients = engine.allocate('gradients', layout.totalElements);
  const totals = new Map([['loss', engine.allocate('loss', 1)]]);
  engine.write(parameters, weights);
  const graph = trainingGraph(model, rows, contextLength);
  const inspect = await compileInspection(engine, graph, { parameters, layout, gradients, totals }, { compares: true });
  const nodes: InspectedNode[] = [];
  for await (const node of inspect(inputsOf(model))) nodes.push(node);
  return nodes;
}

describe.each(['llama', 'qwen3'] as const)('a %s', (model_type) => {
  const model: DecoderConfig = { ...settings.model, model_type };

  test('has every kernel agree with its op, given the same inputs', async () => {
    const nodes = await inspected(model, () => undefined);
    expect(nodes.length).toBeGreaterThan(60);
    for (const { op, errors, nonFinite } of nodes) {
      for (const error of errors) expect(error, op).toBeLessThan(2e-5);
      expect(nonFinite, op).toBe(0);
    }
  });

  test('names the op that first gives a value that is not finite', async () => {
    const name = 'model.layers.1.mlp.gate_proj.weight';
    const nodes = await inspected(model, (weights, at) => {
      weights[at(name)] = Infinity;
    });
    expect(nodes.find(({ nonFinite }) => nonFinite > 0)).toMatchObject({ op: 'matmulNT', parameters: [name] });
  });
});
