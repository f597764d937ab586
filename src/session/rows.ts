/**
 * The bytes of an assignment: its micro-batches' rows, so that a peer needs no corpus to help. Little-endian, nothing aligned:
 *
 *   u32 rows, u32 contextLength, u8 bytes of a token (1, 2 or 4), then for each micro-batch, in the order of the header's `microbatches`:
 *   ids         rows × contextLength tokens
 *   u8          1: targets are the ids shifted by one, 0 at the end of each row; 0: they follow
 *   targets     rows × contextLength tokens, if they follow
 *   u32 runs    of equal loss weights, then for each run: u32 its length, f32 its weight
 *   u32 borders in runs that keep documents apart: how many documents begin inside rows, then for each u32 its first position
 */
import type { MicrobatchRows } from '../data/types.ts';

const headerBytes = 9;
const bytesPerRun = 8;

export class RowsError extends Error {
  override readonly name = 'RowsError';
}

/** A run of equal loss weights. */
interface Run {
  readonly length: number;
  readonly weight: number;
}

function runsOf(weights: Float32Array): readonly Run[] {
  const runs: Run[] = [];
  for (let from = 0; from < weights.length; ) {
    const weight = weights[from] ?? 0;
    let end = from + 1;
    while (end < weights.length && weights[end] === weight) end += 1;
    runs.push({ length: end - from, weight });
    from = end;
  }
  return runs;
}

function shifted(ids: Uint32Array, contextLength: number): Uint32Array<ArrayBuffer> {
  const targets = new Uint32Array(ids.length);
  targets.set(ids.subarray(1));
  for (let last = contextLength - 1; last < targets.length; last += contextLength) targets[last] = 0;
  return targets;
}

/** Positions, counted through all rows, where a document begins that is not its row's first. */
function bordersOf({ documentStarts, contextLength }: MicrobatchRows): readonly number[] | null {
  if (documentStarts === undefined) return null;
  return [...documentStarts.keys()].filter((at) => at % contextLength !== 0 && documentStarts[at] === at % contextLength);
}

function areEqual(one: Uint32Array, other: Uint32Array): boolean {
  return one.every((value, at) => value === other[at]);
}

const setters = { 1: 'setUint8', 2: 'setUint16', 4: 'setUint32' } as const;
const getters = { 1: 'getUint8', 2: 'getUint16', 4: 'getUint32' } as const;
type TokenBytes = keyof typeof setters;

/** All micro-batches of a run have the same shape. */
export function encodeRows(microbatches: readonly MicrobatchRows[]): ArrayBuffer {
  const first = microbatches[0];
  if (!first) throw new RowsError('an assignment has at least one micro-batch');
  const parts = microbatches.map((microbatch) => {
    const { rows, contextLength, inputIds, targets, lossWeights } = microbatch;
    if (rows !== first.rows || contextLength !== first.contextLength) {
      throw new RowsError(`micro-batches of ${rows}×${contextLength} and ${first.rows}×${first.contextLength} in one assignment`);
    }
    return { tokens: areEqual(targets, shifted(inputIds, contextLength)) ? [inputIds] : [inputIds, targets], runs: runsOf(lossWeights), borders: bordersOf(microbatch) };
  });
  const largest = parts.reduce((most, { tokens }) => tokens.reduce((top, ids) => ids.reduce((a, b) => Math.max(a, b), top), most), 0);
  const tokenBytes: TokenBytes = largest < 2 ** 8 ? 1 : largest < 2 ** 16 ? 2 : 4;
  const positions = first.rows * first.contextLength;
  const bytesOfBorders = (borders: readonly number[] | null): number => (borders === null ? 0 : 4 + 4 * borders.length);
  const bytes = parts.reduce(
    (sum, { tokens, runs, borders }) => sum + tokens.length * positions * tokenBytes + 5 + runs.length * bytesPerRun + bytesOfBorders(borders),
    headerBytes,
  );
  const view = new DataView(new ArrayBuffer(bytes));
  view.setUint32(0, first.rows, true);
  view.setUint32(4, first.contextLength, true);
  view.setUint8(8, tokenBytes);
  let at = headerBytes;
  const put = (ids: Uint32Array): void => {
    for (const id of ids) {
      view[setters[tokenBytes]](at, id, true);
      at += tokenBytes;
    }
  };
  for (const { tokens: [ids, targets], runs, borders } of parts) {
    if (ids !== undefined) put(ids);
    view.setUint8(at, targets === undefined ? 1 : 0);
    at += 1;
    if (targets !== undefined) put(targets);
    view.setUint32(at, runs.length, true);
    at += 4;
    for (const { length, weight } of runs) {
      view.setUint32(at, length, true);
      view.setFloat32(at + 4, weight, true);
      at += bytesPerRun;
    }
    for (const value of borders === null ? [] : [borders.length, ...borders]) {
      view.setUint32(at, value, true);
      at += 4;
    }
  }
  return view.buffer;
}

