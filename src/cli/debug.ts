/**
 * What `--debug` says about a run: each step in a line, the cost of each kernel, the first op that gives a number that is
 * none, and how far each kernel is from what it means. It watches; the run is the same without it.
 */
import type { GradientJob, TrainerInfo, Trainer } from '../trainer/types.ts';
import { CliError } from './errors.ts';

/** Each level does what the ones before it do; the command's help says what. */
export const debugLevels = [0, 1, 2, 3, 4] as const;
export type DebugLevel = (typeof debugLevels)[number];

type Say = (line: string) => void;

const bytesPerMebibyte = 2 ** 20;

export interface Debugging {
  /** Once, before the first step, whose job is asked for only where it is looked at. */
  begin(info: TrainerInfo, firstJob: () => Promise<GradientJob>): Promise<void>;
  /** Before each step. Throws `CliError` when the job has a value that is not finite. */
  before(job: GradientJob): Promise<void>;
  after(measured: { readonly step: number; readonly loss: number; readonly gradNorm: number; readonly lr: number; readonly tokens: number; readonly ms: number }): void;
}

export function debuggingAt(level: DebugLevel, trainer: Trainer, say: Say): Debugging {
  return {
    async begin({ gpuBytes, dispatchesPerMicrobatch, precision }, firstJob) {
      if (level >= 1) say(`${(gpuBytes / bytesPerMebibyte).toFixed(1)} MiB on the GPU, ${dispatchesPerMicrobatch} dispatches a micro-batch, ${precision}`);
      if (level >= 2) await sayKernelTimes(trainer, say);
      if (level >= 4) {
        say('relative errors of the first micro-batch’s kernels, given the inputs that they had:');
        for (const { op, relativeError } of await trainer.compareKernels(await firstJob())) say(`  ${relativeError.toExponential(1)}  ${op}`);
      }
    },
    async before(job) {
      if (level < 3) return;
      const cause = await trainer.explainNonFinite(job);
      if (cause !== null) throw new CliError(`step ${job.step}: ${cause}`);
    },
    after({ step, loss, gradNorm, lr, tokens, ms }) {
      if (level < 1) return;
      const speed = Math.round((tokens * 1000) / ms);
      say(`step ${step}: loss ${loss.toFixed(4)}, gradient norm ${gradNorm.toExponential(2)}, learning rate ${lr.toExponential(2)}, ${ms.toFixed(1)} ms, ${speed} tokens/s`);
    },
  };
}

async function sayKernelTimes(trainer: Trainer, say: Say): Promise<void> {
  const sums = new Map<string, { count: number; ms: number; flops: number }>();
  for (const { label, milliseconds, flops } of await trainer.kernelTimes()) {
    const sum = sums.get(label) ?? { count: 0, ms: 0, flops: 0 };
    sums.set(label, { count: sum.count + 1, ms: sum.ms + milliseconds, flops: sum.flops + flops });
  }
  say('kernels of a micro-batch, each dispatch timed alone:');
  for (const [label, { count, ms, flops }] of [...sums].sort(([, a], [, b]) => b.ms - a.ms)) {
    const rate = flops > 0 ? `, ${(flops / ms / 1e6).toFixed(2)} GFLOP/s` : '';
    say(`  ${ms.toFixed(2)} ms in ${count}  ${label}${rate}`);
  }
}
