/**
 * Batch sources: which rows make the batch of a step. Pure functions of seed and step, so that it does not matter who
 * draws, when, or how often. Reads no files and knows no tokenizers.
 */
import { DataError } from './errors.ts';
import { hashBelow } from './hash.ts';
import type { BatchSource, MicrobatchRows } from './types.ts';
import type { TokenRow } from './token-rows.ts';

export interface BatchOptions {
  readonly rowsPerStep: number;
  readonly rowsPerMicrobatch: number;
  readonly contextLength: number;
  readonly order: 'shuffled' | 'sequential';
  readonly seed: number;
}

export interface CorpusOptions extends BatchOptions {
  /** Share of the tokens, at the corpus's end, that is held out. Ignored where it would not fill one row. */
  readonly validationShare: number;
  /** The validation loss is taken on at most this many rows, spread evenly over the held-out part. */
  readonly maxValidationRows?: number;
}

/** Enough for a standard error of about 0.02 in the loss of a character model at context 128, cheap next to training. */
const defaultMaxValidationRows = 64;

/** Writes row r of a micro-batch and returns the row's sum of loss weights. */
type FillRow = (rows: Writable, slot: number, row: number) => void;

interface Writable extends MicrobatchRows {
  readonly inputIds: Uint32Array<ArrayBuffer>;
  readonly targets: Uint32Array<ArrayBuffer>;
  readonly lossWeights: Float32Array<ArrayBuffer>;
}

function emptyRows(options: BatchOptions): Writable {
  const { rowsPerMicrobatch: rows, contextLength } = options;
  const positions = rows * contextLength;
  return {
    rows,
    contextLength,
    inputIds: new Uint32Array(positions),
    targets: new Uint32Array(positions),
    lossWeights: new Float32Array(positions),
  };
}

/** Rows `from` to below `to`; slots left over are padding without loss weight. */
function microbatch(options: BatchOptions, from: number, to: number, fill: FillRow): Writable {
  const rows = emptyRows(options);
  for (let row = from; row < to; row++) fill(rows, row - from, row);
  return rows;
}

function checkOptions(options: BatchOptions): void {
  for (const key of ['rowsPerStep', 'rowsPerMicrobatch', 'contextLength'] as const) {
    if (!Number.isSafeInteger(options[key]) || options[key] < 1) throw new DataError(`${key} must be a whole number of at least 1`);
  }
  if (options.contextLength < 2) throw new DataError('contextLength must be at least 2: the last position has no target');
}

function source(
  options: BatchOptions,
  fillOfStep: (step: number) => FillRow,
  validation: readonly MicrobatchRows[],
): BatchSource {
  const { rowsPerStep, rowsPerMicrobatch } = options;
  const microbatchesPerStep = Math.ceil(rowsPerStep / rowsPerMicrobatch);
  function draw(step: number, index: number): MicrobatchRows {
    if (!(index >= 0 && index < microbatchesPerStep)) {
      throw new DataError(`micro-batch ${index} of step ${step}: a step has ${microbatchesPerStep}`);
    }
    const from = index * rowsPerMicrobatch;
    return microbatch(options, from, Math.min(from + rowsPerMicrobatch, rowsPerStep), fillOfStep(step));
  }
  return {
    microbatchesPerStep,
    validation,
    draw,
    weightOfStep(step) {
      let weight = 0;
      for (let index = 0; index < microbatchesPerStep; index++) weight += weightOf(draw(step, index));
      return weight;
    },
  };
}

/** Sum of the loss weights. */
export function weightOf(rows: MicrobatchRows): number {
  let weight = 0;
  for (const value of rows.lossWeights) weight += value;
  return weight;
}

/** Puts tokens[start, start + contextLength) into a slot: each position predicts the next token of the row. */
function fillWindow(rows: Writable, slot: number, tokens: Uint32Array, start: number): void {
  const { contextLength } = rows;
  const base = slot * contextLength;
  const window = tokens.subarray(start, start + contextLength);
  rows.inputIds.set(window, base);
  rows.targets.set(window.subarray(1), base);
  rows.lossWeights.fill(1, base, base + contextLength - 1);
}

/** Tokens a corpus needs for a context: one full row. */
export function fitsContext(tokenCount: number, contextLength: number): boolean {
  return tokenCount >= contextLength;
}

