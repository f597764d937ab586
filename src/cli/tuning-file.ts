/**
 * Where the command line remembers which kernels are fastest on a GPU: one JSON file in the user's cache folder
 * (XDG Base Directory Specification). Losing it costs a measurement.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import type { TuningStore } from '../engine/index.ts';

const fileName = 'tuning.json';

/** $XDG_CACHE_HOME, which counts only when it is absolute, or ~/.cache. */
export function cacheFolder(environment: NodeJS.ProcessEnv): string {
  const named = environment['XDG_CACHE_HOME'] ?? '';
  return join(isAbsolute(named) ? named : join(homedir(), '.cache'), 'cotrain');
}

/** Methods reject when the file can't be read or written; a file that is not there, or no JSON object, holds nothing. */
export function fileTuningStore(folder: string): TuningStore {
  const path = join(folder, fileName);
  return {
    load: async (key) => (await readEntries(path))[key],
    async save(key, value) {
      const entries = { ...(await readEntries(path)), [key]: value };
      await mkdir(folder, { recursive: true });
      // A name of its own, then moved: another process reads the old file or the new one, never half of one.
      const written = `${path}.${process.pid}`;
      await writeFile(written, `${JSON.stringify(entries, null, 2)}\n`);
      await rename(written, path);
    },
  };
}

async function readEntries(path: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    const parsed: unknown = JSON.parse(await readFile(path, 'utf8'));
    return typeof parsed === 'object' && parsed !== null ? { ...parsed } : {};
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    if (isMissing || error instanceof SyntaxError) return {};
    throw error;
  }
}
