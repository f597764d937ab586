/**
 * The checkpoints of this browser: written whole in one transaction, checksummed, the last two of a room kept, and the
 * older one used when the newer is damaged. It stores and finds; when to save is the room's decision.
 *
 * A save either replaces the older of two checkpoints or changes nothing: whatever fails, the newest good one stays.
 */
import { checksumOf } from './checksum.ts';
import { corpusStore } from './corpora.ts';
import type { CorpusStore, StoredCorpusIndex } from './corpora.ts';
import { buffersOf, partsIn, partsOfSizes, stateOf } from './parts.ts';
import type { Part } from './parts.ts';
import { entriesByRoom, openDatabase, requestResult, stores, transact } from './database.ts';
import type { StoreName } from './database.ts';
import { StorageError } from './errors.ts';
import type { Checkpoint, CheckpointFacts, LoadedCheckpoint, RunChange, RunRecord, SavedProgress, SavedRunSummary } from './types.ts';

const keptPerRoom = 2;

/**
 * Buffers are stored in pieces: some browsers refuse single values past 127 MiB, and a write needs no second copy of
 * a whole buffer. 16 MiB is well inside that and still few enough requests.
 */
const pieceBytes = 16 * 2 ** 20;

export interface CheckpointStore extends CorpusStore {
  /** Stores the facts of a run, once; replaces those of the same room. Its corpus is stored before it. */
  saveRun(run: RunRecord): Promise<void>;
  /** Does nothing when this browser knows nothing of the room. */
  changeRun(room: string, change: RunChange): Promise<void>;
  /** null when this browser knows nothing of the room. */
  loadRun(room: string): Promise<RunRecord | null>;
  /** Reads no weights. null when this browser knows nothing of the room. */
  progress(room: string): Promise<SavedProgress | null>;
  saveCheckpoint(checkpoint: Checkpoint): Promise<void>;
  /** The newest checkpoint whose checksum holds; null when there is none. Damaged newer ones are removed. */
  loadCheckpoint(room: string): Promise<LoadedCheckpoint | null>;
  /** Runs that have a checkpoint, last saved first. Reads no weights. */
  list(): Promise<SavedRunSummary[]>;
  /** Removes the run and its checkpoints, and its corpus unless another run has the same. */
  remove(room: string): Promise<void>;
  close(): void;
}

interface StoredEntry extends CheckpointFacts {
  readonly sequence: number;
  /** Of each part, in the order of `parts.ts`; 0 for one that this run has not. */
  readonly partBytes: readonly number[];
  readonly stateStep: number;
  readonly checksum: string;
}

/** Without `corpus`: it lies whole in a store of its own. */
type StoredRun = Omit<RunRecord, 'corpus'> & { readonly corpus?: string; readonly corpusBytes: number };

export interface CheckpointStoreOptions {
  /** Default: the browser's own. */
  readonly indexedDb?: IDBFactory | undefined;
  readonly databaseName?: string;
}