export interface ExpectedRows {
  readonly microbatches: number;
  readonly rows: number;
  readonly contextLength: number;
  readonly vocabularySize: number;
  readonly keepDocumentsApart: boolean;
}

/** Takes values off the front. Throws `RowsError` where there are none left. */
class Reader {
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: ArrayBuffer) {
    this.#view = new DataView(bytes);
  }

  get isAtEnd(): boolean {
    return this.#at === this.#view.byteLength;
  }

  #take(bytes: number): number {
    const from = this.#at;
    if (from + bytes > this.#view.byteLength) throw new RowsError(`assignment of ${this.#view.byteLength} bytes, which is too short`);
    this.#at += bytes;
    return from;
  }

  byte(): number {
    return this.#view.getUint8(this.#take(1));
  }

  whole(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  float(): number {
    return this.#view.getFloat32(this.#take(4), true);
  }

  tokens(count: number, tokenBytes: TokenBytes): Uint32Array<ArrayBuffer> {
    const from = this.#take(count * tokenBytes);
    return Uint32Array.from({ length: count }, (_, index) => this.#view[getters[tokenBytes]](from + index * tokenBytes, true));
  }
}

/** Throws `RowsError` unless the bytes are exactly what the run's settings promise: they come from another peer. */
export function decodeRows(bytes: ArrayBuffer, expected: ExpectedRows): MicrobatchRows[] {
  const { rows, contextLength, vocabularySize } = expected;
  const positions = rows * contextLength;
  const reader = new Reader(bytes);
  const [givenRows, givenLength, tokenBytes] = [reader.whole(), reader.whole(), reader.byte()];
  if (givenRows !== rows || givenLength !== contextLength) {
    throw new RowsError(`assignment of ${givenRows}×${givenLength} positions instead of ${rows}×${contextLength}`);
  }
  if (tokenBytes !== 1 && tokenBytes !== 2 && tokenBytes !== 4) throw new RowsError(`assignment with ${tokenBytes} bytes for a token`);
  const tokens = (): Uint32Array<ArrayBuffer> => {
    const ids = reader.tokens(positions, tokenBytes);
    if (ids.some((id) => id >= vocabularySize)) throw new RowsError(`assignment holds a token outside the vocabulary of ${vocabularySize}`);
    return ids;
  };
  const all: MicrobatchRows[] = [];
  for (let index = 0; index < expected.microbatches; index += 1) {
    const inputIds = tokens();
    const targets = reader.byte() === 1 ? shifted(inputIds, contextLength) : tokens();
    const lossWeights = weights(reader, positions);
    const documentStarts = expected.keepDocumentsApart ? starts(reader, rows, contextLength) : null;
    all.push({ rows, contextLength, inputIds, targets, lossWeights, ...(documentStarts !== null && { documentStarts }) });
  }
  if (!reader.isAtEnd) throw new RowsError(`assignment of ${bytes.byteLength} bytes, which is too long`);
  return all;
}

function weights(reader: Reader, positions: number): Float32Array<ArrayBuffer> {
  const lossWeights = new Float32Array(positions);
  const runs = reader.whole();
  let filled = 0;
  for (let run = 0; run < runs; run += 1) {
    const [length, weight] = [reader.whole(), reader.float()];
    if (!(weight >= 0 && weight < Infinity)) throw new RowsError('assignment holds a loss weight that is negative or not finite');
    if (length === 0 || filled + length > positions) throw new RowsError(`assignment with loss weights for more than ${positions} positions`);
    lossWeights.fill(weight, filled, filled + length);
    filled += length;
  }
  if (filled !== positions) throw new RowsError(`assignment with loss weights for ${filled} of ${positions} positions`);
  return lossWeights;
}

function starts(reader: Reader, rows: number, contextLength: number): Uint32Array<ArrayBuffer> {
  const positions = rows * contextLength;
  const documentStarts = new Uint32Array(positions);
  const borders = reader.whole();
  let before = 0;
  for (let border = 0; border < borders; border += 1) {
    const at = reader.whole();
    if (at <= before || at >= positions || at % contextLength === 0) throw new RowsError('assignment with documents that begin nowhere');
    documentStarts.fill(at % contextLength, at, (Math.floor(at / contextLength) + 1) * contextLength);
    before = at;
  }
  return documentStarts;
}
