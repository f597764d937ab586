/** What a batch is made of. Shapes and meanings only; drawing is done in `batches.ts`. */

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
