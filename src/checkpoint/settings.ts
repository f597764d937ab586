/**
 * Small facts that this browser remembers between visits: the person's name, the rooms that it led. Values of a few
 * kilobytes at most; runs and weights belong in `store.ts`.
 */
import { createStore, del, get, set } from 'idb-keyval';
import { asStorageError } from './errors.ts';

export interface SettingsStore {
  /** null when nothing is stored or `parse` does not accept what is (an older page wrote it). */
  read<T>(key: string, parse: (stored: unknown) => T | null): Promise<T | null>;
  write(key: string, value: string | number | boolean | object): Promise<void>;
  remove(key: string): Promise<void>;
}

/** Methods throw `StorageError` when the browser refuses. The database is opened by the first call. */
export function openSettings(databaseName = 'cotrain-settings'): SettingsStore {
  let store: ReturnType<typeof createStore> | null = null;
  const opened = (): ReturnType<typeof createStore> => (store ??= createStore(databaseName, 'settings'));
  const typed = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      throw asStorageError(cause);
    }
  };
  return {
    read: (key, parse) =>
      typed(async () => {
        const stored: unknown = await get(key, opened());
        return stored === undefined ? null : parse(stored);
      }),
    write: (key, value) => typed(() => set(key, value, opened())),
    remove: (key) => typed(() => del(key, opened())),
  };
}
