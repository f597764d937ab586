/** Both models' losses, logits and gradients: GPU against PyTorch, and the f64 interpreter against finite differences. */
import { describe, expect, it } from 'vitest';
import { elementCount, interpret, parameterLayout, valueAndGrad, Graph } from '../../src/engine/index.ts';
import type { Tensor } from '../../src/engine/index.ts';
import { attention } from '../../src/engine/ops/attention.ts';
import { embedding } from '../../src/engine/ops/embedding.ts';
import { linearCrossEntropy } from '../../src/engine/ops/linear-cross-entropy.ts';
import { linear } from '../../src/engine/ops/matmul.ts';
import { rmsNorm } from '../../src/engine/ops/rms-norm.ts';
import { rope } from '../../src/engine/ops/rope.ts';
import { swiglu } from '../../src/engine/ops/swiglu.ts';
import { flatFromTensors, tensorsFromFlat } from '../../src/checkpoint/hf-folder.ts';
import { parseConfig } from '../../src/model/config.ts';
import { evaluationGraph, logitsGraph, trainingGraph } from '../../src/model/decoder.ts';
import type { Precision } from '../../src/model/decoder.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { floats, integers, namedTensors, readModelCases, readOpCases, relativeError } from '../golden/golden.ts';
import type { ModelCase, OpCase } from '../golden/golden.ts';
import { sharedEngine } from './harness.ts';

/** f32 sums of up to some hundred terms; measured 3e-7 and below. The issue asks for 1e-3. */
const gradientTolerance = 1e-5;

const { profile } = await sharedEngine();

describe.each(readModelCases().map((golden) => [golden.config.model_type, golden] as const))('%s', (_type, golden) => {
  const config = parseConfig(golden.config);
  const layout = parameterLayoutOf(config);
  const flat = flatFromTensors(layout, namedTensors(golden.weights));
  const [rows = 0, length = 0] = golden.ids.shape;

  it('has PyTorch’s loss and gradients on the GPU', async () => {
    const { lossSum, gradients } = await runOnGpu(golden);
    expect(Math.abs(lossSum / golden.lossSum - 1)).toBeLessThan(1e-6);
    for (const [name, { data }] of namedTensors(golden.gradients)) {
      expect(relativeError(gradients.get(name)?.data ?? [], data), name).toBeLessThan(gradientTolerance);
    }
  });

  it.skipIf(!profile.hasF16)('has them with activations in f16 too, as exact as that is', async () => {
    // Every f16 is off by up to 2^-11 of itself, and a gradient is made of a few dozen one after another: 2e-3 to 5e-3 here.
    const { lossSum, gradients } = await runOnGpu(golden, 'mixed');
    expect(Math.abs(lossSum / golden.lossSum - 1)).toBeLessThan(1e-3);
    for (const [name, { data }] of namedTensors(golden.gradients)) {
      expect(relativeError(gradients.get(name)?.data ?? [], data), name).toBeLessThan(1e-2);
    }
    const again = await runOnGpu(golden, 'mixed');
    expect([...again.gradients], 'the same bits when run again').toEqual([...gradients]);
  });

  it('gives the same bits when run again', async () => {
    const [first, second] = [await runOnGpu(golden), await runOnGpu(golden)];
    expect(second.lossSum).toBe(first.lossSum);
    expect([...second.gradients]).toEqual([...first.gradients]);
  });

  it('has the same loss without gradients', async () => {
    const engine = await sharedEngine();
    const weights = engine.allocate('weights', layout.totalElements);
    const loss = engine.allocate('loss', 1);
    engine.write(weights, flat);
    const program = await engine.compile(evaluationGraph(config, rows, length), {
      parameters: weights,
      layout,
      totals: new Map([['loss', loss]]),
    });
    program.setInput('ids', integers(golden.ids));
    program.setInput('targets', integers(golden.targets));
    program.setInput('lossWeights', floats(golden.lossWeights));
    program.run();
    const [lossSum = 0] = new Float32Array(await engine.read(loss));
    expect(Math.abs(lossSum / golden.lossSum - 1)).toBeLessThan(1e-6);
  });

  it('has PyTorch’s logits at every position', async () => {
    const engine = await sharedEngine();
    const weights = engine.allocate('weights', layout.totalElements);
    engine.write(weights, flat);
    const { graph, logits } = logitsGraph(config, 1, length);
    const program = await engine.compile(graph, { parameters: weights, layout, outputs: new Map([['logits', logits]]) });
    program.setInput('ids', integers(golden.ids).subarray(0, length));
    const right = floats(golden.logits);
    for (let position = 0; position < length; position++) {
      program.setInput('position', Uint32Array.of(position));
      program.run();
      const expected = right.subarray(position * config.vocab_size, (position + 1) * config.vocab_size);
      expect(relativeError(await program.readOutput('logits'), expected), `position ${position}`).toBeLessThan(1e-5);
    }
  });

  it.each([0, 0.2])('has the gradients of finite differences in f64, with dropout %f', (dropout) => {
    const graph = trainingGraph({ ...config, dropout }, rows, length);
    const inputs = new Map<string, Float64Array>([
      ['ids', Float64Array.from(integers(golden.ids))],
      ['targets', Float64Array.from(integers(golden.targets))],
      ['lossWeights', Float64Array.from(floats(golden.lossWeights))],
      ['seed', Float64Array.of(3, 1, 4, 0)],
    ]);
    const parameters = new Map([...namedTensors(golden.weights)].map(([name, { data }]) => [name, Float64Array.from(data)]));
    const { gradients } = interpret(graph, { parameters, inputs });
    const lossAt = () => interpret(graph, { parameters, inputs }).totals.get('loss') ?? Number.NaN;
    for (const [name, values] of parameters) {
      const gradient = gradients.get(name) ?? new Float64Array(0);
      expect(gradient.length, name).toBe(values.length);
      // Along its own direction, where a wrong gradient shows most.
      const norm = Math.hypot(...gradient);
      const start = values.slice();
      const change = 1e-5;
      const shifted = (sign: number) => {
        values.set(start.map((value, index) => value + (sign * change * (gradient[index] ?? 0)) / norm));
        return lossAt();
      };
      const slope = (shifted(1) - shifted(-1)) / (2 * change);
      values.set(start);
      expect(Math.abs(slope / norm - 1), name).toBeLessThan(1e-6);
    }
  });

  async function runOnGpu({ ids, targets, lossWeights }: ModelCase, precision: Precision = 'f32') {
    const engine = await sharedEngine();
    const weights = engine.allocate('weights', layout.totalElements);
    const gradients = engine.allocate('gradients', layout.totalElements);
    const loss = engine.allocate('loss', 1);
    engine.write(weights, flat);
    const program = await engine.compile(trainingGraph(config, rows, length, { precision }), {
      parameters: weights,
      layout,
      gradients,
      totals: new Map([['loss', loss]]),
    });
    program.setInput('ids', integers(ids));
    program.setInput('targets', integers(targets));
    program.setInput('lossWeights', floats(lossWeights));
    program.run();
    const [lossSum = 0] = new Float32Array(await engine.read(loss));
    return { lossSum, gradients: tensorsFromFlat(layout, new Float32Array(await engine.read(gradients))) };
  }
});

