/** Errors of the trainer that a person can act on. They carry a `problem` and keep it across the worker's border. */
import { EngineError, type EngineErrorCode } from '../engine/index.ts';
import type { Problem } from './types.ts';

export type TrainerCode =
  | 'no-webgpu'
  | 'wrong-results'
  | 'out-of-memory'
  | 'no-spare-memory'
  | 'kept-weights-gone'
  | 'gpu-lost'
  | 'gpu-failed'
  | 'worker-failed'
  | 'trainer-closed';

type TrainerProblem = Problem & { readonly code: TrainerCode };

export class TrainerError extends Error {
  override readonly name = 'TrainerError';
  readonly problem: Problem;

  constructor(problem: Problem, cause?: unknown) {
    super(problem.message, { cause });
    this.problem = problem;
  }
}

export function isProblem(value: unknown): value is Problem {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['code', 'message', 'whatToDo'].every((key) => typeof (value as Readonly<Record<string, unknown>>)[key] === 'string')
  );
}

/** The problem an error carries (ours, storage's, or one that crossed the worker's border); null when it has none. */
export function carriedProblem(error: unknown): Problem | null {
  return typeof error === 'object' && error !== null && 'problem' in error && isProblem(error.problem)
    ? error.problem
    : null;
}

export const problems = {
  noWebGpu: (detail: string): TrainerProblem => ({
    code: 'no-webgpu',
    message: `This browser offers no GPU to compute with${detail === '' ? '' : ` (${detail})`}.`,
    whatToDo:
      'Use a current Chrome, Edge, Firefox or Safari with hardware acceleration on. Meanwhile this device can watch.',
  }),
  wrongResults: (detail: string): TrainerProblem => ({
    code: 'wrong-results',
    message: `This device's GPU computed wrong numbers in the check: ${detail}.`,
    whatToDo: 'This device can watch. An update of the graphics driver, or another browser, often helps.',
  }),
  outOfMemory: (detail: string): TrainerProblem => ({
    code: 'out-of-memory',
    message: `The GPU has not enough memory for this run${detail === '' ? '' : ` (${detail})`}.`,
    whatToDo: 'Choose a smaller model, a shorter context or fewer rows per micro-batch, or close other tabs.',
  }),
  noSpareMemory: (detail: string): TrainerProblem => ({
    code: 'no-spare-memory',
    message: `The GPU has no memory to spare for this (${detail}).`,
    whatToDo: 'Training goes on. Drop weights that you kept, or close other tabs.',
  }),
  keptWeightsGone: (): TrainerProblem => ({
    code: 'kept-weights-gone',
    message: 'The weights that were kept are no longer there.',
    whatToDo: 'Keep the weights as they are now. What is kept lasts until it is dropped, or the GPU is opened again.',
  }),
  gpuLost: (detail: string): TrainerProblem => ({
    code: 'gpu-lost',
    message: `The browser took the GPU away${detail === '' ? '' : ` (${detail})`}.`,
    whatToDo:
      'Nothing: the GPU is opened again and training goes on. If it keeps happening, close other tabs that use the GPU.',
  }),
  workerFailed: (detail: string): TrainerProblem => ({
    code: 'worker-failed',
    message: `The part of the page that trains stopped${detail === '' ? '' : ` (${detail})`}.`,
    whatToDo: 'Reload the page.',
  }),
  gpuFailed: (detail: string): TrainerProblem => ({
    code: 'gpu-failed',
    message: `The GPU refused the work: ${detail}.`,
    whatToDo: 'Reload the page. If it happens again, this device can watch; another browser often helps.',
  }),
  disposed: (): TrainerProblem => ({
    code: 'trainer-closed',
    message: 'The trainer was closed.',
    whatToDo: 'Reload the page to train again.',
  }),
} as const;

const meanings: Readonly<Record<EngineErrorCode, (detail: string) => Problem>> = {
  'no-adapter': problems.noWebGpu,
  'out-of-memory': problems.outOfMemory,
  lost: problems.gpuLost,
  failed: problems.gpuFailed,
};

/** What a failed call on the GPU means to a person. Mistakes in a call (wrong order, wrong size) stay what they are. */
export function asTrainerError(error: unknown): TrainerError {
  if (error instanceof TrainerError) return error;
  const carried = carriedProblem(error);
  if (carried !== null) return new TrainerError(carried, error);
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof EngineError ? error.code : 'failed';
  return new TrainerError(meanings[code](message), error);
}
