/**
 * Files of any kind to documents, one after another: which format a file has, and which column of a table is its text. Whether what a
 * record holds is a conversation is not asked here.
 */
import { DataError } from '../errors.ts';
import type { SourceDocument } from '../types.ts';
import { csvRows } from './csv.ts';
import { dataExtensions, formatOf } from './formats.ts';
import type { DataFile } from './data-file.ts';
import type { ReadOptions } from './decoding.ts';
import { jsonLines, jsonValues } from './json.ts';
import { parquetRows } from './parquet.ts';
import { textDocuments } from './text.ts';

export interface SourceOptions extends ReadOptions {
  /** Which column of tables is the text; absent: the one that is recognised. */
  readonly column?: string;
  /** Of plain text. Default: yes. */
  readonly normalizesLineEnds?: boolean;
}

/** Columns that data sets have their text in, the likeliest first. */
const textColumns = ['text', 'content', 'document', 'body', 'article', 'story', 'raw_content', 'code'];

/** The column that was chosen, else the one that is known for it, else the only one; null where none can be told. */
export function textColumnOf(columns: readonly string[], chosen?: string): string | null {
  if (chosen !== undefined) return columns.includes(chosen) ? chosen : null;
  const known = textColumns.map((name) => columns.find((column) => column.toLowerCase() === name)).find((column) => column !== undefined);
  return known ?? (columns.length === 1 ? (columns[0] ?? null) : null);
}

function listed(names: readonly string[]): string {
  return names.map((name) => JSON.stringify(name)).join(', ');
}

/** The text of a record. Throws `DataError` with its place. */
export function textOfRecord({ place, record }: Extract<SourceDocument, { kind: 'record' }>, chosen?: string): string {
  const columns = Object.keys(record);
  const column = textColumnOf(columns, chosen);
  if (column === null) {
    throw new DataError(
      chosen === undefined
        ? `${place}: none of ${listed(columns)} is known for text (${textColumns.join(', ')}): say which one it is`
        : `${place}: there is no ${JSON.stringify(chosen)} among ${listed(columns)}`,
    );
  }
  const text = record[column];
  if (text === null || text === undefined) return '';
  if (typeof text !== 'string') throw new DataError(`${place}: ${JSON.stringify(column)} is not text`);
  return text;
}

/** Documents of these files, in their order. Throws `DataError` with file and place. */
export async function* readDocuments(files: readonly DataFile[], options: SourceOptions = {}): AsyncGenerator<SourceDocument> {
  if (files.length === 0) throw new DataError('there are no files');
  for (const file of files) yield* documentsOf(file, options);
}

function documentsOf(file: DataFile, options: SourceOptions): AsyncGenerator<SourceDocument> {
  const format = formatOf(file.name);
  switch (format) {
    case 'text':
      return textDocuments(file, { ...options, normalizesLineEnds: options.normalizesLineEnds ?? true });
    case 'json-lines':
      return someOf(file, jsonLines(file, options));
    case 'json':
      return someOf(file, jsonValues(file, options));
    case 'table':
      return someOf(file, csvRows(file, options));
    case 'parquet':
      return someOf(file, parquetDocuments(file, options));
    case null:
      throw new DataError(`${file.name} is of no kind that can be read: those are ${dataExtensions.map((extension) => `.${extension}`).join(', ')}`);
  }
}

async function* parquetDocuments(file: DataFile, options: SourceOptions): AsyncGenerator<SourceDocument> {
  const columns = (all: readonly string[]): readonly string[] => {
    const { column } = options;
    if (column === undefined) {
      // Conversations and pre-tokenized rows are in columns of their own, which are needed whole.
      const known = all.find((name) => textColumns.includes(name.toLowerCase()));
      return known !== undefined && !all.some((name) => wholeRecords.has(name)) ? [known] : all;
    }
    if (!all.includes(column)) throw new DataError(`${file.name}: there is no ${JSON.stringify(column)} among ${listed(all)}`);
    return [column];
  };
  yield* parquetRows(file, await file.measure(), { ...options, columns });
}

/** Columns that say that a row is more than a text. */
const wholeRecords: ReadonlySet<string> = new Set(['messages', 'conversations', 'input_ids', 'prompt', 'completion', 'instruction', 'output', 'chosen']);

async function* someOf(file: DataFile, documents: AsyncGenerator<SourceDocument>): AsyncGenerator<SourceDocument> {
  let count = 0;
  for await (const document of documents) {
    count += 1;
    yield document;
  }
  if (count === 0) throw new DataError(file.size === 0 ? `${file.name} is empty` : `${file.name} has no rows`);
}