/** Every method throws `StorageError` when the browser refuses: full, denied or unavailable. */
export async function openCheckpointStore(options: CheckpointStoreOptions = {}): Promise<CheckpointStore> {
  const factory = 'indexedDb' in options ? options.indexedDb : (globalThis.indexedDB as IDBFactory | undefined);
  const database = await openDatabase(factory, options.databaseName ?? 'cotrain');
  // A newer version of the page wants to change the schema: let it, rather than block it.
  database.onversionchange = () => {
    database.close();
  };

  const corpora = corpusStore(database);

  /** Saves one after another: two at once would hold twice the memory and could race for the older slot. */
  let lastSave: Promise<unknown> = Promise.resolve();

  async function save(checkpoint: Checkpoint): Promise<void> {
    const checksum = await checksumOf(checkpoint);
    try {
      await write(database, checkpoint, checksum);
    } catch (error) {
      if (!(error instanceof StorageError) || error.code !== 'storage-full') throw error;
      if (!(await freeOlder(database, checkpoint.room))) throw error;
      await write(database, checkpoint, checksum);
    }
  }

  return {
    ...corpora,
    async sweepCorpora(kept) {
      const runs = await transact(database, [stores.runs], 'readonly', (transaction) => requestResult<StoredRun[]>(transaction.objectStore(stores.runs).getAll()));
      await corpora.sweepCorpora(new Set([...kept, ...runs.flatMap(({ corpus }) => corpus ?? [])]));
    },
    async saveRun({ corpus, ...facts }) {
      if (typeof corpus !== 'string') throw new TypeError('a run is saved with the name of its corpus');
      await transact(database, [stores.runs, stores.corpusIndexes], 'readwrite', async (transaction) => {
        const index = await requestResult<StoredCorpusIndex | undefined>(transaction.objectStore(stores.corpusIndexes).get(corpus));
        const corpusBytes = index?.pieceBytes.reduce((sum, bytes) => sum + bytes, 0) ?? 0;
        await requestResult(transaction.objectStore(stores.runs).put({ ...facts, corpus, corpusBytes } satisfies StoredRun));
      });
    },
    changeRun: (room, change) =>
      transact(database, [stores.runs], 'readwrite', async (transaction) => {
        const runs = transaction.objectStore(stores.runs);
        const stored = await requestResult<StoredRun | undefined>(runs.get(room));
        if (stored !== undefined) await requestResult(runs.put({ ...stored, ...change }));
      }),
    loadRun: (room) =>
      transact(database, [stores.runs, stores.corpora], 'readonly', async (transaction) => {
        const stored = await requestResult<StoredRun | undefined>(transaction.objectStore(stores.runs).get(room));
        const tokens = await requestResult<Uint32Array | undefined>(transaction.objectStore(stores.corpora).get(room));
        const corpus = stored?.corpus ?? tokens;
        if (stored === undefined || corpus === undefined) return null;
        const { corpusBytes: _, ...facts } = stored;
        return { ...facts, corpus };
      }),
    progress: (room) =>
      transact(database, [stores.runs, stores.entries], 'readonly', async (transaction) => {
        const stored = await requestResult<StoredRun | undefined>(transaction.objectStore(stores.runs).get(room));
        if (stored === undefined) return null;
        const entries = await requestResult<StoredEntry[]>(transaction.objectStore(stores.entries).index(entriesByRoom).getAll(room));
        const [newest] = sortNewestFirst(entries);
        const rules = stored.rules === undefined ? {} : { rules: stored.rules };
        return newest === undefined ? { step: 0, term: 1, ...rules } : { step: newest.step, term: newest.term, ...rules };
      }),
    saveCheckpoint(checkpoint) {
      const saved = lastSave.then(() => save(checkpoint));
      lastSave = saved.catch(() => undefined); // Whoever asked for that save was told.
      return saved;
    },
    async loadCheckpoint(room) {
      let damagedNewer = 0;
      for (const entry of await newestFirst(database, room)) {
        const checkpoint = await readCheckpoint(database, entry);
        if (checkpoint !== null) return { checkpoint, damagedNewer };
        await removeEntries(database, [entry]);
        damagedNewer++;
      }
      return null;
    },
    list: () => listRuns(database),
    async remove(room) {
      await removeEntries(database, await newestFirst(database, room));
      const unnamed = await transact(database, [stores.runs, stores.corpora], 'readwrite', async (transaction) => {
        const runs = transaction.objectStore(stores.runs);
        const stored = await requestResult<StoredRun | undefined>(runs.get(room));
        await requestResult(runs.delete(room));
        await requestResult(transaction.objectStore(stores.corpora).delete(room));
        const others = await requestResult<StoredRun[]>(runs.getAll());
        return others.some(({ corpus }) => corpus === stored?.corpus) ? undefined : stored?.corpus;
      });
      if (unnamed !== undefined) await corpora.removeCorpus(unnamed);
    },
    close() {
      database.close();
    },
  };
}

const checkpointStores: readonly StoreName[] = [stores.entries, stores.pieces];

/** Adds the checkpoint and drops all but the newest two of its room, in one transaction. */
async function write(database: IDBDatabase, checkpoint: Checkpoint, checksum: string): Promise<void> {
  const { state, ...facts } = checkpoint;
  const entry: Omit<StoredEntry, 'sequence'> = {
    ...facts,
    partBytes: buffersOf(state).map(({ byteLength }) => byteLength),
    stateStep: state.step,
    checksum,
  };
  await transact(database, checkpointStores, 'readwrite', async (transaction) => {
    const entries = transaction.objectStore(stores.entries);
    const pieces = transaction.objectStore(stores.pieces);
    const sequence = await requestResult(entries.add(entry));
    if (typeof sequence !== 'number') throw new TypeError('a generated key is a number');
    for (const [part, bytes] of partsIn(state)) {
      for (let start = 0, index = 0; start < bytes.byteLength; start += pieceBytes, index++) {
        await requestResult(pieces.put(bytes.slice(start, start + pieceBytes), [sequence, part, index]));
      }
    }
    const kept = sortNewestFirst(await requestResult<StoredEntry[]>(entries.index(entriesByRoom).getAll(facts.room)));
    for (const dropped of kept.slice(keptPerRoom)) await dropEntry(transaction, dropped.sequence);
  });
}

