/** Files on disk as readers and writers of models see them: ranges of bytes on demand, and streams that are whole or not there. */
import { createWriteStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ModelFileError } from '../checkpoint/bytes.ts';
import type { ByteSource } from '../checkpoint/bytes.ts';
import type { FileSet } from '../checkpoint/hf-folder.ts';
import { CliError } from './errors.ts';

/** The file, or the folder's files by name, open for as long as `work` takes. Throws `CliError` when there is no such thing. */
export async function withFiles<T>(path: string, work: (files: FileSet) => Promise<T>): Promise<T> {
  const handles: FileHandle[] = [];
  try {
    return await work(await openFiles(path, handles));
  } finally {
    await Promise.all(handles.map((handle) => handle.close()));
  }
}

async function openFiles(path: string, handles: FileHandle[]): Promise<FileSet> {
  const info = await stat(path).catch(() => null);
  if (info === null) throw new CliError(`${path} does not exist`);
  const names = info.isDirectory() ? (await readdir(path, { withFileTypes: true })).flatMap((entry) => (entry.isFile() || entry.isSymbolicLink() ? [entry.name] : [])) : [null];
  const files = new Map<string, ByteSource>();
  for (const name of names) {
    const file = name === null ? path : join(path, name);
    const handle = await open(file, 'r');
    handles.push(handle);
    files.set(name ?? basename(path), { name: file, size: (await handle.stat()).size, read: (offset, length) => readRange(handle, file, offset, length) });
  }
  return files;
}

async function readRange(handle: FileHandle, file: string, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled);
    if (bytesRead === 0) throw new ModelFileError(`${file}: ended at byte ${offset + filled}; was it changed meanwhile?`);
    filled += bytesRead;
  }
  return bytes;
}

/** Under another name until it is whole, so that nothing is lost where writing fails. `written` counts bytes so far. */
export async function writeWhole(path: string, chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>, written: (bytes: number) => void): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const part = `${path}.part`;
  let bytes = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      yield chunk;
      bytes += chunk.length;
      written(bytes);
    }
  }
  try {
    await pipeline(counted(), createWriteStream(part));
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}
