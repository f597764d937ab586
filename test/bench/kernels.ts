/**
 * The three kernel families that carry a training step, alone: matmul, attention and the head with its loss at the shapes of
 * the Moby-Dick preset and some others, and every variant of the matmul that runs here at square shapes and one past them.
 */
import { openEngine } from '../../src/engine/device.ts';
import { Graph, parameterLayout } from '../../src/engine/index.ts';
import type { Engine, Shape, Tensor } from '../../src/engine/index.ts';
import { runnableVariants, variantName } from '../../src/engine/matmul-variants.ts';
import { nodeGpu } from '../../src/cli/node-gpu.ts';
import { attentionBackwardOp, attentionOp } from '../../src/engine/ops/attention.ts';
import { linearCrossEntropyOp } from '../../src/engine/ops/linear-cross-entropy.ts';
import { matmulNN, matmulNT, matmulTN } from '../../src/engine/ops/matmul.ts';
import { median } from './benchmark.ts';
import type { Table } from './benchmark.ts';

const samples = 7;
const softwareSamples = 3;
const minSampleMs = 60;

/** What software adapters reach in a second with kernels made for GPUs. */
const slowExtent = 256;
const extent = 1024;
/** Only on GPUs. */
const largeExtents = [2048, 4096];

interface KernelCase {
  readonly name: string;
  /** Multiplications and additions, counting only the unmasked half of attention. */
  readonly flops: number;
  readonly inputs: Readonly<Record<string, Shape>>;
  /** Inputs that hold whole numbers; all zero here. */
  readonly integers?: readonly string[];
  /** The other inputs are f16. */
  readonly halves?: boolean;
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
      graph.apply(linearCrossEntropyOp, ['hidden', 'weight', 'targets', 'lossWeights'].map(tensor), { differentiates: true, labelSmoothing: 0, isWeightFrozen: false }),
  };
}

const cases: readonly KernelCase[] = [
  ...matmuls(1024, 384, 128),
  ...matmuls(1025, 385, 129),
  ...matmuls(256, 384, 128),
  ...matmuls(1, 4096, 1024),
  ...attentions(2, 128, 4, 2, 32),
  ...attentions(8, 128, 4, 4, 32),
  head(256, 128, 96),
];

/** One kernel, compiled and warm: each call runs it for a while and gives the milliseconds of one run. */
type Sampler = () => Promise<number>;

async function samplerOf(engine: Engine, { inputs, integers = [], halves = false, build }: KernelCase): Promise<Sampler> {
  const graph = new Graph({ differentiates: true });
  const tensors = new Map(
    Object.entries(inputs).map(([name, shape]) => [name, graph.input(name, shape, integers.includes(name) ? 'u32' : halves ? 'f16' : 'f32')]),
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
    const count = shape.reduce((a, b) => a * b, 1);
    if (dtype === 'f32') program.setInput(name, Float32Array.from({ length: count }, (_, i) => Math.sin(i)));
    // Pairs of halves: 1 and -0.5.
    else if (dtype === 'f16') program.setInput(name, new Uint32Array(Math.ceil(count / 2)).fill(0xb8003c00));
  }
  const timeRuns = async (runs: number): Promise<number> => {
    const start = performance.now();
    for (let run = 0; run < runs; run++) program.run();
    await engine.device.queue.onSubmittedWorkDone();
    return performance.now() - start;
  };
  await timeRuns(1); // Software adapters compile on first use.
  const runs = Math.ceil(minSampleMs / (await timeRuns(1)));
  return async () => (await timeRuns(runs)) / runs;
}

/** Medians of samples taken in turn, so that what else the machine does falls on all of them. */
async function medianMs(samplers: readonly Sampler[], count: number): Promise<number[]> {
  const times = samplers.map((): number[] => []);
  for (let sample = 0; sample < count; sample++) {
    for (const [index, sampler] of samplers.entries()) times[index]?.push(await sampler());
  }
  return times.map(median);
}

async function byKernel(engine: Engine): Promise<Table> {
  const rows: string[][] = [];
  for (const kernel of cases) {
    const [ms = NaN] = await medianMs([await samplerOf(engine, kernel)], samples);
    rows.push([kernel.name, ms.toFixed(2), gigaflops(kernel.flops, ms)]);
  }
  const chosen = Object.entries(engine.profile.matmul).map(([shapeClass, variant]) => `${shapeClass}: ${variantName(variant)}`);
  const notes = [`${engine.profile.name}; medians of ${samples} samples, submits included`, `matmul ${chosen.join(', ')}`];
  return { title: 'Kernels', columns: ['kernel', 'ms', 'GFLOP/s'], rows, notes };
}

function gigaflops(flops: number, ms: number): string {
  return (flops / ms / 1e6).toFixed(2);
}

/** Every variant at a multiple of all tiles and one past it, by turns; larger ones and f16 where they make sense. */
async function byVariant({ profile }: Engine): Promise<Table> {
  const { isSoftware, hasF16, subgroupSize } = profile;
  const rows: string[][] = [];
  for (const variant of runnableVariants(subgroupSize)) {
    const isForeign = isSoftware === (variant.kind === 'workgroup');
    if (!isSoftware && isForeign) continue;
    const size = isForeign ? slowExtent : extent;
    const engine = await openEngine(nodeGpu(), { forceMatmul: variant });
    const larger = isSoftware ? [] : largeExtents;
    for (const [form, square] of matmuls(size, size, size).entries()) {
      const shapes = [square, ...[size + 1, ...larger].map((side) => matmuls(side, side, side)[form])];
      const cubes = shapes.flatMap((kernel) => (kernel ? [kernel] : []));
      if (hasF16) cubes.push({ ...square, halves: true });
      const samplers: Sampler[] = [];
      for (const kernel of cubes) samplers.push(await samplerOf(engine, kernel));
      const times = await medianMs(samplers, isSoftware ? softwareSamples : samples);
      const [ms = NaN, msPast = NaN] = times;
      const [multiple, past, ...others] = cubes.map(({ flops }, index) => gigaflops(flops, times[index] ?? NaN));
      rows.push([`${variantName(variant)}, ${square.name}`, multiple ?? '', past ?? '', (msPast / ms).toFixed(2), ...others]);
    }
    engine.destroy();
  }
  return {
    title: 'Variants of the matmul, GFLOP/s',
    columns: [
      'variant and shape',
      'multiple',
      'one past',
      'time ratio',
      ...(isSoftware ? [] : largeExtents.map((side) => `${side}³`)),
      ...(hasF16 ? ['multiple, f16'] : []),
    ],
    rows,
    notes: [
      `${profile.name}; “one past” adds one to all three sides; medians of samples taken in turn`,
      ...(isSoftware ? [`variants for GPUs at ${slowExtent}³: they are no use here, and only shown to run`] : []),
    ],
  };
}

export async function run(): Promise<readonly Table[]> {
  const engine = await openEngine(nodeGpu(), { tuning: {} });
  const tables = [await byKernel(engine), await byVariant(engine)];
  engine.destroy();
  return tables;
}
