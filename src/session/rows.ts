/**
 * The bytes of an assignment: its micro-batches' rows, so that a peer needs no corpus to help.
 * Little-endian: u32 rows, u32 contextLength, then for each micro-batch ids, targets (u32) and loss weights (f32),
 * each rows × contextLength, in the order of the header's `microbatches`.
 */
import type { MicrobatchRows } from '../data/types.ts';

const headerWords = 2;
const arraysPerMicrobatch = 3;

export class RowsError extends Error {
  override readonly name = 'RowsError';
}

/** All micro-batches of a run have the same shape. */
export function encodeRows(microbatches: readonly MicrobatchRows[]): ArrayBuffer {
  const first = microbatches[0];
  if (!first) throw new RowsError('an assignment has at least one micro-batch');
  const positions = first.rows * first.contextLength;
  const words = new Uint32Array(headerWords + microbatches.length * arraysPerMicrobatch * positions);
  const floats = new Float32Array(words.buffer);
  words[0] = first.rows;
  words[1] = first.contextLength;
  let at = headerWords;
  for (const { rows, contextLength, inputIds, targets, lossWeights } of microbatches) {
    if (rows !== first.rows || contextLength !== first.contextLength) {
      throw new RowsError(`micro-batches of ${rows}×${contextLength} and ${first.rows}×${first.contextLength} in one assignment`);
    }
    words.set(inputIds, at);
    words.set(targets, at + positions);
    floats.set(lossWeights, at + 2 * positions);
    at += arraysPerMicrobatch * positions;
  }
  return words.buffer;
}

export interface ExpectedRows {
  readonly microbatches: number;
  readonly rows: number;
  readonly contextLength: number;
  readonly vocabularySize: number;
}

/** Throws `RowsError` unless the bytes are exactly what the run's settings promise: they come from another peer. */
export function decodeRows(bytes: ArrayBuffer, expected: ExpectedRows): MicrobatchRows[] {
  const { rows, contextLength, vocabularySize } = expected;
  const positions = rows * contextLength;
  const wanted = 4 * (headerWords + expected.microbatches * arraysPerMicrobatch * positions);
  if (bytes.byteLength !== wanted) throw new RowsError(`assignment of ${bytes.byteLength} bytes instead of ${wanted}`);
  const words = new Uint32Array(bytes);
  const floats = new Float32Array(bytes);
  if (words[0] !== rows || words[1] !== contextLength) {
    throw new RowsError(`assignment of ${words[0]}×${words[1]} positions instead of ${rows}×${contextLength}`);
  }
  return Array.from({ length: expected.microbatches }, (_, index) => {
    const at = headerWords + index * arraysPerMicrobatch * positions;
    const inputIds = words.slice(at, at + positions);
    const targets = words.slice(at + positions, at + 2 * positions);
    const lossWeights = floats.slice(at + 2 * positions, at + 3 * positions);
    if (inputIds.some((id) => id >= vocabularySize) || targets.some((id) => id >= vocabularySize)) {
      throw new RowsError(`assignment holds a token outside the vocabulary of ${vocabularySize}`);
    }
    if (lossWeights.some((weight) => !(weight >= 0 && weight < Infinity))) {
      throw new RowsError('assignment holds a loss weight that is negative or not finite');
    }
    return { rows, contextLength, inputIds, targets, lossWeights };
  });
}
