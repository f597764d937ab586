/**
 * Pieces of the replica that this browser fetched last, by their hashes: after a reload or a lost connection only what has
 * changed is fetched again. A cache: where storage is forbidden or full, everything is fetched.
 */
import { clear, createStore, delMany, getMany, keys, set } from 'idb-keyval';
import type { UseStore } from 'idb-keyval';

export interface PieceCache {
  /** Pieces of these hashes that are here, by hash; pieces of any others are forgotten. */
  known(hashes: readonly string[]): Promise<ReadonlyMap<string, ArrayBuffer>>;
  keep(hash: string, bytes: ArrayBuffer): void;
  clear(): Promise<void>;
}

const nothing: ReadonlyMap<string, ArrayBuffer> = new Map();
/** A browser’s storage can hang for good, for instance while another version of the page holds it: then everything is fetched. */
const patienceMs = 5_000;

function silence(): Promise<typeof nothing> {
  return new Promise((resolve) => {
    setTimeout(resolve, patienceMs, nothing);
  });
}

async function readKnown(store: () => UseStore, hashes: readonly string[]): Promise<typeof nothing> {
  const wanted = new Set(hashes);
  const here = (await keys(store())).filter((key) => typeof key === 'string');
  await delMany(here.filter((key) => !wanted.has(key)), store());
  const found = here.filter((key) => wanted.has(key));
  const stored: readonly unknown[] = await getMany(found, store());
  return new Map(found.flatMap((hash, at) => {
    const bytes = stored[at];
    return bytes instanceof ArrayBuffer ? [[hash, bytes] as const] : [];
  }));
}

export function openPieceCache(): PieceCache {
  let opened: UseStore | null = null;
  const store = (): UseStore => (opened ??= createStore('cotrain-pieces', 'pieces'));
  return {
    known(hashes) {
      return Promise.race([readKnown(store, hashes).catch(() => nothing), silence()]);
    },
    keep(hash, bytes) {
      // Only a cache: it does without what can't be stored.
      try {
        set(hash, bytes, store()).catch(() => undefined);
      } catch {
        return;
      }
    },
    async clear() {
      // Where nothing can be stored, nothing is there.
      await clear(store()).catch(() => undefined);
    },
  };
}
