/**
 * Our kernels and training steps beside PyTorch's eager fp32, on one machine in one run: square products, the presets of 0.9
 * and 9 million parameters, and a model of GPT-2 small's size. Needs a `python3` that has torch; PyTorch takes CUDA where there
 * is any. On a software adapter the largest sizes are left out, and the table says so.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Graph, openEngine, parameterLayout } from '../../src/engine/index.ts';
import type { Engine } from '../../src/engine/index.ts';
import { linear } from '../../src/engine/ops/matmul.ts';
import { nodeGpu } from '../../src/cli/node-gpu.ts';
import { modelSizes, presetById } from '../../src/data/presets.ts';
import type { DecoderConfig } from '../../src/model/types.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import type { Precision } from '../../src/model/decoder.ts';
import { CannotRunError, median } from './benchmark.ts';
import type { Table } from './benchmark.ts';

const script = fileURLToPath(new URL('gpu/pytorch.py', import.meta.url));
const samples = 5;
const minSampleMs = 200;
const minStepSampleMs = 1000;
const stepSamples = 3;

interface ModelTask {
  readonly name: string;
  readonly config: DecoderConfig;
  readonly contextLength: number;
  readonly rowsPerMicrobatch: number;
  readonly microbatches: number;
}

interface TorchFigures {
  readonly device: string;
  readonly version: string;
  readonly gigaflops: readonly number[];
  readonly stepSeconds: readonly number[];
}

/** Vocabulary of Moby-Dick by characters. */
const bookVocabulary = 81;

function tasks(isSoftware: boolean): readonly ModelTask[] {
  const { contextLength, rowsPerMicrobatch, rowsPerStep } = presetById('moby-dick').settings;
  const common = { max_position_embeddings: contextLength, vocab_size: bookVocabulary, dropout: 0 };
  const ofPreset = (name: string, size: keyof typeof modelSizes): ModelTask => ({
    name,
    config: { ...modelSizes[size].model, ...common },
    contextLength,
    rowsPerMicrobatch,
    microbatches: rowsPerStep / rowsPerMicrobatch,
  });
  const presets = [ofPreset('preset of 0.9 M', 'small'), ofPreset('preset of 9 M', 'medium')];
  if (isSoftware) return presets;
  const gpt2 = {
    ...modelSizes.medium.model,
    ...common,
    vocab_size: 50_257,
    hidden_size: 768,
    intermediate_size: 2048,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    num_key_value_heads: 12,
    head_dim: 64,
    max_position_embeddings: 1024,
  };
  return [...presets, { name: '124 M, context 1024', config: gpt2, contextLength: 1024, rowsPerMicrobatch: 4, microbatches: 2 }];
}

async function torchFigures(task: object): Promise<TorchFigures> {
  return new Promise((resolve, reject) => {
    const child = execFile(process.env['PYTHON'] ?? 'python3', [script], { maxBuffer: 1 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve(JSON.parse(stdout) as TorchFigures);
      else reject(new CannotRunError(`PyTorch is needed for the comparison, and it ended with: ${stderr.trim().split('\n').at(-1) ?? error.message}`));
    });
    child.stdin?.end(JSON.stringify(task));
  });
}

async function productGigaflops(engine: Engine, n: number): Promise<number> {
  const graph = new Graph({ differentiates: false });
  const [a, b] = [graph.input('a', [n, n], 'f32'), graph.input('b', [n, n], 'f32')];
  const outputs = new Map([['c', linear(graph, a, b)]]);
  const program = await engine.compile(graph, { parameters: engine.allocate('none', 64), layout: parameterLayout([]), outputs });
  for (const name of ['a', 'b']) program.setInput(name, Float32Array.from({ length: n * n }, (_, i) => Math.sin(i)));
  const seconds = await medianMs(
    async (runs) => {
      for (let run = 0; run < runs; run++) program.run();
      await engine.device.queue.onSubmittedWorkDone();
    },
    minSampleMs,
    samples,
  );
  return (2 * n ** 3) / seconds / 1e6;
}

