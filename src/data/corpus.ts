/**
 * A corpus as batches see it: documents one after another in one row of tokens, an index of where each begins, and a way to read
 * any stretch. Where the tokens are kept (memory, IndexedDB, a file) is decided by whoever reads.
 */
import { DataError } from './errors.ts';
import type { TokenDocument } from './types.ts';

/** Positions in a corpus are kept in 32 bits. */
export const maxCorpusTokens = 2 ** 32 - 1;

/** In memory for as long as the corpus is in use: 4 to 12 bytes for a document. */
export interface CorpusIndex {
  readonly tokenCount: number;
  /** Where each document begins, and `tokenCount` at the end: one entry more than there are documents. */
  readonly starts: Uint32Array;
  /**
   * For each document the sum of its loss weights, without its first token's, which nothing predicts; NaN where it has none of its
   * own and every token weighs 1. Null where no document has any.
   */
  readonly weightSums: Float64Array | null;
}

/** Tokens [start, end) of a corpus. */
export interface TokenStretch {
  readonly ids: Uint32Array;
  /** What is to be predicted instead of ids; null: the ids. */
  readonly labels: Uint32Array | null;
  /** weights[i] is that of predicting token i; null: 1 everywhere. */
  readonly weights: Float32Array | null;
}

export interface TokenCorpus {
  readonly index: CorpusIndex;
  readonly read: (start: number, end: number) => TokenStretch | Promise<TokenStretch>;
}

export interface MemoryCorpus extends TokenCorpus {
  readonly read: (start: number, end: number) => TokenStretch;
}

export function documentCount({ starts }: CorpusIndex): number {
  return starts.length - 1;
}

/** Sum of the loss weights of a document's tokens but the first; NaN where it has none. */
export function weightSumOf(weights: Float32Array | null): number {
  return weights === null ? Number.NaN : weights.subarray(1).reduce((sum, weight) => sum + weight, 0);
}

/** What grows into a `CorpusIndex` while documents come in. */
export class CorpusIndexBuilder {
  #starts = new Uint32Array(1024);
  #weightSums: Float64Array | null = null;
  #documents = 0;
  #tokens = 0;

  get tokenCount(): number {
    return this.#tokens;
  }

  get documentCount(): number {
    return this.#documents;
  }

  /** A document begins where the tokens so far end. */
  begin(): void {
    if (this.#documents === this.#starts.length) {
      this.#starts = grown(this.#starts, new Uint32Array(2 * this.#documents));
      if (this.#weightSums !== null) this.#weightSums = grown(this.#weightSums, new Float64Array(2 * this.#documents).fill(Number.NaN));
    }
    this.#starts[this.#documents++] = this.#tokens;
  }

  /** Tokens of the last document. Throws `DataError` where a corpus can't hold them. */
  add(tokens: number): void {
    this.#tokens += tokens;
    if (this.#tokens > maxCorpusTokens) throw new DataError(`the data has more than ${maxCorpusTokens} tokens, which is all that a run can use`);
  }

  /** Adds to what the last document weighs; only for documents with weights of their own. */
  weigh(sum: number): void {
    this.#weightSums ??= new Float64Array(this.#starts.length).fill(Number.NaN);
    const last = this.#documents - 1;
    const before = this.#weightSums[last] ?? Number.NaN;
    this.#weightSums[last] = (Number.isNaN(before) ? 0 : before) + sum;
  }

  build(): CorpusIndex {
    const starts = new Uint32Array(this.#documents + 1);
    starts.set(this.#starts.subarray(0, this.#documents));
    starts[this.#documents] = this.#tokens;
    return { tokenCount: this.#tokens, starts, weightSums: this.#weightSums?.slice(0, this.#documents) ?? null };
  }
}

function grown<T extends Uint32Array | Float64Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** One document without weights, as it is: nothing is copied. */
export function textCorpus(tokens: Uint32Array): MemoryCorpus {
  return {
    index: { tokenCount: tokens.length, starts: Uint32Array.of(0, tokens.length), weightSums: null },
    read: (start, end) => ({ ids: tokens.subarray(start, end), labels: null, weights: null }),
  };
}

/** Small data: all of it in memory. Documents without tokens are left out. */
export function memoryCorpus(documents: readonly TokenDocument[]): MemoryCorpus {
  const builder = new CorpusIndexBuilder();
  const kept = documents.filter(({ ids }) => ids.length > 0);
  for (const { ids, weights } of kept) {
    builder.begin();
    builder.add(ids.length);
    if (weights !== null) builder.weigh(weightSumOf(weights));
  }
  const index = builder.build();
  const ids = new Uint32Array(index.tokenCount);
  const labels = kept.some((document) => document.labels !== undefined) ? new Uint32Array(index.tokenCount) : null;
  const weights = index.weightSums === null ? null : new Float32Array(index.tokenCount).fill(1);
  kept.forEach((document, at) => {
    const start = index.starts[at] ?? 0;
    ids.set(document.ids, start);
    labels?.set(document.labels ?? document.ids, start);
    if (document.weights !== null) weights?.set(document.weights, start);
  });
  return {
    index,
    read: (start, end) => ({
      ids: ids.subarray(start, end),
      labels: labels?.subarray(start, end) ?? null,
      weights: weights?.subarray(start, end) ?? null,
    }),
  };
}
