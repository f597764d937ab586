/**
 * Which stretches of a corpus make which rows: windows of a running text, or documents in rows of their own. Index in, positions
 * out; reads no token, and knows nothing of steps.
 */
import type { CorpusIndex } from './corpus.ts';
import { documentCount } from './corpus.ts';
import type { LeftOut } from './types.ts';

/** A stretch of one document, as it lies in a row. */
export interface Span {
  readonly start: number;
  readonly length: number;
}

/** Rows by number, and what each of them weighs. */
export interface RowPlan {
  readonly count: number;
  row(number: number): readonly Span[];
  weight(number: number): number;
}

export const nothingLeftOut: LeftOut = { truncated: 0, unscored: 0 };

/** Some documents of a corpus, or parts of them, one after another as if there was nothing between. */
export class RunningText {
  /** Of each part, where it begins here and in the corpus; here also where the last one ends. */
  readonly #here: Uint32Array;
  readonly #inCorpus: Uint32Array;

  private constructor(here: Uint32Array, inCorpus: Uint32Array) {
    this.#here = here;
    this.#inCorpus = inCorpus;
  }

  /** The documents for which `isIn` holds, of the tokens from `from` to before `to`. */
  static of({ starts, tokenCount }: CorpusIndex, isIn: (document: number) => boolean, from = 0, to = tokenCount): RunningText {
    const here = new Uint32Array(starts.length);
    const inCorpus = new Uint32Array(starts.length);
    let parts = 0;
    let tokens = 0;
    for (let document = 0; document + 1 < starts.length; document++) {
      const begin = Math.max(from, starts[document] ?? 0);
      const end = Math.min(to, starts[document + 1] ?? 0);
      if (begin >= end || !isIn(document)) continue;
      here[parts] = tokens;
      inCorpus[parts++] = begin;
      tokens += end - begin;
    }
    here[parts] = tokens;
    return new RunningText(here.subarray(0, parts + 1), inCorpus.subarray(0, parts));
  }

  get length(): number {
    return this.#here.at(-1) ?? 0;
  }

  /** The part that holds a position: the last one that begins at or before it. */
  #partAt(position: number): number {
    let [low, high] = [0, this.#inCorpus.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#here[middle] ?? 0) <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Tokens [from, from + length), cut where documents begin. */
  spans(from: number, length: number): readonly Span[] {
    const spans: Span[] = [];
    const end = from + length;
    for (let part = this.#partAt(from); part < this.#inCorpus.length; part++) {
      const begin = Math.max(from, this.#here[part] ?? 0);
      if (begin >= end) break;
      const stop = Math.min(end, this.#here[part + 1] ?? 0);
      spans.push({ start: (this.#inCorpus[part] ?? 0) + begin - (this.#here[part] ?? 0), length: stop - begin });
    }
    return spans;
  }

  /** How many documents tokens [from, from + length) are of. */
  documentsIn(from: number, length: number): number {
    return this.#partAt(from + length - 1) - this.#partAt(from) + 1;
  }
}

/** Documents that have weights and are longer than a context: what is left of their weight is not in the index. */
export function documentsToCut({ starts, weightSums }: CorpusIndex, contextLength: number): readonly number[] {
  if (weightSums === null) return [];
  return [...weightSums.keys()].filter((document) => !Number.isNaN(weightSums[document]) && (starts[document + 1] ?? 0) - (starts[document] ?? 0) > contextLength);
}

export interface DocumentRowOptions {
  readonly contextLength: number;
  /** Several documents to a row, as many as fit, in their order; else one to a row. */
  readonly isPacked: boolean;
  readonly isIn: (document: number) => boolean;
  /** What each of `documentsToCut` weighs up to the end of its first context. */
  readonly cutWeights: ReadonlyMap<number, number>;
}

/**
 * Rows of whole documents. One with loss weights that is too long is cut off at its context's end, and counted; one without is
 * text, and goes on in further rows. Rows that are packed do without documents that have no scored token.
 */
export function documentRows(index: CorpusIndex, options: DocumentRowOptions): RowPlan & { readonly leftOut: LeftOut } {
  const { contextLength, isPacked, isIn, cutWeights } = options;
  const { starts, weightSums } = index;
  const pieces = { start: [] as number[], length: [] as number[], weight: [] as number[] };
  const firstOfRow: number[] = [];
  let [truncated, unscored, filled] = [0, 0, contextLength];
  const put = (start: number, length: number, weight: number): void => {
    if (!isPacked || filled + length > contextLength) {
      firstOfRow.push(pieces.start.length);
      filled = 0;
    }
    filled += length;
    pieces.start.push(start);
    pieces.length.push(length);
    pieces.weight.push(weight);
  };
  for (let document = 0; document < documentCount(index); document++) {
    if (!isIn(document)) continue;
    const start = starts[document] ?? 0;
    const length = (starts[document + 1] ?? 0) - start;
    const weightSum = weightSums?.[document] ?? Number.NaN;
    if (Number.isNaN(weightSum)) {
      for (let from = 0; from < length; from += contextLength) {
        const piece = Math.min(contextLength, length - from);
        if (piece > 1 || !isPacked) put(start + from, piece, piece - 1);
        else if (from === 0) unscored++;
      }
      continue;
    }
    const weight = length > contextLength ? (cutWeights.get(document) ?? 0) : weightSum;
    if (length > contextLength) truncated++;
    if (weight > 0 || !isPacked) put(start, Math.min(contextLength, length), weight);
    else unscored++;
  }
  const [rows, begins, lengths, weights] = [Uint32Array.from(firstOfRow), Uint32Array.from(pieces.start), Uint32Array.from(pieces.length), Float64Array.from(pieces.weight)];
  const range = (row: number): readonly [from: number, to: number] => [rows[row] ?? 0, rows[row + 1] ?? begins.length];
  return {
    count: rows.length,
    row(number) {
      const [from, to] = range(number);
      return Array.from({ length: to - from }, (_, at) => ({ start: begins[from + at] ?? 0, length: lengths[from + at] ?? 0 }));
    },
    weight(number) {
      const [from, to] = range(number);
      return weights.subarray(from, to).reduce((sum, weight) => sum + weight, 0);
    },
    leftOut: { truncated, unscored },
  };
}
