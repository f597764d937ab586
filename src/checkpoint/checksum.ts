/**
 * The checksum of a checkpoint: SHA-256 over its facts and over the SHA-256 of each of its buffers. It finds damage;
 * it is no signature.
 */
import { StorageError } from './errors.ts';
import { partsIn } from './parts.ts';
import type { Checkpoint } from './types.ts';

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
