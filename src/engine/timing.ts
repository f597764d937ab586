/** How long the dispatches of a program take, each by itself: for benchmarks, never part of training. */
import type { DispatchTiming } from './engine.ts';
import { encodeDispatches } from './kernels.ts';
import type { ReadyDispatch } from './kernels.ts';

/** A sample lasts at least this long, so that what a submit and a wait cost is lost in it. */
const minSampleMs = 10;
const timingSamples = 3;

/**
 * Each dispatch alone, repeated in one submit: the median of a few samples, by the clock of the host. The clock serves
 * everywhere and agrees with timestamp queries as soon as a sample is much longer than a round trip to the GPU.
 */
export async function timeDispatches(device: GPUDevice, dispatches: readonly ReadyDispatch[]): Promise<readonly DispatchTiming[]> {
  const timings: DispatchTiming[] = [];
  for (const dispatch of dispatches) {
    const timeRepeats = async (repeats: number): Promise<number> => {
      const startedAt = performance.now();
      device.queue.submit([encodeDispatches(device, 'timing', Array.from({ length: repeats }, () => dispatch))]);
      await device.queue.onSubmittedWorkDone();
      return performance.now() - startedAt;
    };
    let repeats = 1;
    while ((await timeRepeats(repeats)) < minSampleMs) repeats *= 2;
    const samples: number[] = [];
    for (let sample = 0; sample < timingSamples; sample++) samples.push((await timeRepeats(repeats)) / repeats);
    samples.sort((a, b) => a - b);
    const { label, flops = 0, bindings } = dispatch.request;
    const boundBytes = bindings.reduce((sum, { lengthElements }) => sum + lengthElements * 4, 0);
    timings.push({ label, milliseconds: samples[timingSamples >> 1] ?? 0, flops, boundBytes });
  }
  return timings;
}
