/**
 * Corpora of this browser: tokens in pieces of bytes, and for each corpus an index that is there once all of its pieces are. What is in
 * them is for whoever wrote them; runs name the one that they are trained on, and one that no run names is removed.
 */
import { requestResult, stores, transact } from './database.ts';

/** As `data/corpus.ts` has it, with the sizes of the pieces. */
export interface StoredCorpusIndex {
  readonly tokenCount: number;
  readonly starts: Uint32Array;
  readonly weightSums: Float64Array | null;
  readonly pieceBytes: Uint32Array;
}

interface StoredIndex extends StoredCorpusIndex {
  readonly storedAtMs: number;
}

/** So long a corpus may wait for a run to name it: somebody may still be choosing settings. */
const unnamedKeptMs = 24 * 60 * 60 * 1000;

export interface CorpusStore {
  /** Pieces of a corpus from number `from` on. */
  savePieces(corpus: string, from: number, pieces: readonly ArrayBuffer[]): Promise<void>;
  /** Behind all pieces. */
  saveIndex(corpus: string, index: StoredCorpusIndex): Promise<void>;
  /** Null when there is no such corpus, or not all of it. */
  corpusIndex(corpus: string): Promise<StoredCorpusIndex | null>;
  /** Null where it is missing. */
  corpusPiece(corpus: string, number: number): Promise<ArrayBuffer | null>;
  removeCorpus(corpus: string): Promise<void>;
  /** Removes what no run has named for a day, unless it is one of `kept`. */
  sweepCorpora(kept: ReadonlySet<string>): Promise<void>;
}

export function corpusStore(database: IDBDatabase): CorpusStore {
  const removeCorpus = (corpus: string): Promise<void> =>
    transact(database, [stores.corpusPieces, stores.corpusIndexes], 'readwrite', async (transaction) => {
      await requestResult(transaction.objectStore(stores.corpusIndexes).delete(corpus));
      await requestResult(transaction.objectStore(stores.corpusPieces).delete(IDBKeyRange.bound([corpus], [corpus, []])));
    });
  return {
    savePieces: (corpus, from, pieces) =>
      transact(database, [stores.corpusPieces], 'readwrite', async (transaction) => {
        for (const [at, piece] of pieces.entries()) await requestResult(transaction.objectStore(stores.corpusPieces).put(piece, [corpus, from + at]));
      }),
    saveIndex: (corpus, index) =>
      transact(database, [stores.corpusIndexes], 'readwrite', async (transaction) => {
        await requestResult(transaction.objectStore(stores.corpusIndexes).put({ ...index, storedAtMs: Date.now() } satisfies StoredIndex, corpus));
      }),
    corpusIndex: (corpus) =>
      transact(database, [stores.corpusIndexes], 'readonly', async (transaction) => {
        const stored = await requestResult<StoredIndex | undefined>(transaction.objectStore(stores.corpusIndexes).get(corpus));
        if (stored === undefined) return null;
        const { storedAtMs: _, ...index } = stored;
        return index;
      }),
    corpusPiece: (corpus, number) =>
      transact(database, [stores.corpusPieces], 'readonly', async (transaction) => {
        const piece: unknown = await requestResult(transaction.objectStore(stores.corpusPieces).get([corpus, number]));
        return piece instanceof ArrayBuffer ? piece : null;
      }),
    removeCorpus,
    async sweepCorpora(kept) {
      const old = await transact(database, [stores.corpusPieces, stores.corpusIndexes], 'readonly', async (transaction) => {
        const fresh = new Set<string>(kept);
        const indexes = transaction.objectStore(stores.corpusIndexes);
        const found = new Set<string>();
        for (const corpus of await requestResult<string[]>(indexes.getAllKeys())) {
          found.add(corpus);
          const { storedAtMs } = await requestResult<StoredIndex>(indexes.get(corpus));
          if (Date.now() - storedAtMs < unnamedKeptMs) fresh.add(corpus);
        }
        return [...found].filter((corpus) => !fresh.has(corpus));
      });
      for (const corpus of old) await removeCorpus(corpus);
    },
  };
}
