/**
 * A person's files made into a corpus of this browser, in a worker of its own: with progress, and an end at any moment. What is done with
 * them is `data`'s affair. Loaded when it is needed.
 */
import { proxy, wrap } from 'comlink';
import type { PreparationProgress } from '../data/preparation.ts';
import type { DataChoice } from '../data/sources/choice.ts';
import type { PrepareApi, Reading } from './prepare-worker.ts';
import { problem } from './problems.ts';
import { RunError } from './run.ts';
import type { PreparedData } from './types.ts';

export interface Preparing {
  /** Rejects with an error that has a `problem`; never after `cancel`. */
  readonly done: Promise<PreparedData>;
  /** At once; what was stored by then is removed. */
  cancel(): void;
}

export function prepareData(choice: DataChoice, reading: Reading, onProgress: (progress: PreparationProgress) => void): Preparing {
  const worker = start();
  const corpus = crypto.randomUUID();
  const remote = wrap<PrepareApi>(worker);
  let isOver = false;
  const done = new Promise<PreparedData>((resolve, reject) => {
    worker.addEventListener('error', ({ message }) => {
      reject(new Error(message));
    });
    remote.prepare(choice, reading, corpus, proxy(onProgress)).then(resolve, reject);
  });
  const end = (): void => {
    isOver = true;
    worker.terminate();
  };
  return {
    done: done.then(
      (data) => {
        end();
        return data;
      },
      (error: unknown) => {
        end();
        discard(corpus);
        throw explained(error);
      },
    ),
    cancel() {
      if (isOver) return;
      end();
      discard(corpus);
    },
  };
}

function start(): Worker {
  return new Worker(new URL('./prepare-worker.ts', import.meta.url), { type: 'module', name: 'cotrain-data' });
}

/** Pieces of what was never finished, by a worker that does nothing else. */
function discard(corpus: string): void {
  const worker = start();
  void wrap<PrepareApi>(worker)
    .discard(corpus)
    .catch(() => undefined) // Where nothing can be stored, nothing is there.
    .finally(() => {
      worker.terminate();
    });
}

/** By name, since it crossed the worker's border. */
function explained(error: unknown): unknown {
  return error instanceof Error && error.name === 'DataError' ? new RunError(problem('bad-data', `${error.message}.`)) : error;
}
