/**
 * Batch sources: which rows make the batch of a step. Pure functions of seed and step, so that it does not matter who
 * draws, when, or how often. Reads tokens through a corpus and knows no tokenizers.
 */
import type { CorpusIndex, MemoryCorpus, TokenCorpus, TokenStretch } from './corpus.ts';
import { textCorpus, weightSumOf } from './corpus.ts';
import { DataError } from './errors.ts';
import { hashBelow } from './hash.ts';
import { heldOutDocuments, permutation } from './held-out.ts';
import { RunningText, documentRows, documentsToCut, nothingLeftOut } from './row-plan.ts';
import type { RowPlan, Span } from './row-plan.ts';
import type { BatchSource, LeftOut, MemoryBatchSource, MicrobatchRows } from './types.ts';

export interface BatchOptions {
  readonly rowsPerStep: number;
  readonly rowsPerMicrobatch: number;
  readonly contextLength: number;
  readonly order: 'shuffled' | 'sequential';
  readonly seed: number;
}

/**
 * `text`: windows of all documents one after another, each as long as a context. `packed`: rows of as many whole documents as fit.
 * `single`: a document to a row, padded with unscored positions.
 */
export type RowLayout = 'text' | 'packed' | 'single';

export interface CorpusOptions extends BatchOptions {
  /**
   * Share of the tokens that is held out: whole documents, by seed; of a text in one document its end. Ignored where it would not
   * fill one row.
   */
  readonly validationShare: number;
  /** The validation loss is taken on at most this many rows, spread evenly over the held-out part. */
  readonly maxValidationRows?: number;
  /** Default: `text`. */
  readonly rowLayout?: RowLayout;
  /** Documents of a row don't see each other, and none is asked for the next one's first token. Default: no. */
  readonly keepDocumentsApart?: boolean;
}

/** Enough for a standard error of about 0.02 in the loss of a character model at context 128, cheap next to training. */
const defaultMaxValidationRows = 64;

/** What a step's rows and the held-out ones are made of. */
interface BatchPlan {
  readonly microbatchesPerStep: number;
  /** Rows of a micro-batch; slots left over are padding without loss weight. */
  readonly rows: (step: number, index: number) => readonly (readonly Span[])[];
  readonly weight: (step: number, index: number) => number;
  readonly validation: readonly (readonly (readonly Span[])[])[];
  readonly leftOut: LeftOut;
}

function checkOptions(options: BatchOptions): void {
  for (const key of ['rowsPerStep', 'rowsPerMicrobatch', 'contextLength'] as const) {
    if (!Number.isSafeInteger(options[key]) || options[key] < 1) throw new DataError(`${key} must be a whole number of at least 1`);
  }
  if (options.contextLength < 2) throw new DataError('contextLength must be at least 2: the last position has no target');
}

