/** The checkpoint store on an IndexedDB in memory: what survives damage, a full disk and simultaneous saves. */
import 'fake-indexeddb/auto';
import { IDBFactory, IDBObjectStore } from 'fake-indexeddb';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { requestResult } from '../../src/checkpoint/database.ts';
import { StorageError, asStorageError } from '../../src/checkpoint/errors.ts';
import { openSettings } from '../../src/checkpoint/settings.ts';
import { settingsTuningStore } from '../../src/trainer/tuning-store.ts';
import { openCheckpointStore } from '../../src/checkpoint/store.ts';
import type { CheckpointStore } from '../../src/checkpoint/store.ts';
import type { Checkpoint, RunRecord } from '../../src/checkpoint/types.ts';

const weightCount = 1000;

function checkpointAt(step: number, options: { room?: string; term?: number; count?: number } = {}): Checkpoint {
  const buffer = (scale: number): ArrayBuffer =>
    Float32Array.from({ length: options.count ?? weightCount }, (_, index) => scale * (index + step)).buffer;
  return {
    room: options.room ?? 'den',
    term: options.term ?? 1,
    step,
    savedAtMs: 1000 + step,
    startedAtMs: 10,
    loss: 2 / (step + 1),
    history: JSON.stringify([{ step, loss: 1 }]),
    state: { step, weights: buffer(1), firstMoments: buffer(0.5), secondMoments: buffer(0.25) },
  };
}

const run: RunRecord = {
  room: 'den',
  key: 'secret',
  title: 'A title',
  run: '{"steps":300}',
  steps: 300,
  corpus: 'whales',
  createdAtMs: 5,
  name: 'Ada',
};

let indexedDb: IDBFactory;
let store: CheckpointStore;

beforeEach(async () => {
  indexedDb = new IDBFactory();
  store = await openCheckpointStore({ indexedDb, databaseName: 'test' });
});
afterEach(() => {
  vi.restoreAllMocks();
  store.close();
});


/** Overwrites one byte in the middle of a stored piece, as a failing disk would. */
async function damage(step: number, part: string): Promise<void> {
  const database = await requestResult<IDBDatabase>(indexedDb.open('test'));
  const transaction = database.transaction(['entries', 'pieces'], 'readwrite');
  const entries = await requestResult<{ step: number; sequence: number }[]>(transaction.objectStore('entries').getAll());
  const sequence = entries.find((entry) => entry.step === step)?.sequence;
  const pieces = transaction.objectStore('pieces');
  const bytes = new Uint8Array(await requestResult<ArrayBuffer>(pieces.get([sequence ?? -1, part, 0])));
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  await requestResult(pieces.put(bytes.buffer, [sequence ?? -1, part, 0]));
  database.close();
}

async function stored(name: 'entries' | 'pieces'): Promise<number> {
  const database = await requestResult<IDBDatabase>(indexedDb.open('test'));
  const count = await requestResult<number>(database.transaction([name]).objectStore(name).count());
  database.close();
  return count;
}

describe('checkpoints', () => {
  test('come back as they were saved, bytes and facts', async () => {
    await store.saveCheckpoint(checkpointAt(7));
    expect(await store.loadCheckpoint('den')).toEqual({ checkpoint: checkpointAt(7), damagedNewer: 0 });
  });

  test('larger than one stored piece come back whole', async () => {
    const large = checkpointAt(1, { count: 5 * 2 ** 20 });
    await store.saveCheckpoint(large);
    const loaded = await store.loadCheckpoint('den');
    expect(Buffer.from(loaded?.checkpoint.state.weights ?? new ArrayBuffer(0)).equals(Buffer.from(large.state.weights))).toBe(true);
  });

  test('of a room nobody saved are null', async () => {
    await store.saveCheckpoint(checkpointAt(7));
    expect(await store.loadCheckpoint('attic')).toBeNull();
  });

  test('are kept two per room, the newest ones, with no pieces of older ones left behind', async () => {
    for (const step of [1, 2, 3]) await store.saveCheckpoint(checkpointAt(step));
    await store.saveCheckpoint(checkpointAt(9, { room: 'attic' }));
    expect(await stored('entries')).toBe(3);
    expect(await stored('pieces')).toBe(9);
    await damage(3, 'weights');
    expect((await store.loadCheckpoint('den'))?.checkpoint.step).toBe(2);
  });

  test.each(['weights', 'firstMoments', 'secondMoments'])(
    'with damaged %s give way to the older one, and the damaged one is dropped',
    async (part) => {
      await store.saveCheckpoint(checkpointAt(1));
      await store.saveCheckpoint(checkpointAt(2));
      await damage(2, part);
      expect(await store.loadCheckpoint('den')).toEqual({ checkpoint: checkpointAt(1), damagedNewer: 1 });
      await store.saveCheckpoint(checkpointAt(3));
      await damage(3, part);
      expect((await store.loadCheckpoint('den'))?.checkpoint.step, 'the good one outlives a later damaged one').toBe(1);
    },
  );

  test('with master weights of their own come back with them, or not at all', async () => {
    const plain = checkpointAt(1);
    const masterWeights = Float32Array.from({ length: weightCount }, (_, index) => index / 3).buffer;
    await store.saveCheckpoint(plain);
    await store.saveCheckpoint({ ...checkpointAt(2), state: { ...checkpointAt(2).state, masterWeights } });
    expect((await store.loadCheckpoint('den'))?.checkpoint.state.masterWeights).toEqual(masterWeights);
    await damage(2, 'masterWeights');
    expect(await store.loadCheckpoint('den')).toEqual({ checkpoint: plain, damagedNewer: 1 });
  });

  test('all damaged are null rather than wrong weights', async () => {
    await store.saveCheckpoint(checkpointAt(1));
    await damage(1, 'weights');
    expect(await store.loadCheckpoint('den')).toBeNull();
  });

  test('of a higher term are the newest even when a deposed coordinator writes later', async () => {
    await store.saveCheckpoint(checkpointAt(8, { term: 2 }));
    await store.saveCheckpoint(checkpointAt(20, { term: 1 }));
    expect((await store.loadCheckpoint('den'))?.checkpoint.step).toBe(8);
  });

  test('saved at the same time are written one after another and end as the last two', async () => {
    await Promise.all([1, 2, 3, 4].map((step) => store.saveCheckpoint(checkpointAt(step))));
    expect(await stored('entries')).toBe(2);
    expect((await store.loadCheckpoint('den'))?.checkpoint.step).toBe(4);
  });
});

