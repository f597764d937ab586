/** Tensors on their way between memory and a file: a piece at a time, so that no second copy of a model is made. */
import type { ByteSource } from './bytes.ts';
import { bytesOf, decodeNumbers, encodeNumbers } from './number-formats.ts';
import type { NumberFormat } from './number-formats.ts';

/** A tensor that lies in a file; what its header says has been checked. */
export interface StoredTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly format: NumberFormat;
  /** In the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** A tensor that is to be written; `values` are row-major. */
export interface WrittenTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly format: NumberFormat;
  readonly values: Float32Array;
}

/** A multiple of every block; 2 MiB of f32. */
const pieceElements = 2 ** 19;

export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** Reads a tensor into `target`, which has its size. `signal` ends it between two pieces. */
export async function readTensor(source: ByteSource, tensor: StoredTensor, target: Float32Array, signal?: AbortSignal): Promise<void> {
  const { format, offset } = tensor;
  for (let from = 0; from < target.length; from += pieceElements) {
    signal?.throwIfAborted();
    const elements = Math.min(pieceElements, target.length - from);
    const bytes = await source.read(offset + bytesOf(format, from), bytesOf(format, elements));
    target.set(decodeNumbers(bytes, format), from);
  }
}

/** The tensor's bytes, piece by piece. */
export function* encodeTensor({ format, values }: Pick<WrittenTensor, 'format' | 'values'>): Generator<Uint8Array<ArrayBuffer>> {
  for (let from = 0; from < values.length; from += pieceElements) {
    yield encodeNumbers(values.subarray(from, from + pieceElements), format);
  }
}
