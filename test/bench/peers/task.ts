/**
 * What every engine trains: the model, the optimizer and the rows, as one value that can be sent to a page. Node makes
 * it once; nobody else decides anything about it. Not here: how an engine trains it.
 */
import { memoryBatches } from '../../../src/data/batches.ts';
import { memoryCorpus } from '../../../src/data/corpus.ts';
import { tokenRow } from '../../../src/data/token-rows.ts';
import type { MemoryBatchSource, MicrobatchRows } from '../../../src/data/types.ts';
import type { DecoderConfig } from '../../../src/model/types.ts';
import type { OptimizerSettings } from '../../../src/optim/types.ts';

export interface Task {
  readonly config: DecoderConfig;
  readonly optimizer: OptimizerSettings;
  readonly contextLength: number;
  readonly rowsPerStep: number;
  /** Seeds the initial weights, which are the same for every engine. */
  readonly seed: number;
  /** JSON lines as the command line reads them: step s trains on rows s · rowsPerStep and following, wrapping. */
  readonly rows: string;
}

/** An engine that has the task's initial weights. */
export interface Contestant {
  /** The processor that its arrays are on, as it calls it itself. */
  readonly adapter: string;
  /** Trains that many further steps and waits until the device has done all of it, updates included. */
  train(steps: number): Promise<TrainedSteps>;
}

export interface TrainedSteps {
  readonly ms: number;
  /** Mean loss of each step's batch, before its update. */
  readonly losses: readonly number[];
}

/** The task's batches in micro-batches of this many rows: what the trainer, the peers and the command line all get. */
export function batchesOf(task: Task, rowsPerMicrobatch: number): MemoryBatchSource {
  const { config, contextLength, rowsPerStep, seed } = task;
  const limits = { vocabularySize: config.vocab_size, contextLength };
  const rows = task.rows.split('\n').filter((line) => line !== '').map((line, at) => tokenRow(JSON.parse(line) as Record<string, unknown>, `row ${at}`, limits));
  return memoryBatches(memoryCorpus(rows), { rowsPerStep, rowsPerMicrobatch, contextLength, order: 'sequential', seed, validationShare: 0, rowLayout: 'single' });
}

/** A step's whole batch at once, as engines without accumulation take it. */
export function wholeBatch(task: Task): (step: number) => MicrobatchRows {
  const batches = batchesOf(task, task.rowsPerStep);
  return (step) => batches.draw(step, 0);
}
