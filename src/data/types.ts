/** What data is on its way from a source to a batch. Shapes and meanings only; drawing is done in `batches.ts`. */

/** One piece of data as its source holds it; `place` names it for a person: file, and line or row. */
export type SourceDocument =
  | {
      readonly kind: 'text';
      readonly place: string;
      readonly text: string;
      /** It goes on where the one before ended, which was too large to be read at once: there is no border between. */
      readonly continues?: true;
    }
  /** A row of a table or a JSON object: a conversation, a text in one of its columns, or tokens. */
  | { readonly kind: 'record'; readonly place: string; readonly record: Readonly<Record<string, unknown>> };

/** One document as tokens. Neither attention nor loss crosses its borders, unless a run asks for it. */
export interface TokenDocument {
  readonly ids: Uint32Array;
  /** weights[i] is the loss weight of predicting ids[i] (DESIGN §5: not shifted); null: 1 everywhere. The first token is never predicted. */
  readonly weights: Float32Array | null;
  /** labels[i] is predicted in place of ids[i], where a data set says so (DESIGN §5); absent: the ids themselves. */
  readonly labels?: Uint32Array;
}

/** Rows of one micro-batch, row-major [rows, contextLength]. */
export interface MicrobatchRows {
  readonly rows: number;
  readonly contextLength: number;
  readonly inputIds: Uint32Array;
  /** targets[r, t] is what position t must predict (labels already shifted by one); any value where the weight is 0. */
  readonly targets: Uint32Array;
  /** Loss weight of predicting targets[r, t]; 0 at the last position of a row and on padding. */
  readonly lossWeights: Float32Array;
  /**
   * For each position the place in its row where its document starts: it sees nothing before that. Exactly in runs that keep
   * documents apart; absent: each row is one document.
   */
  readonly documentStarts?: Uint32Array;
}

/** What of the data is not learned from as it stands. Counted, so that a person can be told. */
export interface LeftOut {
  /** Documents with loss weights of their own that are longer than a context: their ends are cut off. */
  readonly truncated: number;
  /** Documents without a single scored token, which rows that are packed do without. */
  readonly unscored: number;
}

/**
 * Where micro-batches come from. `draw` is a pure function of (seed, step, index): same content whoever asks, whenever. Tokens that
 * are not in memory are read for it.
 */
export interface BatchSource {
  readonly microbatchesPerStep: number;
  draw(step: number, index: number): MicrobatchRows | Promise<MicrobatchRows>;
  /** Sum of loss weights of a micro-batch, known without reading it. */
  weightOfMicrobatch(step: number, index: number): number;
  /** Sum of loss weights of the whole step's batch. */
  weightOfStep(step: number): number;
  /** Fixed held-out micro-batches, never trained on; empty when nothing is held out. */
  readonly validation: readonly MicrobatchRows[];
  readonly leftOut: LeftOut;
}

/** Of tokens that are in memory: nothing has to be waited for. */
export interface MemoryBatchSource extends BatchSource {
  draw(step: number, index: number): MicrobatchRows;
}