/** Writes of checkpoint bytes fail as on a full disk while `isFull()`. */
function fillDisk(isFull: () => boolean): void {
  const put = IDBObjectStore.prototype.put;
  vi.spyOn(IDBObjectStore.prototype, 'put').mockImplementation(function (this: IDBObjectStore, ...args) {
    if (this.name === 'pieces' && isFull()) throw new DOMException('disk full', 'QuotaExceededError');
    return put.apply(this, args);
  });
}

describe('a run', () => {
  test('is changed in what its owner can change, and in nothing else', async () => {
    await store.saveRun(run);
    await store.changeRun('den', { title: 'Whales', rules: '{"revision":1}' });
    expect(await store.loadRun('den')).toEqual({ ...run, title: 'Whales', rules: '{"revision":1}' });
    expect(await store.progress('den')).toEqual({ step: 0, term: 1, rules: '{"revision":1}' });
  });

  test('that nobody saved is not made by a change', async () => {
    await store.changeRun('elsewhere', { title: 'Whales' });
    expect(await store.loadRun('elsewhere')).toBeNull();
  });
});

describe('a full disk', () => {
  test('is reported as such and the newest good checkpoint stays', async () => {
    await store.saveCheckpoint(checkpointAt(1));
    await store.saveCheckpoint(checkpointAt(2));
    fillDisk(() => true);
    await expect(store.saveCheckpoint(checkpointAt(3))).rejects.toMatchObject({
      name: 'StorageError',
      code: 'storage-full',
      problem: { code: 'storage-full' },
    });
    vi.restoreAllMocks();
    expect((await store.loadCheckpoint('den'))?.checkpoint).toEqual(checkpointAt(2));
  });

  test('that has room once the older checkpoint is dropped takes the save', async () => {
    await store.saveCheckpoint(checkpointAt(1));
    await store.saveCheckpoint(checkpointAt(2));
    let refusals = 1;
    fillDisk(() => refusals-- > 0);
    await store.saveCheckpoint(checkpointAt(3));
    vi.restoreAllMocks();
    expect(await stored('entries')).toBe(2);
    await damage(3, 'weights');
    expect((await store.loadCheckpoint('den'))?.checkpoint.step).toBe(2);
  });

  test('with a damaged newest checkpoint keeps the older good one', async () => {
    await store.saveCheckpoint(checkpointAt(1));
    await store.saveCheckpoint(checkpointAt(2));
    await damage(2, 'weights');
    fillDisk(() => true);
    await expect(store.saveCheckpoint(checkpointAt(3))).rejects.toBeInstanceOf(StorageError);
    vi.restoreAllMocks();
    expect((await store.loadCheckpoint('den'))?.checkpoint).toEqual(checkpointAt(1));
  });

  test('does not stop later saves', async () => {
    fillDisk(() => true);
    await expect(store.saveCheckpoint(checkpointAt(1))).rejects.toBeInstanceOf(StorageError);
    vi.restoreAllMocks();
    await store.saveCheckpoint(checkpointAt(2));
    expect((await store.loadCheckpoint('den'))?.checkpoint.step).toBe(2);
  });
});

