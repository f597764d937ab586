/** The buffers of a master state, one after another: which there are, and the state that they make. */
import type { MasterState } from './types.ts';

/** The buffers of a checkpoint in the order in which they are stored; the last is not in all of them. */
const parts = ['weights', 'firstMoments', 'secondMoments', 'masterWeights'] as const satisfies readonly (keyof MasterState)[];
export type Part = (typeof parts)[number];

/** Those that this one has. */
export function partsIn(state: MasterState): readonly (readonly [Part, ArrayBuffer])[] {
  return parts.flatMap((part) => {
    const bytes = state[part];
    return bytes === undefined ? [] : [[part, bytes] as const];
  });
}

/** Their memory, to be moved. */
export function buffersOf(state: MasterState): ArrayBuffer[] {
  return partsIn(state).map(([, bytes]) => bytes);
}

/** The state that these are the parts of; null where one is missing that each has. */
export function stateOf(step: number, buffers: ReadonlyMap<Part, ArrayBuffer>): MasterState | null {
  const [weights, firstMoments, secondMoments, masterWeights] = parts.map((part) => buffers.get(part));
  if (weights === undefined || firstMoments === undefined || secondMoments === undefined) return null;
  return { step, weights, firstMoments, secondMoments, ...(masterWeights !== undefined && { masterWeights }) };
}

/** Of the parts of which these are the sizes. */
export function partsOfSizes(sizes: readonly number[]): readonly (readonly [Part, number])[] {
  return sizes.flatMap((size, index) => {
    const part = parts[index];
    return part === undefined ? [] : [[part, size] as const];
  });
}