/** Sum of the loss weights. */
export function weightOf(rows: MicrobatchRows): number {
  let weight = 0;
  for (const value of rows.lossWeights) weight += value;
  return weight;
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

/** Those rows of a step that a micro-batch has, by what stands in each of the step's slots. */
function planOfSteps(
  { rowsPerStep, rowsPerMicrobatch }: BatchOptions,
  slot: (step: number, row: number) => { readonly spans: () => readonly Span[]; readonly weight: () => number },
): Pick<BatchPlan, 'microbatchesPerStep' | 'rows' | 'weight'> {
  const microbatchesPerStep = Math.ceil(rowsPerStep / rowsPerMicrobatch);
  function slots(step: number, index: number): ReturnType<typeof slot>[] {
    if (!(index >= 0 && index < microbatchesPerStep)) {
      throw new DataError(`micro-batch ${index} of step ${step}: a step has ${microbatchesPerStep}`);
    }
    const from = index * rowsPerMicrobatch;
    return Array.from({ length: Math.min(rowsPerMicrobatch, rowsPerStep - from) }, (_, at) => slot(step, from + at));
  }
  return {
    microbatchesPerStep,
    rows: (step, index) => slots(step, index).map(({ spans }) => spans()),
    weight: (step, index) => slots(step, index).reduce((sum, { weight }) => sum + weight(), 0),
  };
}

/** Some of these rows, spread evenly over all, in micro-batches. */
function validationOf(options: CorpusOptions, count: number, row: (number: number) => readonly Span[]): BatchPlan['validation'] {
  const { rowsPerMicrobatch } = options;
  const rows = Math.min(count, options.maxValidationRows ?? defaultMaxValidationRows);
  return Array.from({ length: Math.ceil(rows / rowsPerMicrobatch) }, (_, batch) => {
    const from = batch * rowsPerMicrobatch;
    return Array.from({ length: Math.min(rowsPerMicrobatch, rows - from) }, (_each, at) => row(Math.floor(((from + at) * count) / rows)));
  });
}

/** The documents to train on and those that are held out; of one document, or of few large ones, beginning and end. */
function splitText(index: CorpusIndex, { contextLength, seed, validationShare }: CorpusOptions): { readonly training: RunningText; readonly heldOut: RunningText } {
  const all = (): boolean => true;
  const held = heldOutDocuments(index, seed, validationShare);
  if (held !== null) {
    const training = RunningText.of(index, (document) => held[document] === 0);
    const heldOut = RunningText.of(index, (document) => held[document] === 1);
    if (fitsContext(heldOut.length, contextLength) && fitsContext(training.length, contextLength)) return { training, heldOut };
  }
  const trained = index.tokenCount - heldOutTokens(index.tokenCount, contextLength, validationShare);
  return { training: RunningText.of(index, all, 0, trained), heldOut: RunningText.of(index, all, trained) };
}

/**
 * Windows of a corpus. `shuffled`: each row starts anywhere in the training part, uniformly by a hash of
 * (seed, step, row). `sequential`: window after window, back to the start where no whole window is left.
 */
function planText(index: CorpusIndex, options: CorpusOptions): BatchPlan {
  const { contextLength, rowsPerStep, order, seed, keepDocumentsApart = false } = options;
  if (index.weightSums !== null) throw new RangeError('documents with loss weights of their own are drawn in rows');
  if (!fitsContext(index.tokenCount, contextLength)) {
    throw new DataError(`the text has ${index.tokenCount} tokens and a row needs ${contextLength}`);
  }
  const { training, heldOut } = splitText(index, options);
  const starts = training.length - contextLength + 1;
  const windows = Math.floor(training.length / contextLength);
  const heldOutWindows = Math.floor(heldOut.length / contextLength);
  return {
    ...planOfSteps(options, (step, row) => {
      const start =
        order === 'shuffled'
          ? hashBelow(starts, seed, step, row)
          : ((step * rowsPerStep + row) % windows) * contextLength;
      return {
        spans: () => training.spans(start, contextLength),
        // The last token of each document has nothing to predict, or of the row.
        weight: () => contextLength - (keepDocumentsApart ? training.documentsIn(start, contextLength) : 1),
      };
    }),
    validation: validationOf(options, heldOutWindows, (window) => heldOut.spans(window * contextLength, contextLength)),
    leftOut: nothingLeftOut,
  };
}

/**
 * Rows of documents. `sequential`: in their order, wrapping. `shuffled`: every row once in each pass over them, each
 * pass in its own seeded order.
 */
function planDocuments(index: CorpusIndex, options: CorpusOptions, cutWeights: ReadonlyMap<number, number>): BatchPlan {
  const { contextLength, rowsPerStep, order, seed, rowLayout, validationShare } = options;
  const held = heldOutDocuments(index, seed, validationShare);
  const rowsOf = (isIn: (document: number) => boolean): RowPlan & { readonly leftOut: LeftOut } =>
    documentRows(index, { contextLength, isPacked: rowLayout === 'packed', isIn, cutWeights });
  const plan = rowsOf((document) => held === null || held[document] === 0);
  if (plan.count === 0) throw new DataError(index.tokenCount === 0 ? 'the data has no rows' : 'the data has no scored token');
  const heldOut = rowsOf((document) => held !== null && held[document] === 1);

  // A step touches at most a few passes; the last one drawn is kept.
  let known: { readonly pass: number; readonly order: Uint32Array } | null = null;
  function numberAt(position: number): number {
    const within = position % plan.count;
    if (order === 'sequential') return within;
    const pass = Math.floor(position / plan.count);
    if (known?.pass !== pass) known = { pass, order: permutation(plan.count, seed, pass) };
    return known.order[within] ?? 0;
  }
  return {
    ...planOfSteps(options, (step, row) => {
      const number = numberAt(step * rowsPerStep + row);
      return { spans: () => plan.row(number), weight: () => plan.weight(number) };
    }),
    validation: validationOf(options, heldOut.count, (row) => heldOut.row(row)),
    leftOut: { truncated: plan.leftOut.truncated + heldOut.leftOut.truncated, unscored: plan.leftOut.unscored + heldOut.leftOut.unscored },
  };
}

/** What is read for some rows, in their order: neighbouring spans at once. */
function stretchesOf(rows: readonly (readonly Span[])[]): readonly { readonly start: number; readonly end: number }[] {
  return rows.flatMap((spans) => {
    const stretches: { readonly start: number; readonly end: number }[] = [];
    for (const { start, length } of spans) {
      const before = stretches.at(-1);
      if (before?.end === start) stretches.splice(-1, 1, { start: before.start, end: start + length });
      else stretches.push({ start, end: start + length });
    }
    return stretches;
  });
}

/** Rows of a micro-batch from what `stretchesOf` asked for. */
function assemble(options: CorpusOptions, rows: readonly (readonly Span[])[], stretches: readonly TokenStretch[]): MicrobatchRows {
  const { rowsPerMicrobatch, contextLength, rowLayout = 'text', keepDocumentsApart = false } = options;
  const positions = rowsPerMicrobatch * contextLength;
  const inputIds = new Uint32Array(positions);
  const targets = new Uint32Array(positions);
  const lossWeights = new Float32Array(positions);
  const documentStarts = keepDocumentsApart ? new Uint32Array(positions) : null;
  const runsOn = rowLayout === 'text' && !keepDocumentsApart;
  let next = 0;
  for (const [slot, spans] of rows.entries()) {
    const base = slot * contextLength;
    let place = 0;
    for (let at = 0; at < spans.length; ) {
      const stretch = stretches[next++];
      if (stretch === undefined) throw new RangeError('a row was not read');
      const { ids, labels, weights } = stretch;
      inputIds.set(ids, base + place);
      targets.set(labels ?? ids, base + place);
      // As many spans as were read at once.
      for (let from = 0; from < ids.length; at++) {
        const length = spans[at]?.length ?? 0;
        // A text runs on into the next document, also over what is held out.
        const scored = runsOn && at + 1 < spans.length ? length : length - 1;
        if (weights === null) lossWeights.fill(1, base + place, base + place + scored);
        else lossWeights.set(weights.subarray(from + 1, from + 1 + scored), base + place);
        documentStarts?.fill(place, base + place, base + place + length);
        from += length;
        place += length;
      }
    }
    // Each position is asked for what stands at the next one.
    targets.copyWithin(base, base + 1, base + contextLength);
    targets[base + contextLength - 1] = 0;
    // Padding belongs to the last document.
    if (place > 0) documentStarts?.fill(documentStarts[base + place - 1] ?? 0, base + place, base + contextLength);
  }
  return { rows: rowsPerMicrobatch, contextLength, inputIds, targets, lossWeights, ...(documentStarts !== null && { documentStarts }) };
}

function countsOf({ microbatchesPerStep, weight, leftOut }: BatchPlan): Pick<BatchSource, 'microbatchesPerStep' | 'weightOfMicrobatch' | 'weightOfStep' | 'leftOut'> {
  return {
    microbatchesPerStep,
    leftOut,
    weightOfMicrobatch: weight,
    weightOfStep: (step) => Array.from({ length: microbatchesPerStep }, (_, index) => weight(step, index)).reduce((sum, each) => sum + each, 0),
  };
}

/** What is read of documents that have to be cut before rows can be planned. */
function cutStretches(index: CorpusIndex, { contextLength, rowLayout = 'text' }: CorpusOptions): readonly { readonly document: number; readonly start: number; readonly end: number }[] {
  if (rowLayout === 'text') return [];
  return documentsToCut(index, contextLength).map((document) => {
    const start = index.starts[document] ?? 0;
    return { document, start, end: start + contextLength };
  });
}

function planOf(index: CorpusIndex, options: CorpusOptions, cutWeights: ReadonlyMap<number, number>): BatchPlan {
  checkOptions(options);
  return (options.rowLayout ?? 'text') === 'text' ? planText(index, options) : planDocuments(index, options, cutWeights);
}

/** Batches of a corpus that is in memory. Throws `DataError` when it can't fill a row. */
export function memoryBatches(corpus: MemoryCorpus, options: CorpusOptions): MemoryBatchSource {
  const cut = cutStretches(corpus.index, options);
  const plan = planOf(corpus.index, options, new Map(cut.map(({ document, start, end }) => [document, weightSumOf(corpus.read(start, end).weights)])));
  const draw = (rows: readonly (readonly Span[])[]): MicrobatchRows =>
    assemble(options, rows, stretchesOf(rows).map(({ start, end }) => corpus.read(start, end)));
  return { ...countsOf(plan), draw: (step, index) => draw(plan.rows(step, index)), validation: plan.validation.map(draw) };
}

/** The same rows of a corpus wherever it is kept. The held-out rows are read at once, since they are needed again and again. */
export async function openBatches(corpus: TokenCorpus, options: CorpusOptions): Promise<BatchSource> {
  const cutWeights = new Map<number, number>();
  for (const { document, start, end } of cutStretches(corpus.index, options)) {
    cutWeights.set(document, weightSumOf((await corpus.read(start, end)).weights));
  }
  const plan = planOf(corpus.index, options, cutWeights);
  const draw = async (rows: readonly (readonly Span[])[]): Promise<MicrobatchRows> =>
    assemble(options, rows, await Promise.all(stretchesOf(rows).map(async ({ start, end }) => corpus.read(start, end))));
  const validation: MicrobatchRows[] = [];
  for (const rows of plan.validation) validation.push(await draw(rows));
  return { ...countsOf(plan), draw: (step, index) => draw(plan.rows(step, index)), validation };
}

/** Windows of one text without borders. */
export function corpusBatches(tokens: Uint32Array, options: CorpusOptions): MemoryBatchSource {
  return memoryBatches(textCorpus(tokens), options);
}
