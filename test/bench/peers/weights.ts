/** The task's initial weights by tensor name, as every engine starts from them. */
import { initialWeights } from '../../../src/model/initial.ts';
import { embeddingName, parameterLayoutOf } from '../../../src/model/parameters.ts';
import type { Task } from './task.ts';

export interface NamedWeights {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
  /** Whether AdamW decays it: tensors of two or more dimensions. */
  readonly decays: boolean;
}

/** A matrix is given as [in, out], so that x · W needs no transpose; ours are [out, in]. The embedding stays [vocabulary, hidden]. */
export function weightsForPeers(task: Task): readonly NamedWeights[] {
  const flat = initialWeights(task.config, task.seed);
  return parameterLayoutOf(task.config).entries.map(({ name, shape, offsetElements, lengthElements }) => {
    const data = flat.slice(offsetElements, offsetElements + lengthElements);
    const [rows = 0, columns = 0] = shape;
    if (shape.length < 2 || name === embeddingName) return { name, shape, data, decays: shape.length >= 2 };
    return { name, shape: [columns, rows], data: transposed(data, rows, columns), decays: true };
  });
}

function transposed(data: Float32Array, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const result = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) result[column * rows + row] = data[row * columns + column] ?? 0;
  }
  return result;
}
