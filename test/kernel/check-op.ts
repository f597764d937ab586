/**
 * Checks ops on the GPU against what they mean: values against the f64 reference, gradients against the reference's and
 * those against central finite differences, with accumulation on and off, and bit for bit over repeats.
 */
import { expect } from 'vitest';
import { elementCount, Graph, interpret, parameterLayout, valueAndGrad } from '../../src/engine/index.ts';
import type { DType, Engine, Shape, Tensor } from '../../src/engine/index.ts';
import type { Op } from '../../src/engine/op.ts';
import { invariant } from '../../src/engine/errors.ts';
import { input, output } from '../../src/engine/ops/bindings.ts';
import { copy } from '../../src/engine/ops/elementwise.ts';

export interface GivenInput {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly values: Float64Array;
}

export interface OpCase {
  /** Tensors to differentiate by; filled with random values unless `values` has them. */
  readonly parameters: Readonly<Record<string, Shape>>;
  readonly inputs?: Readonly<Record<string, GivenInput>>;
  readonly values?: Readonly<Record<string, Float64Array>>;
  /** Applies the op. A result of one element is taken as a loss; anything else is weighted at random and summed. */
  readonly build: (graph: Graph, tensor: (name: string) => Tensor) => Tensor;
  readonly seed: number;
  /** Otherwise the op gets copies, and so finds its inputs in the arena, as it does inside a model. */
  readonly readsParametersDirectly?: boolean;
  /** Relative error allowed of a tensor against f64. */
  readonly tolerance?: number;
}

/** Deterministic numbers in (-1, 1): a counter through a 32-bit mixer. */
export function randomValues(count: number, seed: number): Float64Array {
  return Float64Array.from({ length: count }, (_, index) => {
    let state = Math.imul(seed + 1, 0x9e3779b1) + Math.imul(index + 1, 0x85ebca6b);
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d);
    state = Math.imul(state ^ (state >>> 12), 0x297a2d39);
    return ((state ^ (state >>> 15)) >>> 0) / 2 ** 31 - 1;
  });
}

/** Whole numbers from 0 up to but not including `below`. */
export function randomIntegers(count: number, below: number, seed: number): Float64Array {
  return randomValues(count, seed).map((value) => Math.floor(((value + 1) / 2) * below));
}

/** ‖actual − expected‖ / ‖expected‖, or the norm of what should be zero. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += ((actual[i] ?? Number.NaN) - (expected[i] ?? 0)) ** 2;
    size += (expected[i] ?? 0) ** 2;
  }
  return Math.sqrt(size > 0 ? difference / size : difference);
}

/** Sum of y · weights: a scalar whose gradient by y is the weights. */
const probeOp: Op<null> = {
  name: 'probe',
  infer: () => [{ shape: [1], dtype: 'f32' }],
  reference: ([y, weights]) => [Float64Array.of(y?.reduce((sum, value, i) => sum + value * (weights?.[i] ?? 0), 0) ?? 0)],
  // A copy, so that the cotangent lies in the arena, where ops may work in place.
  vjp: ({ inputs: [y, weights], graph }) => [y && weights ? copy(graph, graph.reshape(weights, y.shape)) : null, null],
  lower: ({ inputs: [y], accumulate }) => ({
    dispatches: [
      {
        label: 'probe',
        shader: `
          @group(0) @binding(0) var<storage, read> y: array<f32>;
          @group(0) @binding(1) var<storage, read> weights: array<f32>;
          @group(0) @binding(2) var<storage, read_write> loss: array<f32>;
          @compute @workgroup_size(1) fn probe() {
            var sum = 0.0;
            for (var i = 0u; i < COUNT; i++) { sum += y[i] * weights[i]; }
            loss[0] = select(0.0, loss[0], ACCUMULATE) + sum;
          }`,
        entryPoint: 'probe',
        constants: { COUNT: elementCount(y?.shape ?? []), ACCUMULATE: accumulate[0] === true },
        bindings: [input(0), input(1), output(0)],
        workgroups: [1, 1, 1],
      },
    ],
  }),
  accumulates: [true],
};

interface Traced {
  readonly graph: Graph;
  readonly result: Tensor;
  readonly loss: Tensor;
}

