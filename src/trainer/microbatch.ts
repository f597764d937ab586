/** A micro-batch as a program's inputs. Which micro-batches there are is decided elsewhere. */
import type { MicrobatchRows } from '../data/types.ts';
import type { Program } from '../engine/index.ts';
import type { TrainerSettings } from './types.ts';

/** What dropout draws from: the micro-batch alone, so that it does not matter who computes it. */
function dropoutSeed(seed: number, step: number, index: number): Uint32Array {
  return Uint32Array.of(seed, step, index, 0);
}

/** Writes a micro-batch to a program's inputs. */
export function setRows(program: Pick<Program, 'setInput'>, rows: MicrobatchRows): void {
  program.setInput('ids', rows.inputIds);
  program.setInput('targets', rows.targets);
  program.setInput('lossWeights', rows.lossWeights);
  if (rows.documentStarts !== undefined) program.setInput('documentStarts', rows.documentStarts);
}

/** Everything that a micro-batch's forward and backward pass reads. */
export function setMicrobatch(
  program: Pick<Program, 'setInput'>,
  { seed, step, index, rows }: { readonly seed: number; readonly step: number; readonly index: number; readonly rows: MicrobatchRows },
): void {
  setRows(program, rows);
  program.setInput('seed', dropoutSeed(seed, step, index));
}

/** Throws `RangeError` when these are no rows of this run. */
export function checkShape(rows: MicrobatchRows, settings: TrainerSettings): void {
  if (rows.rows !== settings.rowsPerMicrobatch || rows.contextLength !== settings.contextLength) {
    throw new RangeError(
      `a micro-batch of ${rows.rows} × ${rows.contextLength} tokens; this run's have ` +
        `${settings.rowsPerMicrobatch} × ${settings.contextLength}`,
    );
  }
  checkDocuments(rows, settings);
}

/** Throws `RangeError` unless documents are kept apart as the run does. */
export function checkDocuments({ documentStarts }: MicrobatchRows, { keepDocumentsApart = false }: TrainerSettings): void {
  if ((documentStarts !== undefined) === keepDocumentsApart) return;
  throw new RangeError(`a micro-batch ${keepDocumentsApart ? 'without' : 'with'} documents’ borders, in a run that ${keepDocumentsApart ? 'keeps documents apart' : 'does not keep documents apart'}`);
}