/** Of one run, over samples of as many runs as take `leastMs` together. */
async function medianMs(work: (runs: number) => Promise<void>, leastMs: number, count: number): Promise<number> {
  const timed = async (runs: number): Promise<number> => {
    const startedAt = performance.now();
    await work(runs);
    return performance.now() - startedAt;
  };
  await timed(1);
  const runs = Math.ceil(leastMs / (await timed(1)));
  const times: number[] = [];
  for (let sample = 0; sample < count; sample++) times.push((await timed(runs)) / runs);
  return median(times);
}

async function stepMs({ config, contextLength, rowsPerMicrobatch, microbatches }: ModelTask, precision: Precision): Promise<number> {
  const trainer = createGpuTrainer({ gpu: nodeGpu() });
  const { optimizer } = presetById('moby-dick').settings;
  await trainer.prepare({ model: config, contextLength, rowsPerMicrobatch, optimizer, steps: 1000, seed: 1, precision });
  await trainer.initialize();
  const positions = rowsPerMicrobatch * contextLength;
  const inputIds = Uint32Array.from({ length: positions }, (_, at) => (at * 4871) % config.vocab_size);
  const targets = inputIds.map((_, at) => inputIds[at + 1] ?? 0);
  const rows = { rows: rowsPerMicrobatch, contextLength, inputIds, targets, lossWeights: new Float32Array(positions).fill(1) };
  let step = 0;
  const ms = await medianMs(
    async (runs) => {
      for (let run = 0; run < runs; run++, step++) {
        const assignment = String(step);
        await trainer.beginStep(step);
        const batch = Array.from({ length: microbatches }, (_, index) => ({ index, rows }));
        const { weightSum } = await trainer.computeGradients({ assignment, step, microbatches: batch });
        await trainer.addOwnContribution(assignment);
        await trainer.commit(step, weightSum, { encodeUpdate: false, encodeGradient: false });
      }
    },
    minStepSampleMs,
    stepSamples,
  );
  await trainer.dispose();
  return ms;
}

export async function run(): Promise<readonly Table[]> {
  const engine = await openEngine(nodeGpu());
  const { name, isSoftware, hasF16 } = engine.profile;
  const products = isSoftware ? [256, 512, 1024] : [1024, 2048, 4096];
  const models = tasks(isSoftware);
  const torch = await torchFigures({ products, models });
  const rows: string[][] = [];
  const add = (work: string, unit: string, ours: number, theirs: number): void => {
    const digits = ours < 100 ? 2 : 0;
    rows.push([work, unit, ours.toFixed(digits), theirs.toFixed(digits), (ours / theirs).toFixed(2)]);
  };
  for (const [index, n] of products.entries()) add(`product ${n}³`, 'GFLOP/s', await productGigaflops(engine, n), torch.gigaflops[index] ?? Number.NaN);
  engine.destroy();
  for (const [index, model] of models.entries()) {
    const tokens = model.contextLength * model.rowsPerMicrobatch * model.microbatches;
    const theirs = tokens / (torch.stepSeconds[index] ?? Number.NaN);
    for (const precision of hasF16 ? (['f32', 'mixed'] as const) : (['f32'] as const)) {
      add(`step, ${model.name}, ${precision}`, 'tokens/s', (tokens * 1000) / (await stepMs(model, precision)), theirs);
    }
  }
  return [
    {
      title: 'Beside PyTorch, eager, fp32, TF32 off',
      notes: [
        `ours on ${name}; PyTorch ${torch.version} on ${torch.device}`,
        ...(isSoftware ? ['a software adapter: without products past 1024³ and without the model of 124 M'] : []),
      ],
      columns: ['work', 'unit', 'ours', 'PyTorch', 'ratio'],
      rows,
    },
  ];
}
