/**
 * What computing layers again costs and saves: one micro-batch of a decoder of twelve layers with every activation kept, and
 * with only each layer's input kept. The two run by turns, so that a busy machine slows both.
 */
import { openEngine } from '../../src/engine/index.ts';
import type { Engine, Program } from '../../src/engine/index.ts';
import { nodeGpu } from '../../src/cli/node-gpu.ts';
import { trainingGraph } from '../../src/model/decoder.ts';
import { modelSizes } from '../../src/data/presets.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { median } from './benchmark.ts';
import type { Table } from './benchmark.ts';

const layers = 12;
const [rows, contextLength] = [4, 128];
const samples = 7;
const bytesPerMebibyte = 2 ** 20;

export async function run(): Promise<readonly Table[]> {
  const engine = await openEngine(nodeGpu());
  const programs = [await compile(engine, false), await compile(engine, true)] as const;
  const times: [number[], number[]] = [[], []];
  for (let sample = -1; sample < samples; sample++) {
    for (const [index, program] of programs.entries()) {
      const startedAt = performance.now();
      program.run();
      await engine.device.queue.onSubmittedWorkDone();
      if (sample >= 0) times[index === 0 ? 0 : 1].push(performance.now() - startedAt);
    }
  }
  const { name } = engine.profile;
  engine.destroy();
  const [plain, again] = programs;
  const [plainMs, againMs] = times.map(median);
  const row = (title: string, { stats }: Program, ms = Number.NaN) => [
    title,
    ms.toFixed(1),
    (ms / (plainMs ?? Number.NaN)).toFixed(2),
    (stats.arenaBytes / bytesPerMebibyte).toFixed(1),
    (stats.arenaBytes / plain.stats.arenaBytes).toFixed(2),
    (stats.arenaBytes / stats.arenaLowerBoundBytes).toFixed(3),
  ];
  return [
    {
      title: `Activations of ${layers} layers, ${rows} rows of ${contextLength} tokens`,
      notes: [`${name}; medians of ${samples} micro-batches, forward and backward`],
      columns: ['layers', 'ms', 'of kept', 'arena MiB', 'of kept', 'of the lower bound'],
      rows: [row('kept', plain, plainMs), row('computed again', again, againMs)],
    },
  ];
}

async function compile(engine: Engine, recomputesLayers: boolean): Promise<Program> {
  const model = { ...modelSizes.small.model, num_hidden_layers: layers, vocab_size: 96, max_position_embeddings: contextLength };
  const layout = parameterLayoutOf(model);
  const program = await engine.compile(trainingGraph(model, rows, contextLength, { recomputesLayers }), {
    parameters: engine.allocateFlat('weights', layout),
    layout,
    gradients: engine.allocateFlat('gradients', layout),
    totals: new Map([['loss', engine.allocate('loss', 1)]]),
  });
  program.setInput('lossWeights', new Float32Array(rows * contextLength).fill(1));
  return program;
}
