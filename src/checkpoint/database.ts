/**
 * IndexedDB as promises, and the schema of the checkpoint database. It does not know what makes a checkpoint good:
 * `store.ts` decides that.
 */
import { StorageError, asStorageError } from './errors.ts';

/** 2: corpora in pieces. */
const schemaVersion = 2;

export const stores = {
  /** room → facts of the run, without its corpus. */
  runs: 'runs',
  /** room → corpus as token ids, of runs that were saved before corpora had pieces. */
  corpora: 'corpora',
  /** corpus → its index. */
  corpusIndexes: 'corpusIndexes',
  /** [corpus, number] → a piece of a corpus. */
  corpusPieces: 'corpusPieces',
  /** sequence (grows with every save) → what a checkpoint says of itself, and its checksum. */
  entries: 'entries',
  /** [sequence, part, index] → a piece of a checkpoint's bytes. */
  pieces: 'pieces',
} as const;

export const entriesByRoom = 'room';

export type StoreName = (typeof stores)[keyof typeof stores];

export function requestResult<T>(request: PendingRequest): Promise<T> {
  return new Promise((resolve, reject) => {
    request.addEventListener('success', () => {
      resolve(request.result as T);
    });
    request.addEventListener('error', () => {
      reject(request.error ?? new DOMException('the request failed', 'UnknownError'));
    });
  });
}

/** An `IDBRequest` whose result is not typed as `any`, as the DOM types have it. */
export interface PendingRequest {
  readonly result: unknown;
  readonly error: DOMException | null;
  addEventListener(type: 'success' | 'error', listener: () => void): void;
}

export async function openDatabase(factory: IDBFactory | undefined, name: string): Promise<IDBDatabase> {
  if (factory === undefined) throw new StorageError('storage-unavailable', 'This browser has no IndexedDB.');
  try {
    const request = factory.open(name, schemaVersion);
    request.onupgradeneeded = ({ oldVersion }) => {
      const database = request.result;
      database.createObjectStore(stores.corpusIndexes);
      database.createObjectStore(stores.corpusPieces);
      if (oldVersion > 0) return;
      database.createObjectStore(stores.runs, { keyPath: 'room' });
      database.createObjectStore(stores.corpora);
      const entries = database.createObjectStore(stores.entries, { keyPath: 'sequence', autoIncrement: true });
      entries.createIndex(entriesByRoom, 'room');
      database.createObjectStore(stores.pieces);
    };
    return await requestResult(request);
  } catch (cause) {
    throw asStorageError(cause);
  }
}

/**
 * Runs `work` in one transaction and resolves when that has been committed; when anything in it fails, nothing of it
 * is kept. `work` must await only requests of this transaction. 'strict': written to disk before it counts as done.
 */
export async function transact<T>(
  database: IDBDatabase,
  names: readonly StoreName[],
  mode: 'readonly' | 'readwrite',
  work: (transaction: IDBTransaction) => Promise<T>,
): Promise<T> {
  try {
    const transaction = database.transaction([...names], mode, { durability: 'strict' });
    const failure = new Promise<Error | null>((resolve) => {
      transaction.oncomplete = () => {
        resolve(null);
      };
      transaction.onabort = () => {
        resolve(transaction.error ?? new DOMException('the transaction was aborted', 'AbortError'));
      };
    });
    const [outcome] = await Promise.allSettled([work(transaction)]);
    if (outcome.status === 'rejected') {
      abort(transaction);
      await failure;
      throw asStorageError(outcome.reason);
    }
    const cause = await failure;
    if (cause !== null) throw cause;
    return outcome.value;
  } catch (cause) {
    throw asStorageError(cause);
  }
}

function abort(transaction: IDBTransaction): void {
  try {
    transaction.abort();
  } catch (error) {
    // A failed request has aborted it already.
    if (!(error instanceof DOMException) || error.name !== 'InvalidStateError') throw error;
  }
}