describe('saved runs', () => {
  test('are listed by their newest checkpoint, last saved first, with what they occupy', async () => {
    await store.saveRun(run);
    await store.saveRun({ ...run, room: 'attic', title: 'Other' });
    await store.saveRun({ ...run, room: 'never saved' });
    await store.saveCheckpoint(checkpointAt(3));
    await store.saveCheckpoint(checkpointAt(4));
    await store.saveCheckpoint(checkpointAt(9, { room: 'attic' }));
    const stateBytes = 3 * weightCount * 4;
    expect(await store.list()).toEqual([
      { room: 'attic', title: 'Other', savedAtMs: 1009, bytes: stateBytes, step: 9, steps: 300, loss: 0.2 },
      { room: 'den', title: 'A title', savedAtMs: 1004, bytes: 2 * stateBytes, step: 4, steps: 300, loss: 0.4 },
    ]);
  });

  test('come back with their corpus', async () => {
    await store.saveRun(run);
    expect(await store.loadRun('den')).toEqual(run);
    expect(await store.loadRun('attic')).toBeNull();
  });

  test('leave nothing behind when removed', async () => {
    await store.saveRun(run);
    await store.saveCheckpoint(checkpointAt(1));
    await store.remove('den');
    expect(await store.list()).toEqual([]);
    expect(await store.loadRun('den')).toBeNull();
    expect(await store.loadCheckpoint('den')).toBeNull();
    expect(await stored('pieces')).toBe(0);
  });
});

describe('progress', () => {
  test('is the step and term of the newest checkpoint of that room, a higher term before a later save', async () => {
    await store.saveRun(run);
    await store.saveRun({ ...run, room: 'attic' });
    await store.saveCheckpoint(checkpointAt(3, { term: 2 }));
    await store.saveCheckpoint(checkpointAt(9, { room: 'attic', term: 4 }));
    expect(await store.progress('den')).toEqual({ step: 3, term: 2 });
    await store.saveCheckpoint(checkpointAt(8, { term: 1 }));
    expect(await store.progress('den')).toEqual({ step: 3, term: 2 });
    await store.saveCheckpoint(checkpointAt(5, { term: 2 }));
    expect(await store.progress('den')).toEqual({ step: 5, term: 2 });
  });

  test('is the beginning where a run was stored and no step saved', async () => {
    await store.saveRun(run);
    expect(await store.progress('den')).toEqual({ step: 0, term: 1 });
  });

  test('is null where the run could not be brought back: nothing known but its steps, or nothing at all', async () => {
    expect(await store.progress('den')).toBeNull();
    await store.saveCheckpoint(checkpointAt(7));
    expect(await store.progress('den')).toBeNull();
    await store.saveRun(run);
    expect(await store.progress('den')).toEqual({ step: 7, term: 1 });
    await store.remove('den');
    expect(await store.progress('den')).toBeNull();
  });

  test('is found without reading weights', async () => {
    await store.saveRun(run);
    await store.saveCheckpoint(checkpointAt(7));
    const transaction = vi.spyOn(IDBDatabase.prototype, 'transaction');
    await store.progress('den');
    expect(transaction.mock.calls.map(([names]) => names)).toEqual([['runs', 'entries']]);
  });
});

describe('storage errors', () => {
  test('name a browser without IndexedDB', async () => {
    await expect(openCheckpointStore({ indexedDb: undefined })).rejects.toMatchObject({ code: 'storage-unavailable' });
  });

  test('name a browser that forbids it', async () => {
    vi.spyOn(indexedDb, 'open').mockImplementation(() => {
      throw new DOMException('denied', 'SecurityError');
    });
    await expect(openCheckpointStore({ indexedDb })).rejects.toMatchObject({ code: 'storage-denied' });
  });

  test('leave mistakes of our own as they are', () => {
    const mistake = new TypeError('not storage');
    expect(asStorageError(mistake)).toBe(mistake);
  });
});

describe('settings', () => {
  test('are remembered until removed, and unreadable ones are null', async () => {
    const settings = openSettings('settings-test');
    const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);
    expect(await settings.read('name', text)).toBeNull();
    await settings.write('name', 'Ada');
    expect(await settings.read('name', text)).toBe('Ada');
    await settings.write('name', 5);
    expect(await settings.read('name', text)).toBeNull();
    await settings.remove('name');
    expect(await settings.read('name', (value) => value)).toBeNull();
  });

  test('remember which kernels are fastest', async () => {
    const store = settingsTuningStore(openSettings('settings-test'));
    expect(await store.load('matmul | gpu')).toBeNull();
    await store.save('matmul | gpu', { version: 3 });
    expect(await store.load('matmul | gpu')).toEqual({ version: 3 });
  });
});
