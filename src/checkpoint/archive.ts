/**
 * Zip archives as sets of files, and sets of files as zip archives. An entry is read where it lies, or inflated as it is read from
 * front to back: nothing is unpacked. What an archive says is not believed: names that leave the folder, entries that would swell
 * beyond reason and those that come to more than they said are refused. The format itself is zip.js's, which is loaded when used.
 * Format: PKWARE's APPNOTE.TXT 6.3
 */
import type { FileEntry, Entry } from '@zip.js/zip.js';
import { ModelFileError } from './bytes.ts';
import type { ByteSource } from './bytes.ts';
import type { FileSet } from './hf-folder.ts';

export class ArchiveError extends ModelFileError {
  override readonly name = 'ArchiveError';
}

const limits = {
  entries: 10_000,
  /** Of all that is in it: more than any machine that trains here has memory for. */
  totalBytes: 2 ** 38,
  /** Deflate can't do better than 1,032; weights hardly shrink and text to a fifth, so this is a trap, or nothing but zeros. */
  ratio: 200,
  /** Under which the ratio does not matter. */
  harmlessBytes: 2 ** 24,
} as const;

const stored = 0;
const deflated = 8;
/** Of a local file header: its fixed part, and where its two lengths are. */
const localHeader = { bytes: 30, signature: 0x04034b50, nameLengthAt: 26, extraLengthAt: 28 } as const;

async function zipLibrary() {
  const zip = await import('@zip.js/zip.js');
  // We are in a worker already, or in Node.
  zip.configure({ useWebWorkers: false });
  return zip;
}

/** By the first bytes, since a name says little. */
export async function isZip(source: ByteSource): Promise<boolean> {
  if (source.size < 4) return false;
  const [p, k, a, b] = await source.read(0, 4);
  return p === 0x50 && k === 0x4b && ((a === 3 && b === 4) || (a === 5 && b === 6));
}

