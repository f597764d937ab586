/** What `--data` may name, as files: paths, folders, addresses and data sets of a hub. Reads nothing of them. */
import { createReadStream } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { fileOfUrl } from '../data/sources/data-file.ts';
import type { DataFile } from '../data/sources/data-file.ts';
import { dataExtensions, formatOf } from '../data/sources/formats.ts';
import { hubFiles, parseHubAddress, publicHubUrl } from '../data/sources/hub.ts';
import { CliError } from './errors.ts';

/** A hub of one's own, by the name that Hugging Face's tools use. */
function hubUrl(): string {
  const named = process.env['HF_ENDPOINT'] ?? '';
  return named === '' ? publicHubUrl : named.replace(/\/+$/, '');
}

/** In the order given; of a folder all files of known kinds, by their paths. Throws `CliError` and `DataError`. */
export async function dataFiles(named: readonly string[]): Promise<readonly DataFile[]> {
  const files: DataFile[] = [];
  for (const each of named) {
    const dataset = parseHubAddress(each);
    if (dataset !== null) files.push(...(await hubFiles(dataset, { hubUrl: hubUrl() })));
    else if (/^https?:\/\//.test(each)) files.push(fileOfUrl(each));
    else files.push(...(await localFiles(each)));
  }
  return files;
}

async function localFiles(path: string): Promise<readonly DataFile[]> {
  const found = await stat(path).catch((error: unknown) => {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    throw new CliError(isMissing ? `${path} does not exist` : `${path} can't be read: ${error instanceof Error ? error.message : String(error)}`);
  });
  if (!found.isDirectory()) {
    if (formatOf(path) === null) throw new CliError(`--data ${path}: expected a file of a kind that can be read (${dataExtensions.map((extension) => `.${extension}`).join(', ')}), a folder of such files, an address or hf://datasets/NAME`);
    return [localFile(path, basename(path), found.size)];
  }
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile() && formatOf(entry.name) !== null).map((entry) => join(entry.parentPath, entry.name));
  if (paths.length === 0) throw new CliError(`--data ${path}: the folder has no file of a kind that can be read`);
  return Promise.all(paths.toSorted().map(async (each) => localFile(each, each, (await stat(each)).size)));
}

function localFile(path: string, name: string, size: number): DataFile {
  return {
    name,
    size,
    measure: () => Promise.resolve(size),
    stream: () => Promise.resolve(Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array>),
    async slice(start, end) {
      const file = await open(path);
      try {
        const bytes = new Uint8Array(end - start);
        const { bytesRead } = await file.read(bytes, 0, end - start, start);
        if (bytesRead < end - start) throw new CliError(`${path} became shorter while it was read`);
        return bytes.buffer;
      } finally {
        await file.close();
      }
    },
  };
}