/** Length of the held-out tail: none unless it fills a row and leaves one for training. */
export function heldOutTokens(tokenCount: number, contextLength: number, share: number): number {
  const tail = Math.floor(tokenCount * share);
  return tail >= contextLength && tokenCount - tail >= contextLength ? tail : 0;
}

/**
 * Windows of a corpus. `shuffled`: each row starts anywhere in the training part, uniformly by a hash of
 * (seed, step, row). `sequential`: window after window, back to the start where no whole window is left.
 */
export function corpusBatches(tokens: Uint32Array, options: CorpusOptions): BatchSource {
  checkOptions(options);
  const { contextLength, rowsPerStep, rowsPerMicrobatch, order, seed } = options;
  if (!fitsContext(tokens.length, contextLength)) {
    throw new DataError(`the text has ${tokens.length} tokens and a row needs ${contextLength}`);
  }
  const trained = tokens.length - heldOutTokens(tokens.length, contextLength, options.validationShare);
  const training = tokens.subarray(0, trained);
  const starts = trained - contextLength + 1;
  const windows = Math.floor(trained / contextLength);

  const heldOut = tokens.subarray(trained);
  const heldOutWindows = Math.floor(heldOut.length / contextLength);
  const validationRows = Math.min(heldOutWindows, options.maxValidationRows ?? defaultMaxValidationRows);
  const validation: MicrobatchRows[] = [];
  for (let from = 0; from < validationRows; from += rowsPerMicrobatch) {
    validation.push(
      microbatch(options, from, Math.min(from + rowsPerMicrobatch, validationRows), (rows, slot, row) => {
        fillWindow(rows, slot, heldOut, Math.floor((row * heldOutWindows) / validationRows) * contextLength);
      }),
    );
  }

  return source(
    options,
    (step) => (rows, slot, row) => {
      const start =
        order === 'shuffled'
          ? hashBelow(starts, seed, step, row)
          : ((step * rowsPerStep + row) % windows) * contextLength;
      fillWindow(rows, slot, training, start);
    },
    validation,
  );
}

/** The order of all rows in one pass over a file: a seeded permutation (Fisher and Yates). */
function permutation(length: number, seed: number, pass: number): Uint32Array {
  const order = Uint32Array.from({ length }, (_, index) => index);
  for (let last = length - 1; last > 0; last--) {
    const other = hashBelow(last + 1, seed, pass, last);
    const kept = order[last] ?? 0;
    order[last] = order[other] ?? 0;
    order[other] = kept;
  }
  return order;
}

/**
 * Pre-tokenized rows. `sequential`: in file order, wrapping. `shuffled`: every row once in each pass over the file, each
 * pass in its own seeded order. Nothing is held out.
 */
export function rowBatches(tokenRows: readonly TokenRow[], options: BatchOptions): BatchSource {
  checkOptions(options);
  const { contextLength, rowsPerStep, order, seed } = options;
  const count = tokenRows.length;
  if (count === 0) throw new DataError('the data has no rows');
  const longest = tokenRows.reduce((length, row) => Math.max(length, row.inputIds.length), 0);
  if (longest > contextLength) throw new DataError(`a row has ${longest} tokens and contextLength is ${contextLength}`);

  // A step touches at most a few passes; the last one drawn is kept.
  let known: { readonly pass: number; readonly order: Uint32Array } | null = null;
  function rowAt(position: number): TokenRow {
    const within = position % count;
    let index = within;
    if (order === 'shuffled') {
      const pass = Math.floor(position / count);
      if (known?.pass !== pass) known = { pass, order: permutation(count, seed, pass) };
      index = known.order[within] ?? 0;
    }
    const row = tokenRows[index];
    if (row === undefined) throw new DataError(`row ${index} is outside the ${count} rows`);
    return row;
  }

  return source(
    options,
    (step) => (rows, slot, row) => {
      const { inputIds, targets, lossWeights } = rowAt(step * rowsPerStep + row);
      const base = slot * contextLength;
      rows.inputIds.set(inputIds, base);
      rows.targets.set(targets, base);
      rows.lossWeights.set(lossWeights, base);
    },
    [],
  );
}