/** The archive's files. Throws `ArchiveError` naming archive and entry. */
export async function openZip(source: ByteSource): Promise<FileSet> {
  const { Reader, ZipReader } = await zipLibrary();
  class SourceReader extends Reader<ByteSource> {
    override readonly size = source.size;
    override readUint8Array(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
      return source.read(offset, Math.max(0, Math.min(length, source.size - offset)));
    }
  }
  const files = new Map<string, ByteSource>();
  let totalBytes = 0;
  let count = 0;
  try {
    for await (const entry of new ZipReader(new SourceReader(source), { filenameValidation: 'tolerant' }).getEntriesGenerator()) {
      count += 1;
      if (count > limits.entries) throw new ArchiveError(`${source.name}: has more than ${limits.entries} entries`);
      if (entry.directory || isForFinder(entry.filename)) continue;
      checkEntry(source.name, entry);
      totalBytes += entry.uncompressedSize;
      if (totalBytes > limits.totalBytes) throw new ArchiveError(`${source.name}: unpacks to more than ${limits.totalBytes} bytes`);
      if (files.has(entry.filename)) throw new ArchiveError(`${source.name}: has ${entry.filename} twice`);
      files.set(entry.filename, await entrySource(source, entry));
    }
  } catch (error) {
    if (error instanceof ModelFileError) throw error;
    throw new ArchiveError(`${source.name}: is not a zip file that can be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  return files;
}

/** macOS puts its own files beside those that a person packed. */
function isForFinder(name: string): boolean {
  return name.startsWith('__MACOSX/') || name.endsWith('.DS_Store');
}

function checkEntry(archive: string, { filename, encrypted, compressionMethod, compressedSize, uncompressedSize }: Entry): void {
  const fail = (what: string): ArchiveError => new ArchiveError(`${archive}: ${JSON.stringify(filename)} ${what}`);
  const leaves = filename.startsWith('/') || /^[a-z]:/i.test(filename) || filename.includes('\\') || filename.includes('\0') || filename.split('/').includes('..');
  if (leaves) throw fail('is a name that leads out of the archive');
  if (encrypted) throw fail('is encrypted');
  if (compressionMethod !== stored && compressionMethod !== deflated) throw fail(`is compressed by method ${compressionMethod}; stored and deflated files can be read`);
  if (compressionMethod === stored && compressedSize !== uncompressedSize) throw fail(`is stored, and claims ${uncompressedSize} bytes of ${compressedSize}`);
  if (uncompressedSize > limits.harmlessBytes && uncompressedSize / Math.max(1, compressedSize) > limits.ratio) {
    throw fail(`claims to unpack ${compressedSize} bytes to ${uncompressedSize}: that is no model, and it is not unpacked`);
  }
}

async function entrySource(archive: ByteSource, entry: FileEntry): Promise<ByteSource> {
  const name = `${archive.name}/${entry.filename}`;
  const { uncompressedSize: size, compressedSize, offset } = entry;
  if (entry.compressionMethod !== stored) return new InflatedEntry(name, entry);
  const fail = (): ArchiveError => new ArchiveError(`${name}: lies outside of the archive`);
  if (offset + localHeader.bytes > archive.size) throw fail();
  const header = new DataView((await archive.read(offset, localHeader.bytes)).buffer);
  const start = offset + localHeader.bytes + header.getUint16(localHeader.nameLengthAt, true) + header.getUint16(localHeader.extraLengthAt, true);
  if (header.getUint32(0, true) !== localHeader.signature || start + compressedSize > archive.size) throw fail();
  return { name, size, read: (from, length) => archive.read(start + from, length) };
}

/** A deflated entry: reading goes on where the last read ended, and begins again for what lies before. */
class InflatedEntry implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #entry: FileEntry;
  #reader: ReadableStreamDefaultReader<Uint8Array> | null = null;
  /** Inflated, and not yet asked for. */
  #rest = new Uint8Array(0);
  #position = 0;
  #failure: Error | null = null;

  constructor(name: string, entry: FileEntry) {
    this.name = name;
    this.size = entry.uncompressedSize;
    this.#entry = entry;
  }

  async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#reader === null || offset < this.#position) await this.#restart();
    const bytes = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      if (this.#rest.length === 0) this.#rest = await this.#next();
      const skipped = Math.min(this.#rest.length, Math.max(0, offset - this.#position));
      const taken = this.#rest.subarray(skipped, skipped + length - filled);
      bytes.set(taken, filled);
      filled += taken.length;
      this.#position += skipped + taken.length;
      this.#rest = this.#rest.subarray(skipped + taken.length);
    }
    return bytes;
  }

  async #restart(): Promise<void> {
    await this.#reader?.cancel().catch(() => undefined); // It is not read any more.
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    this.#failure = null;
    this.#entry.getData(writable, { checkCrc32: true }).catch((error: unknown) => {
      this.#failure = error instanceof Error ? error : new Error(String(error));
    });
    this.#reader = readable.getReader();
    this.#rest = new Uint8Array(0);
    this.#position = 0;
  }

  async #next(): Promise<Uint8Array<ArrayBuffer>> {
    const fail = (why: string): ArchiveError => new ArchiveError(`${this.name}: can't be unpacked: ${why}`);
    try {
      const { done, value } = (await this.#reader?.read()) ?? { done: true };
      if (value !== undefined && value.length > 0) return new Uint8Array(value);
      if (done) throw fail(this.#failure?.message ?? `it has fewer bytes than the ${this.size} that it claims`);
      return await this.#next();
    } catch (error) {
      throw error instanceof ArchiveError ? error : fail(this.#failure?.message ?? String(error));
    }
  }
}

/** The files as an archive, stored as they are, since weights hardly shrink; zip64 where one is too large for less. */
export async function* zipStream(files: Iterable<{ readonly path: string; readonly size: number; readonly chunks: () => Iterable<Uint8Array<ArrayBuffer>> }>): AsyncGenerator<Uint8Array> {
  const { ZipWriter } = await zipLibrary();
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const reader = readable.getReader();
  const writing = (async () => {
    const writer = new ZipWriter(writable, { level: 0, keepOrder: true });
    for (const { path, chunks } of files) await writer.add(path, streamOf(chunks()));
    await writer.close();
  })();
  // Whoever reads is told by the stream's own error.
  writing.catch(() => undefined);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      yield value;
    }
    await writing;
  } finally {
    await reader.cancel().catch(() => undefined); // Where reading ended early, writing is to end too.
  }
}

function streamOf(chunks: Iterable<Uint8Array<ArrayBuffer>>): ReadableStream<Uint8Array> {
  const iterator: Iterator<Uint8Array<ArrayBuffer>, unknown> = chunks[Symbol.iterator]();
  return new ReadableStream({
    pull(controller) {
      const next = iterator.next();
      if (next.done === true) controller.close();
      else controller.enqueue(next.value);
    },
  });
}
