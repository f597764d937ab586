/** Comma-separated values with a line of column names; other separators are recognised. A row is a document. */
import { DataError } from '../errors.ts';
import type { SourceDocument } from '../types.ts';
import type { DataFile } from './data-file.ts';
import { decodedText } from './decoding.ts';
import type { ReadOptions } from './decoding.ts';
import { maxRecordLength } from './json.ts';

/** As much of the file as the separator is guessed from. */
const guessedFromLength = 2 ** 16;

/** Throws `DataError` with file and row; rows count from 1, the line of names is none. */
export async function* csvRows(file: DataFile, options: ReadOptions): AsyncGenerator<SourceDocument> {
  const { default: Papa } = await import('papaparse');
  const { name } = file;
  let columns: readonly string[] | null = null;
  let rows = 0;
  let parser: InstanceType<typeof Papa.Parser> | null = null;
  let waiting = '';
  /** As long as a row is cut, it is parsed again only when there is twice as much of it. */
  let parseFrom = guessedFromLength;

  function* take(isLast: boolean): Generator<SourceDocument> {
    const guessed = (): string => Papa.parse<string[]>(waiting.slice(0, guessedFromLength), { preview: 10, skipEmptyLines: true }).meta.delimiter;
    parser ??= new Papa.Parser({ delimiter: /\.tsv(\.gz)?$/i.test(name) ? '\t' : guessed(), newline: '\n' });
    const { data, errors, meta } = parser.parse(waiting, 0, !isLast) as Papa.ParseResult<readonly string[]>;
    for (const [at, fields] of data.entries()) {
      const isBlank = fields.length === 1 && fields[0] === '';
      if (isBlank) continue;
      const wrong = errors.find(({ row }) => row === at);
      const place = columns === null ? `${name}, the line of column names` : `${name}, row ${rows + 1}`;
      if (wrong !== undefined) throw new DataError(`${place}: ${wrong.message}`);
      if (columns === null) {
        columns = checkedColumns(fields, place);
        continue;
      }
      rows += 1;
      if (fields.length !== columns.length) throw new DataError(`${place} has ${fields.length} values, and there are ${columns.length} columns: is a quotation mark missing?`);
      yield { kind: 'record', place, record: Object.fromEntries(columns.map((column, field) => [column, fields[field]])) };
    }
    const unfinished = errors.find(({ row }) => row === undefined || row >= data.length);
    if (isLast && unfinished !== undefined) throw new DataError(`${name}, row ${rows + 1}: ${unfinished.message}`);
    waiting = waiting.slice(meta.cursor);
  }

  for await (const text of decodedText(file, { ...options, normalizesLineEnds: true })) {
    waiting += text;
    if (waiting.length < parseFrom) continue;
    yield* take(false);
    if (waiting.length > maxRecordLength) {
      throw new DataError(`${name}, row ${rows + 1} is longer than ${maxRecordLength / 2 ** 20} million characters: is a quotation mark missing?`);
    }
    parseFrom = Math.max(guessedFromLength, 2 * waiting.length);
  }
  if (waiting !== '') yield* take(true);
}

function checkedColumns(fields: readonly string[], place: string): readonly string[] {
  const columns = fields.map((field) => field.trim());
  const twice = columns.find((column, at) => columns.indexOf(column) !== at);
  if (twice !== undefined) throw new DataError(`${place} has ${JSON.stringify(twice)} twice`);
  return columns;
}
