/** Received bytes between their arrival and the effect that uses or discards them; the machines see only their names. */
import type { BlobRef } from '../room/machine.ts';

export class BlobShelf {
  readonly #bytes = new Map<BlobRef, ArrayBuffer>();
  #next = 0;

  put(bytes: ArrayBuffer): BlobRef {
    const ref = `blob-${this.#next++}` as BlobRef;
    this.#bytes.set(ref, bytes);
    return ref;
  }

  /** Each blob is used once. */
  take(ref: BlobRef): ArrayBuffer {
    const bytes = this.#bytes.get(ref);
    if (!bytes) throw new RangeError(`${ref} was already taken`);
    this.#bytes.delete(ref);
    return bytes;
  }

  discard(ref: BlobRef): void {
    this.#bytes.delete(ref);
  }
}
