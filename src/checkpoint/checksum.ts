/**
 * The checksum of a checkpoint: SHA-256 over its facts and over the SHA-256 of each of its buffers. It finds damage;
 * it is no signature.
 */
import { StorageError } from './errors.ts';
import type { Checkpoint, MasterState } from './types.ts';

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

async function sha256(bytes: ArrayBuffer): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** 64 hexadecimal digits. Throws `StorageError` where the page is no secure context (there is no WebGPU there either). */
export async function checksumOf(checkpoint: Checkpoint): Promise<string> {
  // Typed as always present; absent in insecure contexts.
  if ((globalThis.crypto as Crypto | undefined)?.subtle === undefined) {
    throw new StorageError('storage-unavailable', 'Saving needs a secure page (https or localhost).');
  }
  const { room, term, step, savedAtMs, startedAtMs, loss, history, state } = checkpoint;
  const facts: unknown[] = [room, term, step, savedAtMs, startedAtMs, loss, history, state.step];
  for (const [part, bytes] of partsIn(state)) facts.push(part, bytes.byteLength, await sha256(bytes));
  return sha256(new TextEncoder().encode(JSON.stringify(facts)).buffer);
}