/** How each op of the golden file is applied to its inputs. */
function apply(graph: Graph, { op, attrs }: OpCase, inputs: Readonly<Record<string, Tensor>>): Tensor {
  const input = (name: string): Tensor => {
    const tensor = inputs[name];
    if (tensor === undefined) throw new Error(`${op} has no input ${name}`);
    return tensor;
  };
  switch (op) {
    case 'linear':
      return linear(graph, input('x'), input('weight'), inputs['residual']);
    case 'rmsNorm':
      return rmsNorm(graph, input('x'), input('weight'), attrs['eps'] ?? Number.NaN);
    case 'rope':
      return rope(graph, input('x'), attrs['theta'] ?? Number.NaN);
    case 'swiglu':
      return swiglu(graph, input('gate'), input('up'));
    case 'attention':
      return attention(graph, input('q'), input('k'), input('v'));
    case 'embedding':
      return embedding(graph, input('ids'), input('table'));
    case 'linearCrossEntropy':
      return linearCrossEntropy(graph, input('hidden'), input('weight'), input('targets'), input('lossWeights'));
    default:
      throw new Error(`the golden file has an op ${op} that this test does not know`);
  }
}

describe.each(readOpCases().map((golden, index) => [golden.op, index, golden] as const))('%s, golden case %i', (op, _index, golden) => {
  it('has PyTorch’s value and gradients on the GPU', async () => {
    const engine = await sharedEngine();
    const graph = new Graph({ differentiates: true });
    const differentiable = Object.keys(golden.gradients);
    const tensors = Object.fromEntries(
      Object.entries(golden.inputs).map(([name, packed]) => [
        name,
        differentiable.includes(name)
          ? graph.parameter(name, packed.shape)
          : graph.input(name, packed.shape, packed.u32 === undefined ? 'f32' : 'u32'),
      ]),
    );
    const output = apply(graph, golden, tensors);
    // A loss whose gradient by the output is the cotangent: their dot product, as a product of one row by one column.
    const size = elementCount(output.shape);
    const isLoss = op === 'linearCrossEntropy';
    const loss = isLoss
      ? output
      : linear(graph, graph.reshape(output, [1, size]), graph.input('cotangent', [1, size], 'f32'));
    valueAndGrad(graph, isLoss ? loss : graph.reshape(loss, [1]), 'loss');

    const layout = parameterLayout(differentiable.map((name) => [name, golden.inputs[name]?.shape ?? []]));
    const weights = engine.allocate('weights', layout.totalElements);
    const gradients = engine.allocate('gradients', layout.totalElements);
    const total = engine.allocate('loss', 1);
    engine.write(weights, flatFromTensors(layout, namedTensors(Object.fromEntries(differentiable.map((name) => [name, golden.inputs[name] ?? golden.output])))));
    const program = await engine.compile(graph, {
      parameters: weights,
      layout,
      gradients,
      totals: new Map([['loss', total]]),
      outputs: new Map(isLoss ? [] : [['output', output]]),
    });
    for (const [name, packed] of Object.entries(golden.inputs)) {
      if (!differentiable.includes(name)) program.setInput(name, packed.u32 === undefined ? floats(packed) : integers(packed));
    }
    if (!isLoss) program.setInput('cotangent', floats(golden.cotangent));
    program.run();
    const value = isLoss ? new Float32Array(await engine.read(total)) : await program.readOutput('output');
    expect(relativeError(value, floats(golden.output))).toBeLessThan(gradientTolerance);
    const measured = tensorsFromFlat(layout, new Float32Array(await engine.read(gradients)));
    for (const [name, { data }] of namedTensors(golden.gradients)) {
      expect(relativeError(measured.get(name)?.data ?? [], data), name).toBeLessThan(gradientTolerance);
    }
  });
});