function trace(check: OpCase, differentiates: boolean): Traced {
  const graph = new Graph({ differentiates });
  const tensors = new Map<string, Tensor>();
  for (const [name, shape] of Object.entries(check.parameters)) {
    const parameter = graph.parameter(name, shape);
    tensors.set(name, check.readsParametersDirectly === true ? parameter : copy(graph, parameter));
  }
  for (const [name, { shape, dtype }] of Object.entries(check.inputs ?? {})) tensors.set(name, graph.input(name, shape, dtype));
  const result = check.build(graph, (name) => {
    const tensor = tensors.get(name);
    invariant(tensor !== undefined, () => `the case has no tensor ${name}`);
    return tensor;
  });
  const isLoss = elementCount(result.shape) === 1;
  const weights = isLoss ? result : graph.constant('probe weights', result.shape, () => randomValues(elementCount(result.shape), 4711));
  const loss = isLoss ? result : graph.apply1(probeOp, [result, weights], null);
  return { graph, result, loss };
}

export interface OpReport {
  readonly valueError: number;
  readonly gradientErrors: ReadonlyMap<string, number>;
}

/** Runs every comparison; returns the errors for reports. */
export async function checkOp(engine: Engine, check: OpCase): Promise<OpReport> {
  const tolerance = check.tolerance ?? 2e-5;
  const names = Object.keys(check.parameters);
  // Values that f32 holds exactly, so that both sides start from the same numbers.
  const parameters = new Map(
    names.map((name, index) => [
      name,
      (check.values?.[name] ?? randomValues(elementCount(check.parameters[name] ?? []), check.seed * 31 + index)).map(Math.fround),
    ]),
  );
  const inputs = new Map(Object.entries(check.inputs ?? {}).map(([name, given]) => [name, given.dtype === 'f32' ? given.values.map(Math.fround) : given.values]));

  const plain = trace(check, false);
  const expected = interpret(plain.graph, { parameters, inputs }).values(plain.result);
  const actual = await runValue(engine, plain, parameters, inputs, check);
  const valueError = relativeError(actual, expected);
  expect(valueError, 'values against f64').toBeLessThan(tolerance);

  const differentiated = trace(check, true);
  valueAndGrad(differentiated.graph, differentiated.loss, 'loss');
  const oracle = interpret(differentiated.graph, { parameters, inputs });
  checkFiniteDifferences(check, parameters, inputs, oracle.gradients);
  const gradientErrors = await checkGradients(engine, differentiated.graph, check, parameters, inputs, oracle.gradients, tolerance);
  return { valueError, gradientErrors };
}

type HostArrays = ReadonlyMap<string, Float64Array>;

function layoutOf(check: OpCase) {
  return parameterLayout(Object.entries(check.parameters));
}

function upload(engine: Engine, check: OpCase, parameters: HostArrays) {
  const layout = layoutOf(check);
  const region = engine.allocate('parameters', Math.max(64, layout.totalElements));
  for (const { name, offsetElements } of layout.entries) {
    engine.write(region, Float32Array.from(parameters.get(name) ?? []), offsetElements);
  }
  return { layout, region };
}

function setInputs(program: { setInput(name: string, data: Float32Array | Uint32Array): void }, check: OpCase, inputs: HostArrays): void {
  for (const [name, { dtype }] of Object.entries(check.inputs ?? {})) {
    const values = inputs.get(name) ?? [];
    program.setInput(name, dtype === 'u32' ? Uint32Array.from(values) : Float32Array.from(values));
  }
}

async function runValue(engine: Engine, { graph, result }: Traced, parameters: HostArrays, inputs: HostArrays, check: OpCase) {
  const { layout, region } = upload(engine, check, parameters);
  const program = await engine.compile(graph, { parameters: region, layout, outputs: new Map([['result', result]]) });
  setInputs(program, check, inputs);
  program.run();
  return program.readOutput('result');
}

