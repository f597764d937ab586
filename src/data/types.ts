/** What data is on its way from a source to a batch. Shapes and meanings only; drawing is done in `batches.ts`. */

/** One piece of data as its source holds it; `place` names it for a person: file, and line or row. */
export type SourceDocument =
  | { readonly kind: 'text'; readonly place: string; readonly text: string }
  /** A row of a table or a JSON object: a conversation, a text in one of its columns, or tokens. */
  | { readonly kind: 'record'; readonly place: string; readonly record: Readonly<Record<string, unknown>> };

/** One document as tokens. Neither attention nor loss crosses its borders, unless a run asks for it. */
export interface TokenDocument {
  readonly ids: Uint32Array;
  /** weights[i] is the loss weight of predicting ids[i] (DESIGN §5: not shifted); null: 1 everywhere. The first token is never predicted. */
  readonly weights: Float32Array | null;
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
}

/**
 * Where micro-batches come from. `draw` is a pure function of (seed, step, index): same content whoever asks, whenever.
 */
export interface BatchSource {
  readonly microbatchesPerStep: number;
  draw(step: number, index: number): MicrobatchRows;
  /** Sum of loss weights of the whole step's batch. */
  weightOfStep(step: number): number;
  /** Fixed held-out micro-batches, never trained on; empty when nothing is held out. */
  readonly validation: readonly MicrobatchRows[];
}
