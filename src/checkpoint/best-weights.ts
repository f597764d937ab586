/**
 * The weights of each room's run that had the lowest validation loss, beside its checkpoints and apart from them: training never goes on
 * from here, so there are no moments. Each save replaces the one before, whole or not at all.
 */
import { createStore, delMany, get, getMany, setMany } from 'idb-keyval';
import type { UseStore } from 'idb-keyval';
import { asStorageError } from './errors.ts';

export interface BestFacts {
  readonly room: string;
  /** Updates applied. */
  readonly step: number;
  readonly loss: number;
  readonly savedAtMs: number;
}

export interface BestWeights extends BestFacts {
  /** As in `MasterState`: f32, by the parameter layout, padding included. */
  readonly weights: ArrayBuffer;
}

/** Every method throws `StorageError` when the browser refuses. */
export interface BestWeightsStore {
  save(best: BestWeights): Promise<void>;
  /** Reads no weights. */
  facts(room: string): Promise<(BestFacts & { readonly bytes: number }) | null>;
  /** null where there are none, or not all of them. */
  load(room: string): Promise<BestWeights | null>;
  remove(room: string): Promise<void>;
}

/** As for checkpoints: some browsers refuse single values past 127 MiB. */
const pieceBytes = 16 * 2 ** 20;

/** Pieces are named by step too: until the facts name them, they are not there. */
const keyOf = ({ room, step }: BestFacts, index: number): IDBValidKey => [room, step, index];

interface Stored extends BestFacts {
  readonly bytes: number;
}

function keysOf(stored: Stored | undefined): IDBValidKey[] {
  return stored === undefined ? [] : Array.from({ length: Math.ceil(stored.bytes / pieceBytes) }, (_, index) => keyOf(stored, index));
}

export function openBestWeights(): BestWeightsStore {
  let opened: UseStore | null = null;
  async function within<T>(action: (store: UseStore) => Promise<T>): Promise<T> {
    try {
      opened ??= createStore('cotrain-best', 'best');
      return await action(opened);
    } catch (error) {
      throw asStorageError(error);
    }
  }
  return {
    save: ({ weights, ...facts }) =>
      within(async (store) => {
        const before = await get<Stored>(facts.room, store);
        const stored: Stored = { ...facts, bytes: weights.byteLength };
        const pieces = keysOf(stored).map((key, index): [IDBValidKey, ArrayBuffer] => [key, weights.slice(index * pieceBytes, (index + 1) * pieceBytes)]);
        // One transaction: all of it or nothing.
        await setMany([...pieces, [facts.room, stored]], store);
        if (before?.step !== facts.step) await delMany(keysOf(before), store);
      }),
    facts: (room) => within(async (store) => (await get<Stored>(room, store)) ?? null),
    load: (room) =>
      within(async (store) => {
        const stored = await get<Stored>(room, store);
        if (stored === undefined) return null;
        const found = await getMany<unknown>(keysOf(stored), store);
        const pieces = found.filter((piece) => piece instanceof ArrayBuffer);
        const { bytes, ...facts } = stored;
        if (pieces.reduce((sum, piece) => sum + piece.byteLength, 0) !== bytes) return null;
        return { ...facts, weights: await new Blob(pieces).arrayBuffer() };
      }),
    remove: (room) => within(async (store) => delMany([room, ...keysOf(await get<Stored>(room, store))], store)),
  };
}
