/**
 * Asks the browser not to evict what is stored here when the disk runs low. For the page's main thread: workers may
 * not ask.
 */

export type Persistence = 'granted' | 'refused' | 'unsupported';

let asked: Promise<Persistence> | null = null;

/** Asks once per page; later calls get the same answer. Never throws: storing works without it, only less safely. */
export function askForPersistence(): Promise<Persistence> {
  asked ??= ask();
  return asked;
}

async function ask(): Promise<Persistence> {
  // Typed as always present; absent in insecure contexts.
  const storage = navigator.storage as StorageManager | undefined;
  if (storage?.persist === undefined) return 'unsupported';
  try {
    return (await storage.persist()) ? 'granted' : 'refused';
  } catch {
    return 'refused'; // Some private windows throw instead of answering.
  }
}
