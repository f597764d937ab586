/**
 * A gradient job: forward and backward over its micro-batches, sums left in the gradient region. It doesn't know whose
 * job it is nor what becomes of the sums.
 */
import { weightOf } from '../data/batches.ts';
import type { MicrobatchRows } from '../data/types.ts';
import type { Engine, Memory, Program, Region } from '../engine/index.ts';
import type { GradientScaler } from '../optim/index.ts';
import { setMicrobatch, setRows } from './microbatch.ts';
import type { MixedPrecision } from './mixed-precision.ts';
import type { GradientJob, GradientResult } from './types.ts';

/** What a job runs on. */
export interface GradientMachine {
  readonly engine: Engine;
  readonly program: Program;
  readonly gradients: Memory;
  readonly lossSum: Region;
  readonly seed: number;
  /** Where `program` stores activations in f16; null where it does not. */
  readonly mixed: MixedPrecision | null;
}

/**
 * Micro-batches submitted and not yet finished: one runs while the next waits, so the GPU never does. More would only
 * delay a cancel (and unbounded queueing is slower: FACTS, "WebGPU").
 */
const runAhead = 2;

/** Keeps the queue full, and no fuller. */
export class Pace {
  readonly #queue: GPUQueue;
  readonly #inFlight: Promise<unknown>[] = [];

  constructor(engine: Engine) {
    this.#queue = engine.device.queue;
  }

  /** Resolves when one more may be submitted. */
  async ready(): Promise<void> {
    if (this.#inFlight.length >= runAhead) await this.#inFlight.shift();
  }

  submitted(): void {
    // A lost device settles this either way; the trainer reports the loss.
    this.#inFlight.push(this.#queue.onSubmittedWorkDone().catch(() => undefined));
  }
}

/** What an evaluation runs on. */
export interface EvaluationMachine {
  readonly engine: Engine;
  readonly evaluationLossSum: Region;
  evaluation(rows: number, contextLength: number): Promise<Program>;
}

/** Sum of the weighted losses of some rows, and of their weights; forward only. */
export async function sumLosses(
  run: EvaluationMachine,
  microbatches: readonly MicrobatchRows[],
): Promise<{ readonly lossSum: number; readonly weightSum: number }> {
  const { engine, evaluationLossSum } = run;
  const pace = new Pace(engine);
  let weightSum = 0;
  engine.clear(evaluationLossSum);
  for (const rows of microbatches) {
    const program = await run.evaluation(rows.rows, rows.contextLength);
    await pace.ready();
    setRows(program, rows);
    program.run();
    pace.submitted();
    weightSum += weightOf(rows);
  }
  const [lossSum = Number.NaN] = new Float32Array(await engine.read(evaluationLossSum));
  return { lossSum, weightSum };
}

/** Overwrites the sums. `isCancelled` is asked before every micro-batch. */
export async function computeGradientJob(
  machine: GradientMachine,
  job: GradientJob,
  isCancelled: () => boolean,
): Promise<GradientResult> {
  const startedMs = performance.now();
  const { lossSum, weightSum, tokens } = await sumGradients(machine, job, isCancelled);
  return {
    assignment: job.assignment,
    step: job.step,
    lossSum,
    weightSum,
    computeMs: performance.now() - startedMs,
    tokens,
    cancelled: isCancelled(),
  };
}

/** Overwrites the sums, and waits for them. */
export async function sumGradients(machine: GradientMachine, job: GradientJob, isCancelled: () => boolean): Promise<Sums> {
  const { program, mixed } = machine;
  return (
    (mixed && (await computeMixed(machine, mixed, job, isCancelled))) ??
    computeScaled(machine, mixed ? await mixed.exactProgram() : program, job, 1, isCancelled)
  );
}

/** With as large a scale as doesn't overflow; null when f16 can't hold this job at any. */
async function computeMixed(
  machine: GradientMachine,
  { lossScale, scaler }: MixedPrecision,
  job: GradientJob,
  isCancelled: () => boolean,
): Promise<Sums | null> {
  for (;;) {
    const scale = lossScale.value;
    const sums = await computeScaled(machine, machine.program, job, scale, isCancelled, scaler);
    if (isCancelled()) return sums;
    if (sums.areFinite) {
      lossScale.succeeded();
      return sums;
    }
    // A loss that is no number overflowed on the way to it, which a smaller scale can't help.
    if (!Number.isFinite(sums.lossSum) || !lossScale.shrink()) return null;
  }
}

interface Queued {
  readonly weightSum: number;
  readonly tokens: number;
}

export interface Sums extends Queued {
  readonly lossSum: number;
  /** Of loss and gradients; unknown, and taken for true, without a scaler. */
  readonly areFinite: boolean;
}

/** Sums gradients of the losses times `scale`, and scales them down again. */
async function computeScaled(
  machine: GradientMachine,
  program: Program,
  job: GradientJob,
  scale: number,
  isCancelled: () => boolean,
  scaler?: GradientScaler,
): Promise<Sums> {
  const { engine, gradients, lossSum } = machine;
  engine.clear(gradients, lossSum);
  const queued = await queueMicrobatches(machine, program, job, { scale, isCancelled, pace: new Pace(engine) });
  scaler?.multiply(1 / scale);
  // Also when cancelled: it waits until the GPU has done what was submitted.
  const [loss, wereFinite] = await Promise.all([readLoss(machine), scaler?.wereFinite() ?? true]);
  return { ...queued, lossSum: loss / scale, areFinite: wereFinite && Number.isFinite(loss) };
}

/** Adds to sums of gradients and losses, times `scale`; they are not waited for. */
export async function queueMicrobatches(
  { seed }: GradientMachine,
  program: Program,
  { step, microbatches }: GradientJob,
  { scale, isCancelled, pace }: { readonly scale: number; readonly isCancelled: () => boolean; readonly pace: Pace },
): Promise<Queued> {
  let weightSum = 0;
  let tokens = 0;
  for (const { index, rows } of microbatches) {
    await pace.ready();
    if (isCancelled()) break;
    const lossWeights = scale === 1 ? rows.lossWeights : rows.lossWeights.map((weight) => weight * scale);
    setMicrobatch(program, { seed, step, index, rows: { ...rows, lossWeights } });
    program.run();
    pace.submitted();
    weightSum += weightOf(rows);
    tokens += rows.rows * rows.contextLength;
  }
  return { weightSum, tokens };
}

export async function readLoss({ engine, lossSum }: Pick<GradientMachine, 'engine' | 'lossSum'>): Promise<number> {
  const [loss = Number.NaN] = new Float32Array(await engine.read(lossSum));
  return loss;
}
