/**
 * The three kernel families that carry a training step, alone, at the shapes of the Moby-Dick preset and at the shape
 * that FACTS states its figures for: milliseconds and GFLOP/s of matmul, attention and the head with its loss.
 */
import { openEngine } from '../../src/engine/device.ts';
import { Graph, parameterLayout } from '../../src/engine/index.ts';
import type { Engine, Shape, Tensor } from '../../src/engine/index.ts';
import { nodeGpu } from '../../src/cli/node-gpu.ts';
import { attentionBackwardOp, attentionOp } from '../../src/engine/ops/attention.ts';
import { linearCrossEntropyOp } from '../../src/engine/ops/linear-cross-entropy.ts';
import { matmulNN, matmulNT, matmulTN } from '../../src/engine/ops/matmul.ts';
import { median } from './benchmark.ts';
import type { Table } from './benchmark.ts';

const samples = 7;
const minSampleMs = 60;

interface KernelCase {
  readonly name: string;
  /** Multiplications and additions, counting only the unmasked half of attention. */
  readonly flops: number;
  readonly inputs: Readonly<Record<string, Shape>>;
  /** Inputs that hold whole numbers; all zero here. */
  readonly integers?: readonly string[];
  readonly build: (graph: Graph, tensor: (name: string) => Tensor) => readonly Tensor[];
}

function matmuls(m: number, n: number, k: number): readonly KernelCase[] {
  const forms = [
    { form: 'NN', op: matmulNN, a: [m, k], b: [k, n] },
    { form: 'NT', op: matmulNT, a: [m, k], b: [n, k] },
    { form: 'TN', op: matmulTN, a: [k, m], b: [k, n] },
  ];
  return forms.map(({ form, op, a, b }) => ({
    name: `matmul ${form} ${m}×${n}×${k}`,
    flops: 2 * m * n * k,
    inputs: { a, b },
    build: (graph, tensor) => graph.apply(op, [tensor('a'), tensor('b')], {}),
  }));
}

function attentions(batch: number, time: number, heads: number, kvHeads: number, size: number): readonly KernelCase[] {
  const pairs = (batch * heads * time * (time + 1)) / 2;
  const [own, shared] = [
    [batch, time, heads, size],
    [batch, time, kvHeads, size],
  ];
  const inputs = { q: own, k: shared, v: shared };
  const shape = `${batch}×${time}, ${heads} heads on ${kvHeads} of ${size}`;
  return [
    {
      name: `attention ${shape}`,
      flops: 4 * pairs * size,
      inputs,
      build: (graph, tensor) => graph.apply(attentionOp, ['q', 'k', 'v'].map(tensor), {}),
    },
    {
      name: `its gradients ${shape}`,
      flops: 14 * pairs * size,
      inputs: { ...inputs, o: own, norm: [batch, heads, time], dO: own },
      build: (graph, tensor) => graph.apply(attentionBackwardOp, ['q', 'k', 'v', 'o', 'norm', 'dO'].map(tensor), {}),
    },
  ];
}

function head(rows: number, width: number, vocabulary: number): KernelCase {
  return {
    name: `head, loss and gradients ${rows}×${width}, ${vocabulary} tokens`,
    flops: 6 * rows * width * vocabulary,
    inputs: { hidden: [rows, width], weight: [vocabulary, width], targets: [rows], lossWeights: [rows] },
    integers: ['targets'],
    build: (graph, tensor) =>
      graph.apply(linearCrossEntropyOp, ['hidden', 'weight', 'targets', 'lossWeights'].map(tensor), { differentiates: true }),
  };
}

const cases: readonly KernelCase[] = [
  ...matmuls(1024, 384, 128),
  ...matmuls(1025, 385, 129),
  ...matmuls(256, 384, 128),
  ...attentions(2, 128, 4, 2, 32),
  ...attentions(8, 128, 4, 4, 32),
  head(256, 128, 96),
];

async function measureMs(engine: Engine, { inputs, integers = [], build }: KernelCase): Promise<number> {
  const graph = new Graph({ differentiates: true });
  const tensors = new Map(
    Object.entries(inputs).map(([name, shape]) => [name, graph.input(name, shape, integers.includes(name) ? 'u32' : 'f32')]),
  );
  const results = build(graph, (name) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`the case declares no input ${name}`);
    return tensor;
  });
  const program = await engine.compile(graph, {
    parameters: engine.allocate('none', 64),
    layout: parameterLayout([]),
    outputs: new Map(results.map((tensor, index) => [`${index}`, tensor])),
  });
  for (const [name, { shape, dtype }] of tensors) {
    if (dtype === 'u32') continue;
    program.setInput(name, Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)));
  }
  const timeRuns = async (runs: number): Promise<number> => {
    const start = performance.now();
    for (let run = 0; run < runs; run++) program.run();
    await engine.device.queue.onSubmittedWorkDone();
    return performance.now() - start;
  };
  await timeRuns(1); // Software adapters compile on first use.
  const runs = Math.ceil(minSampleMs / (await timeRuns(1)));
  const times: number[] = [];
  for (let sample = 0; sample < samples; sample++) times.push((await timeRuns(runs)) / runs);
  return median(times);
}

export async function run(): Promise<readonly Table[]> {
  const engine = await openEngine(nodeGpu());
  const rows: string[][] = [];
  for (const kernel of cases) {
    const ms = await measureMs(engine, kernel);
    rows.push([kernel.name, ms.toFixed(2), (kernel.flops / ms / 1e6).toFixed(2)]);
  }
  const { name } = engine.profile;
  engine.destroy();
  const notes = [`${name}; medians of ${samples} samples, submits included`];
  return [{ title: 'Kernels', columns: ['kernel', 'ms', 'GFLOP/s'], rows, notes }];
}
