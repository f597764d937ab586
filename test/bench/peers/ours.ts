/** Our training step as a page runs it: the real trainer in its worker, called as a coordinator alone calls it. */
import { startTrainerWorker } from '../../../src/trainer/client.ts';
import { batchesOf } from './task.ts';
import type { Contestant, Task } from './task.ts';

/** Longer than any measurement; with a constant learning rate it changes nothing. */
const plannedSteps = 1_000_000;

export async function openOurs(task: Task, rowsPerMicrobatch: number): Promise<Contestant> {
  const { config: model, contextLength, optimizer, seed } = task;
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  const { trainer } = startTrainerWorker();
  await trainer.prepare({ model, contextLength, rowsPerMicrobatch, optimizer, steps: plannedSteps, seed });
  await trainer.initialize();
  const batches = batchesOf(task, rowsPerMicrobatch);
  let step = 0;

  async function trainStep(): Promise<number> {
    const assignment = String(step);
    const microbatches = Array.from({ length: batches.microbatchesPerStep }, (_, index) => ({ index, rows: batches.draw(step, index) }));
    await trainer.beginStep(step);
    const { lossSum, weightSum } = await trainer.computeGradients({ assignment, step, microbatches });
    await trainer.addOwnContribution(assignment);
    // Answers when the weights have been read for their hash: the GPU is done.
    await trainer.commit(step, weightSum, { encodeUpdate: false, encodeGradient: false });
    step++;
    return lossSum / weightSum;
  }

  return {
    adapter: adapter === null ? 'none' : adapterName(adapter.info),
    async train(steps) {
      const losses: number[] = [];
      const startedMs = performance.now();
      for (let count = 0; count < steps; count++) losses.push(await trainStep());
      return { ms: performance.now() - startedMs, losses };
    },
  };
}

export function adapterName({ vendor, architecture, description }: GPUAdapterInfo): string {
  return [vendor, architecture, description].filter((part) => part !== '').join(' ');
}
