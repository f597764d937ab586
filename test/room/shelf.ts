/** Bytes of received blobs between their arrival and the effect that uses or discards them: each exactly once. */
import type { BlobRef } from '../../src/room/machine.ts';
import type { RoomLog } from './log.ts';

export class CheckedShelf {
  readonly #bytes = new Map<BlobRef, ArrayBuffer>();
  readonly #log: RoomLog;
  readonly #owner: string;
  #next = 0;

  constructor(log: RoomLog, owner: string) {
    this.#log = log;
    this.#owner = owner;
  }

  /** Blobs that no effect has mentioned yet. */
  get size(): number {
    return this.#bytes.size;
  }

  put(bytes: ArrayBuffer): BlobRef {
    const ref = `blob-${this.#next++}` as BlobRef;
    this.#bytes.set(ref, bytes);
    return ref;
  }

  take(ref: BlobRef): ArrayBuffer {
    const bytes = this.#bytes.get(ref);
    if (bytes === undefined) return this.#log.fail(`${this.#owner} uses or discards ${ref} a second time`);
    this.#bytes.delete(ref);
    return bytes;
  }
}