/** Central differences of the reference, in all directions of small tensors and 24 of large ones. */
function checkFiniteDifferences(check: OpCase, parameters: HostArrays, inputs: HostArrays, gradients: HostArrays): void {
  const { graph, loss } = trace(check, false);
  const lossAt = (name: string, values: Float64Array): number =>
    interpret(graph, { parameters: new Map([...parameters, [name, values]]), inputs }).values(loss)[0] ?? Number.NaN;
  const step = 1e-5;
  for (const [name, values] of parameters) {
    const probes = values.length <= 24 ? [...values.keys()] : [...randomIntegers(24, values.length, check.seed + 99)];
    const differences = probes.map((index) => {
      const moved = (by: number): Float64Array => values.with(index, (values[index] ?? 0) + by);
      return (lossAt(name, moved(step)) - lossAt(name, moved(-step))) / (2 * step);
    });
    const found = probes.map((index) => gradients.get(name)?.[index] ?? 0);
    expect(relativeError(found, differences), `gradient of ${name} against finite differences`).toBeLessThan(1e-5);
  }
}

async function checkGradients(
  engine: Engine,
  graph: Graph,
  check: OpCase,
  parameters: HostArrays,
  inputs: HostArrays,
  expected: HostArrays,
  tolerance: number,
): Promise<ReadonlyMap<string, number>> {
  const { layout, region } = upload(engine, check, parameters);
  const gradients = engine.allocate('gradients', Math.max(64, layout.totalElements));
  const loss = engine.allocate('loss', 1);
  const program = await engine.compile(graph, { parameters: region, layout, gradients, totals: new Map([['loss', loss]]) });
  setInputs(program, check, inputs);
  const runs: Uint32Array[] = [];
  for (let repeat = 0; repeat < 10; repeat++) {
    engine.clear(gradients);
    program.run();
    runs.push(new Uint32Array(await engine.read(gradients)));
  }
  const [first] = runs;
  invariant(first !== undefined, () => 'there was a run');
  for (const run of runs) expect(run.every((bits, i) => bits === first[i]), 'ten runs are equal bit for bit').toBe(true);
  program.run();
  const once = new Float32Array(first.buffer);
  const twice = new Float32Array(await engine.read(gradients));
  const errors = new Map<string, number>();
  for (const { name, offsetElements, lengthElements } of layout.entries) {
    const range = [offsetElements, offsetElements + lengthElements] as const;
    const wanted = expected.get(name) ?? new Float64Array(lengthElements);
    const error = relativeError(once.subarray(...range), wanted);
    expect(error, `gradient of ${name} against f64`).toBeLessThan(tolerance);
    const doubled = wanted.map((value) => value * 2);
    expect(relativeError(twice.subarray(...range), doubled), `gradient of ${name}, accumulated over two runs`).toBeLessThan(tolerance);
    errors.set(name, error);
  }
  await checkWithoutAccumulation(engine, graph, { layout, region }, check, inputs, expected, tolerance);
  return errors;
}

/** The same backward graph with its gradients stored in the arena: the sum of a parameter's parts must be the same. */
async function checkWithoutAccumulation(
  engine: Engine,
  graph: Graph,
  { layout, region }: ReturnType<typeof upload>,
  check: OpCase,
  inputs: HostArrays,
  expected: HostArrays,
  tolerance: number,
): Promise<void> {
  const outputs = new Map<string, Tensor>();
  const partsOf = new Map<string, string[]>();
  for (const tensor of graph.nodes.flatMap((node) => node.outputs)) {
    const target = graph.accumulations.get(tensor.id);
    if (target?.kind !== 'gradient') continue;
    const label = `${target.name} ${tensor.id}`;
    outputs.set(label, tensor);
    partsOf.set(target.name, [...(partsOf.get(target.name) ?? []), label]);
  }
  graph.accumulations.clear();
  const program = await engine.compile(graph, { parameters: region, layout, outputs });
  setInputs(program, check, inputs);
  program.run();
  program.run();
  for (const [name, labels] of partsOf) {
    const parts = await Promise.all(labels.map((label) => program.readOutput(label)));
    const sum = Float64Array.from(parts[0] ?? [], (_, i) => parts.reduce((total, part) => total + (part[i] ?? 0), 0));
    expect(relativeError(sum, expected.get(name) ?? []), `gradient of ${name}, stored`).toBeLessThan(tolerance);
  }
}