/** Makes room for a save by dropping all but the newest good checkpoint. False when there was nothing to drop. */
async function freeOlder(database: IDBDatabase, room: string): Promise<boolean> {
  const entries = await newestFirst(database, room);
  for (const [index, entry] of entries.entries()) {
    if ((await readCheckpoint(database, entry)) === null) continue;
    const dropped = entries.filter((_, other) => other !== index);
    await removeEntries(database, dropped);
    return dropped.length > 0;
  }
  await removeEntries(database, entries);
  return entries.length > 0;
}

function newestFirst(database: IDBDatabase, room: string): Promise<StoredEntry[]> {
  return transact(database, [stores.entries], 'readonly', async (transaction) =>
    sortNewestFirst(
      await requestResult<StoredEntry[]>(transaction.objectStore(stores.entries).index(entriesByRoom).getAll(room)),
    ),
  );
}

/** By term first: a deposed coordinator in another tab may write late. */
function sortNewestFirst(entries: readonly StoredEntry[]): StoredEntry[] {
  return entries.toSorted((a, b) => b.term - a.term || b.sequence - a.sequence);
}

/** null when pieces are missing or the checksum does not hold. */
async function readCheckpoint(database: IDBDatabase, entry: StoredEntry): Promise<Checkpoint | null> {
  const buffers = await transact(database, [stores.pieces], 'readonly', async (transaction) => {
    const read = new Map<Part, ArrayBuffer>();
    for (const [part, bytes] of partsOfSizes(entry.partBytes)) {
      const range = IDBKeyRange.bound([entry.sequence, part], [entry.sequence, part, []]);
      const pieces = await requestResult<unknown[]>(transaction.objectStore(stores.pieces).getAll(range));
      const joined = joinPieces(pieces, bytes);
      if (joined !== null) read.set(part, joined);
    }
    return read;
  });
  const { sequence: _sequence, partBytes: _bytes, checksum, stateStep, ...facts } = entry;
  const state = stateOf(stateStep, buffers);
  if (state === null) return null;
  const checkpoint = { ...facts, state };
  return (await checksumOf(checkpoint)) === checksum ? checkpoint : null;
}

function joinPieces(pieces: readonly unknown[], totalBytes: number): ArrayBuffer | null {
  const buffers = pieces.filter((piece) => piece instanceof ArrayBuffer);
  if (buffers.reduce((sum, piece) => sum + piece.byteLength, 0) !== totalBytes) return null;
  const joined = new Uint8Array(totalBytes);
  let offset = 0;
  for (const piece of buffers) {
    joined.set(new Uint8Array(piece), offset);
    offset += piece.byteLength;
  }
  return joined.buffer;
}

async function dropEntry(transaction: IDBTransaction, sequence: number): Promise<void> {
  await requestResult(transaction.objectStore(stores.entries).delete(sequence));
  await requestResult(transaction.objectStore(stores.pieces).delete(IDBKeyRange.bound([sequence], [sequence, []])));
}

function removeEntries(database: IDBDatabase, entries: readonly StoredEntry[]): Promise<void> {
  return transact(database, checkpointStores, 'readwrite', async (transaction) => {
    for (const entry of entries) await dropEntry(transaction, entry.sequence);
  });
}

function listRuns(database: IDBDatabase): Promise<SavedRunSummary[]> {
  return transact(database, [stores.runs, stores.entries], 'readonly', async (transaction) => {
    const runs = await requestResult<StoredRun[]>(transaction.objectStore(stores.runs).getAll());
    const entries = await requestResult<StoredEntry[]>(transaction.objectStore(stores.entries).getAll());
    const summaries = runs.flatMap((run): SavedRunSummary[] => {
      const ofRoom = sortNewestFirst(entries.filter((entry) => entry.room === run.room));
      const [newest] = ofRoom;
      if (newest === undefined) return [];
      const { room, title, steps, corpusBytes } = run;
      const checkpointBytes = ofRoom.flatMap((entry) => entry.partBytes).reduce((sum, bytes) => sum + bytes, 0);
      const { savedAtMs, step, loss } = newest;
      return [{ room, title, steps, savedAtMs, step, loss, bytes: corpusBytes + checkpointBytes }];
    });
    return summaries.toSorted((a, b) => b.savedAtMs - a.savedAtMs);
  });
}
