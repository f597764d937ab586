/**
 * Parquet, one row group after another: only the footer and the columns that are wanted are read, so it works over HTTP ranges. A row
 * is a document.
 */
import type { AsyncBuffer, FileMetaData } from 'hyparquet';
import { DataError } from '../errors.ts';
import type { SourceDocument } from '../types.ts';
import type { DataFile } from './data-file.ts';
import type { ReadOptions } from './decoding.ts';

/** Unpacked, of the columns that are read: a row group is held in memory as a whole. */
const maxGroupBytes = 2 ** 30;
const magic = 'PAR1';
/** Four bytes at each end, and the footer's length. */
const leastBytes = 12;

export interface ParquetOptions extends ReadOptions {
  /** Which columns to read, of those that there are. */
  readonly columns: (all: readonly string[]) => readonly string[];
}

/** Throws `DataError` with the file's name, and the row group where it is that. */
export async function* parquetRows(file: DataFile, size: number, options: ParquetOptions): AsyncGenerator<SourceDocument> {
  const { name } = file;
  const [{ parquetMetadataAsync, parquetReadObjects, parquetSchema }, { compressors }] = await Promise.all([import('hyparquet'), import('hyparquet-compressors')]);
  await checkEnds(file, size);
  const buffer: AsyncBuffer = {
    byteLength: size,
    slice(start, end = size) {
      options.signal?.throwIfAborted();
      if (!(start >= 0 && start <= end && end <= size)) throw new DataError(`${name} is damaged: it points to bytes ${start} to ${end} of ${size}`);
      options.onBytes?.(end - start);
      return file.slice(start, end);
    },
  };
  const metadata = await damagedUnlessRead(name, 'its footer', () => parquetMetadataAsync(buffer));
  const columns = options.columns(parquetSchema(metadata).children.map(({ element }) => element.name));
  let rowStart = 0;
  for (const [group, { num_rows }] of metadata.row_groups.entries()) {
    options.signal?.throwIfAborted();
    const rowEnd = rowStart + Number(num_rows);
    checkGroup(name, metadata, group, columns);
    const rows = await damagedUnlessRead(name, `row group ${group + 1} of ${metadata.row_groups.length}`, () =>
      parquetReadObjects({ file: buffer, metadata, rowStart, rowEnd, columns: [...columns], compressors }),
    );
    for (const [at, record] of rows.entries()) yield { kind: 'record', place: `${name}, row ${rowStart + at + 1}`, record: plain(record) };
    rowStart = rowEnd;
  }
}

/** The commonest trouble is a download that broke off. */
async function checkEnds(file: DataFile, size: number): Promise<void> {
  const text = (bytes: ArrayBuffer): string => new TextDecoder('latin1').decode(bytes);
  if (size < leastBytes || text(await file.slice(0, magic.length)) !== magic) throw new DataError(`${file.name} is not a parquet file: it does not begin with ${magic}`);
  if (text(await file.slice(size - magic.length, size)) !== magic) throw new DataError(`${file.name} is cut short: a parquet file ends with ${magic}. Download it again`);
}

function checkGroup(name: string, { row_groups }: FileMetaData, group: number, columns: readonly string[]): void {
  const read = row_groups[group]?.columns.filter(({ meta_data }) => columns.includes(meta_data?.path_in_schema[0] ?? '')) ?? [];
  const bytes = read.reduce((sum, { meta_data }) => sum + Number(meta_data?.total_uncompressed_size ?? 0), 0);
  if (bytes > maxGroupBytes) throw new DataError(`${name}: row group ${group + 1} takes ${bytes} bytes of memory, and at most ${maxGroupBytes} are set aside: write the file in smaller row groups`);
}

async function damagedUnlessRead<T>(name: string, what: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof DataError || (error instanceof DOMException && error.name === 'AbortError')) throw error;
    throw new DataError(`${name} is damaged: ${what} can't be read (${error instanceof Error ? error.message : String(error)})`);
  }
}

/** 64-bit integers as numbers where that is exact. */
function plain(record: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(record).map(([key, value]) => [key, typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value]),
  );
}
