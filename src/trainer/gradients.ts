/**
 * A gradient job: forward and backward over its micro-batches, sums left in the gradient region. It doesn't know whose
 * job it is nor what becomes of the sums.
 */
import { weightOf } from '../data/batches.ts';
import type { MicrobatchRows } from '../data/types.ts';
import type { Engine, Memory, Program, Region } from '../engine/index.ts';
import type { Run } from './run.ts';
import type { GradientJob, GradientResult } from './types.ts';

/** What a job runs on. */
export interface GradientMachine {
  readonly engine: Engine;
  readonly program: Program;
  readonly gradients: Memory;
  readonly lossSum: Region;
  readonly seed: number;
}

/**
 * Micro-batches submitted and not yet finished: one runs while the next waits, so the GPU never does. More would only
 * delay a cancel (and unbounded queueing is slower: FACTS, "WebGPU").
 */
const runAhead = 2;

class Pace {
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

/** What dropout draws from: the micro-batch alone, so that it does not matter who computes it. */
function dropoutSeed(seed: number, step: number, index: number): Uint32Array {
  return Uint32Array.of(seed, step, index, 0);
}

/** Sum of the weighted losses of some rows, and of their weights; forward only. */
export async function sumLosses(
  run: Pick<Run, 'engine' | 'evaluation' | 'evaluationLossSum'>,
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

/** Writes a micro-batch to a program's inputs. */
export function setRows(program: Pick<Program, 'setInput'>, rows: MicrobatchRows): void {
  program.setInput('ids', rows.inputIds);
  program.setInput('targets', rows.targets);
  program.setInput('lossWeights', rows.lossWeights);
}

/** Everything that a micro-batch's forward and backward pass reads. */
export function setMicrobatch(
  program: Pick<Program, 'setInput'>,
  { seed, step, index, rows }: { readonly seed: number; readonly step: number; readonly index: number; readonly rows: MicrobatchRows },
): void {
  setRows(program, rows);
  program.setInput('seed', dropoutSeed(seed, step, index));
}

/** Overwrites the sums. `isCancelled` is asked before every micro-batch. */
export async function computeGradientJob(
  machine: GradientMachine,
  job: GradientJob,
  isCancelled: () => boolean,
): Promise<GradientResult> {
  const { engine, program, gradients, lossSum, seed } = machine;
  const startedMs = performance.now();
  let weightSum = 0;
  let tokens = 0;
  const pace = new Pace(engine);
  engine.clear(gradients, lossSum);
  for (const { index, rows } of job.microbatches) {
    await pace.ready();
    if (isCancelled()) break;
    setMicrobatch(program, { seed, step: job.step, index, rows });
    program.run();
    pace.submitted();
    weightSum += weightOf(rows);
    tokens += rows.rows * rows.contextLength;
  }
  const cancelled = isCancelled();
  // Also when cancelled: it waits until the GPU has done what was submitted.
  const [loss = Number.NaN] = new Float32Array(await engine.read(lossSum));
  return {
    assignment: job.assignment,
    step: job.step,
    lossSum: loss,
    weightSum,
    computeMs: performance.now() - startedMs,
    tokens,
    cancelled,
  };
}
