/**
 * A gradient job: forward and backward over its micro-batches, sums left in the gradient region. It doesn't know whose
 * job it is nor what becomes of the sums.
 */
import { hashBelow } from '../data/hash.ts';
import type { MicrobatchRows } from '../data/types.ts';
import type { Engine, Program, Region } from '../engine/engine.ts';
import type { GradientJob, GradientResult } from './types.ts';

/** What a job runs on. */
export interface GradientMachine {
  readonly engine: Engine;
  readonly program: Program;
  /** Gradient sums followed by the loss sum: cleared together. */
  readonly sums: Region;
  readonly lossSum: Region;
  readonly seed: number;
}

/**
 * Micro-batches submitted and not yet finished: one runs while the next waits, so the GPU never does. More would only
 * delay a cancel (and unbounded queueing is slower: FACTS, "WebGPU").
 */
const runAhead = 2;

/** Keeps this hash apart from others of (seed, step, index). */
const dropoutSalt = 0xd509;

/** What dropout draws from: a function of the micro-batch alone, so that it does not matter who computes it. */
export function dropoutSeed(seed: number, step: number, index: number): number {
  return hashBelow(2 ** 32, seed, step, index, dropoutSalt);
}

export function weightOf(rows: MicrobatchRows): number {
  return rows.lossWeights.reduce((sum, weight) => sum + weight, 0);
}

/** Writes a micro-batch to a program's inputs. */
export function setRows(program: Program, rows: MicrobatchRows): void {
  program.setInput('ids', rows.inputIds);
  program.setInput('targets', rows.targets);
  program.setInput('lossWeights', rows.lossWeights);
}

/** Overwrites the sums. `isCancelled` is asked before every micro-batch. */
export async function computeGradientJob(
  machine: GradientMachine,
  job: GradientJob,
  isCancelled: () => boolean,
): Promise<GradientResult> {
  const { engine, program, sums, lossSum, seed } = machine;
  const startedMs = performance.now();
  let weightSum = 0;
  let tokens = 0;
  const inFlight: Promise<unknown>[] = [];
  engine.clear(sums);
  for (const { index, rows } of job.microbatches) {
    if (inFlight.length >= runAhead) await inFlight.shift();
    if (isCancelled()) break;
    setRows(program, rows);
    program.setInput('seed', Uint32Array.of(dropoutSeed(seed, job.step, index)));
    program.run();
    // A lost device settles these either way; `Failure` reports the loss.
    inFlight.push(engine.device.queue.onSubmittedWorkDone().catch(() => undefined));
    weightSum += weightOf(rows);
    tokens += rows.rows * rows.contextLength;
  }
  const cancelled = isCancelled();
  if (cancelled) await Promise.all(inFlight);
  const loss = cancelled ? 0 : new Float32Array(await engine.read(lossSum))[0];
  return {
    assignment: job.assignment,
    step: job.step,
    lossSum: loss ?? 0,
    weightSum,
    computeMs: performance.now() - startedMs,
    tokens,
    cancelled,
  };
}
