/** From files of every kind to documents, and what is said of those that are broken. */
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fileOfBlob, fileOfStream, fileOfUrl } from '../../src/data/sources/data-file.ts';
import type { DataFile } from '../../src/data/sources/data-file.ts';
import { readDocuments, textOfRecord } from '../../src/data/sources/documents.ts';
import type { SourceOptions } from '../../src/data/sources/documents.ts';
import { hubFiles, parseHubAddress } from '../../src/data/sources/hub.ts';
import { maxPartLength } from '../../src/data/sources/text.ts';
import type { SourceDocument } from '../../src/data/types.ts';
import { parquetOf } from './parquet-writer.ts';

type Content = string | Uint8Array<ArrayBuffer> | Buffer<ArrayBuffer>;

function fileOf(name: string, ...content: Content[]): DataFile {
  return fileOfBlob(name, new Blob(content));
}

/** In chunks of these sizes, which repeat: borders may fall anywhere. */
function inChunks(name: string, bytes: Uint8Array, sizes: readonly number[]): DataFile {
  let at = 0;
  let chunk = 0;
  return fileOfStream(name, new ReadableStream({
    pull(controller) {
      const size = sizes[chunk++ % sizes.length] ?? 1;
      if (at < bytes.length) controller.enqueue(bytes.slice(at, at + size));
      else controller.close();
      at += size;
    },
  }));
}

async function read(files: DataFile | readonly DataFile[], options?: SourceOptions): Promise<SourceDocument[]> {
  const documents: SourceDocument[] = [];
  for await (const document of readDocuments('name' in files ? [files] : files, options)) documents.push(document);
  return documents;
}

const texts = async (files: DataFile | readonly DataFile[], options?: SourceOptions): Promise<string[]> =>
  (await read(files, options)).map((document) => (document.kind === 'text' ? document.text : textOfRecord(document, options?.column)));

const utf8 = new TextEncoder();
const isWellFormed = (text: string): boolean => !/\p{Surrogate}/u.test(text);
const chunkSizes = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 5 });

describe('plain text', () => {
  it('is one document for each file, in their order', async () => {
    expect(await read([fileOf('b.md', '# Two'), fileOf('a.txt', 'One')])).toEqual([
      { kind: 'text', place: 'b.md', text: '# Two' },
      { kind: 'text', place: 'a.txt', text: 'One' },
    ]);
  });

  it('comes through whole, wherever chunks are cut and with either mark', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme', minLength: 1 }), chunkSizes, async (text, sizes) => {
        fc.pre(text.trim() !== '' && !text.includes('\0') && !text.includes('\r') && !text.startsWith('\ufeff') && isWellFormed(text));
        expect(await texts(inChunks('a.txt', utf8.encode(text), sizes))).toEqual([text]);
        expect(await texts(inChunks('a.txt', utf8.encode(`\ufeff${text}`), sizes))).toEqual([text]);
        expect(await texts(inChunks('a.txt', new Uint8Array(Buffer.from(`\ufeff${text}`, 'utf16le')), sizes))).toEqual([text]);
        expect(await texts(inChunks('a.txt', Buffer.from(`\ufeff${text}`, 'utf16le').swap16(), sizes))).toEqual([text]);
      }),
      { numRuns: 15 },
    );
  });

  it('has one way to break a line, unless it is to be taken as it is', async () => {
    await fc.assert(
      fc.asyncProperty(chunkSizes, async (sizes) => {
        const bytes = utf8.encode('a\r\nb\rc\n\r\nd\r');
        expect(await texts(inChunks('a.txt', bytes, sizes))).toEqual(['a\nb\nc\n\nd\n']);
        expect(await texts(inChunks('a.txt', bytes, sizes), { normalizesLineEnds: false })).toEqual(['a\r\nb\rc\n\r\nd\r']);
      }),
      { numRuns: 10 },
    );
  });

  it('that is large comes in parts of one document, cut at paragraphs before the last line end', async () => {
    const paragraph = `${'A long sentence about whales. '.repeat(100)}\n\n`;
    const text = paragraph.repeat(Math.ceil((2.5 * maxPartLength) / paragraph.length));
    const parts = await read(fileOf('long.txt', text));
    expect(parts.map((part) => (part.kind === 'text' ? part.text : '')).join('')).toBe(text);
    expect(parts.map((part) => part.kind === 'text' && part.continues)).toEqual([undefined, true, true]);
    expect(parts[1]?.place).toBe('long.txt, part 2');
    for (const part of parts.slice(1)) expect(part.kind === 'text' && part.text.startsWith('\nA long')).toBe(true);
    for (const part of parts.slice(0, -1)) expect(part.kind === 'text' && part.text.endsWith('. \n')).toBe(true);
  });

  it('is never cut within a character', async () => {
    const text = '🐋'.repeat(maxPartLength);
    const parts = await texts(fileOf('whales.txt', `a${text}`));
    expect(parts.join('')).toBe(`a${text}`);
    expect(parts.every((part) => isWellFormed(part))).toBe(true);
  });

  it('is unpacked where it is gzip’s', async () => {
    expect(await texts(fileOf('a.txt.gz', new Uint8Array(gzipSync('packed text'))))).toEqual(['packed text']);
    await expect(texts(fileOf('a.txt.gz', new Uint8Array(gzipSync('packed text'.repeat(500)).subarray(0, 30))))).rejects.toThrow('a.txt.gz is damaged or cut short');
  });

  it.each([
    ['a.txt is empty', fileOf('a.txt')],
    ['a.txt holds nothing but blanks', fileOf('a.txt', ' \n\t\n')],
    ['a.txt holds binary data, not text: byte 5 is zero', fileOf('a.txt', 'abcde\0f')],
    ['a.txt is not text in UTF-8: byte 4 is no character', fileOf('a.txt', new Uint8Array([0x61, 0xc3, 0xa9, 0x62, 0xe9, 0x63]))],
    ['a.txt is not text in UTF-8: byte 70001', fileOf('a.txt', 'ab'.repeat(35_000), 'c', new Uint8Array([0xff, 0x63]))],
    ['a.txt ends in the middle of a character, at byte 1', fileOf('a.txt', new Uint8Array([0x61, 0xf0, 0x9f]))],
    ['a.txt says that it is UTF-16', fileOf('a.txt', new Uint8Array([0xff, 0xfe, 0x00, 0xdc, 0x61, 0x00]))],
    ['song.mp3 is of no kind that can be read: those are .txt', fileOf('song.mp3', 'x')],
  ])('is refused with “%s”', async (message, file) => {
    await expect(read(file)).rejects.toThrow(message);
    await expect(read(file)).rejects.toMatchObject({ name: 'DataError' });
  });

  it('names the same byte as a strict decoder, for any bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ min: 1, max: 255, minLength: 1, maxLength: 12 }), chunkSizes, async (bytes, sizes) => {
        const prefix = (length: number): boolean => {
          try {
            new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length), { stream: true });
            return true;
          } catch {
            return false;
          }
        };
        fc.pre(!(bytes[0] === 0xff && bytes[1] === 0xfe) && !(bytes[0] === 0xfe && bytes[1] === 0xff) && !(bytes[0] === 0x1f && bytes[1] === 0x8b) && !prefix(bytes.length));
        const message = await read(inChunks('a.txt', new Uint8Array(bytes), sizes)).then(() => 'none', (error: unknown) => String(error));
        const at = Number(/byte (\d+)/.exec(message)?.[1]);
        // Up to there all is well, and nothing that follows could make a character of it.
        expect(prefix(at)).toBe(true);
        expect([...Array.from({ length: 256 }, (_, next) => next)].some((next) => prefixOf(bytes, at, next))).toBe(false);
      }),
      { numRuns: 60 },
    );
  });
});

/** Whether the bytes from `at` begin a whole character. */
function prefixOf(bytes: Uint8Array, at: number, last: number): boolean {
  return [1, 2, 3, 4].some((length) => {
    if (at + length > bytes.length || (last > 0 && length > 0 && last !== bytes[at + length - 1])) return false;
    try {
      return [...new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(at, at + length))].length === 1;
    } catch {
      return false;
    }
  });
}

describe('JSON', () => {
  it('lines are documents, named by their numbers', async () => {
    await fc.assert(
      fc.asyncProperty(chunkSizes, async (sizes) => {
        const documents = await read(inChunks('a.jsonl', utf8.encode('{"text":"é"}\r\n\n  \n"plain"\n{"n":[1,{}]}'), sizes));
        expect(documents).toEqual([
          { kind: 'record', place: 'a.jsonl:1', record: { text: 'é' } },
          { kind: 'text', place: 'a.jsonl:4', text: 'plain' },
          { kind: 'record', place: 'a.jsonl:5', record: { n: [1, {}] } },
        ]);
      }),
      { numRuns: 10 },
    );
  });

  it('files may be a list, an object, or one value after another, however they are written and cut', async () => {
    const anything = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 });
    await fc.assert(
      fc.asyncProperty(fc.array(anything, { minLength: 1, maxLength: 5 }), chunkSizes, fc.constantFrom(undefined, 2), async (values, sizes, indent) => {
        for (const json of [JSON.stringify(values, null, indent), values.map((value) => JSON.stringify(value, null, indent)).join('\n')]) {
          const documents = await read(inChunks('a.json', utf8.encode(json), sizes));
          expect(documents.map((document) => (document.kind === 'record' ? document.record : null))).toEqual(JSON.parse(JSON.stringify(values)));
        }
      }),
      { numRuns: 10 },
    );
  });

  it.each([
    ['a.jsonl:2: not valid JSON', fileOf('a.jsonl', '{"a":1}\n{"a":')],
    ['a.jsonl:2: not a JSON object', fileOf('a.jsonl', '{"a":1}\n7')],
    ['a.jsonl is empty', fileOf('a.jsonl')],
    ['a.jsonl has no rows', fileOf('a.jsonl', '\n\n')],
    ['a.json:3: not valid JSON', fileOf('a.json', '[\n{"a":1},\n{"a":x}]')],
    ['a.json:2: the file ends in the middle of the value that begins at line 2', fileOf('a.json', '[{"a":1},\n{"a":"b"')],
    ['a.json:1: the file ends in the middle of its list', fileOf('a.json', '[{"a":1},')],
    ['a.json:1: not valid JSON (no object, list or text begins with "7")', fileOf('a.json', '7')],
  ])('is refused with “%s”', async (message, file) => {
    await expect(read(file)).rejects.toThrow(message);
  });

  it('with a line of a hundred megabytes is refused as soon as it is too long, and not held', async () => {
    let given = 0;
    const endless = fileOfStream('big.jsonl', new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(utf8.encode('{"text":"ok"}\n{"text":"'));
      },
      pull(controller) {
        given += 2 ** 20;
        if (given > 100 * 2 ** 20) controller.close();
        else controller.enqueue(new Uint8Array(2 ** 20).fill(0x61));
      },
    }));
    await expect(read(endless)).rejects.toThrow('big.jsonl:2 is longer than 16 million characters');
    expect(given).toBeLessThan(20 * 2 ** 20);
  });
});

describe('tables', () => {
  it('are read row by row, quoted values with line ends and separators in them included', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.string({ unit: 'grapheme' }), fc.constantFrom('plain', 'a,"b"\nc')), { minLength: 1, maxLength: 6 }), chunkSizes, async (rows, sizes) => {
        const clean = rows.map(([one, other]) => [`x${one.replaceAll(/[\r\0]/g, '')}`, other] as const);
        fc.pre(clean.every(([one]) => isWellFormed(one)));
        const quoted = (value: string): string => `"${value.replaceAll('"', '""')}"`;
        const csv = ['title,text', ...clean.map((row) => row.map(quoted).join(','))].join('\r\n');
        const records = (await read(inChunks('a.csv', utf8.encode(csv), sizes))).map((document) => (document.kind === 'record' ? document.record : null));
        expect(records).toEqual(clean.map(([title, text]) => ({ title, text })));
      }),
      { numRuns: 15 },
    );
  });

  it('may have other separators', async () => {
    expect(await read(fileOf('a.tsv', 'id\ttext\n1\tone\n'))).toEqual([{ kind: 'record', place: 'a.tsv, row 1', record: { id: '1', text: 'one' } }]);
    expect(await texts(fileOf('a.csv', 'id;text\n1;one\n2;two\n'))).toEqual(['one', 'two']);
  });

  it('longer than what is read at once lose no row', async () => {
    const rows = Array.from({ length: 20_000 }, (_, at) => `${at},"line ${at}\nof text"`);
    const found = await texts(fileOf('a.csv', `id,text\n${rows.join('\n')}\n`));
    expect(found).toHaveLength(20_000);
    expect(found.at(-1)).toBe('line 19999\nof text');
  });

  it('know their text by its column’s name, or by the name that is given', async () => {
    expect(await texts(fileOf('a.csv', 'id,Content\n1,here\n'))).toEqual(['here']);
    expect(await texts(fileOf('a.csv', 'sentence\nonly\n'))).toEqual(['only']);
    expect(await texts(fileOf('a.csv', 'de,en\nWal,whale\n'), { column: 'en' })).toEqual(['whale']);
    await expect(texts(fileOf('a.csv', 'de,en\nWal,whale\n'))).rejects.toThrow('a.csv, row 1: none of "de", "en" is known for text');
    await expect(texts(fileOf('a.csv', 'de,en\nWal,whale\n'), { column: 'fr' })).rejects.toThrow('a.csv, row 1: there is no "fr" among "de", "en"');
  });

  it.each([
    ['a.csv, row 2 has 1 values, and there are 2 columns', fileOf('a.csv', 'a,b\n1,2\n3\n')],
    ['a.csv, the line of column names has "a" twice', fileOf('a.csv', 'a,a\n1,2\n')],
    ['a.csv, row 2: ', fileOf('a.csv', 'a,b\n1,2\n3,"4\n')],
    ['a.csv has no rows', fileOf('a.csv', 'a,b\n')],
  ])('are refused with “%s”', async (message, file) => {
    await expect(read(file)).rejects.toThrow(message);
  });
});

const stories = Array.from({ length: 7 }, (_, at) => ({ id: `${at}`, text: `Story ${at}: ${'once upon a time '.repeat(at)}` }));

describe('parquet', () => {
  it('is read one row group after another, and only the column that is wanted', async () => {
    const bytes = parquetOf(['id', 'text'], stories, { rowsPerGroup: 3 });
    const ranges: number[] = [];
    const file = fileOf('a.parquet', bytes);
    const watched: DataFile = { ...file, slice: (start, end) => (ranges.push(start), file.slice(start, end)) };
    expect(await texts(watched)).toEqual(stories.map(({ text }) => text));
    const documents = await read(file);
    expect(documents[4]).toMatchObject({ place: 'a.parquet, row 5', record: { text: stories[4]?.text } });
    expect(documents[4]?.kind === 'record' && Object.keys(documents[4].record)).toEqual(['text']);
    // Both ends, the footer, and a column of each of three groups.
    expect(ranges).toHaveLength(6);
  });

  it('is unpacked', async () => {
    expect(await texts(fileOf('a.parquet', parquetOf(['text'], stories, { rowsPerGroup: 7, gzip: true })))).toEqual(stories.map(({ text }) => text));
  });

  const whole = parquetOf(['id', 'text'], stories, { rowsPerGroup: 3 });
  it.each([
    ['a.parquet is cut short', whole.slice(0, -20)],
    ['a.parquet is not a parquet file', utf8.encode('id,text\n1,one\n')],
    ['a.parquet is damaged: its footer', Uint8Array.from(whole, (byte, at) => (at === whole.length - 5 ? 0x7f : byte))],
    ['a.parquet is damaged: row group 1 of 3', Uint8Array.from(whole, (byte, at) => (at > 4 && at < 200 ? 0xff : byte))],
  ])('is refused with “%s”', async (message, bytes) => {
    await expect(read(fileOf('a.parquet', bytes))).rejects.toThrow(message);
  });

  it('without the column that was named is refused, and says what there is', async () => {
    await expect(read(fileOf('a.parquet', whole), { column: 'story' })).rejects.toThrow('a.parquet: there is no "story" among "id", "text"');
  });
});

describe('from a server', () => {
  const parquet = parquetOf(['text'], stories, { rowsPerGroup: 2 });
  let server: Server;
  let origin = '';
  let sent = 0;
  const lists: Readonly<Record<string, readonly { path: string; size: number }[]>> = {
    '/api/datasets/ann/stories/tree/main': [
      { path: 'README.md', size: 9 },
      { path: 'data/test-0.parquet', size: parquet.length },
      { path: 'data/train-1.parquet', size: parquet.length },
      { path: 'data/train-0.parquet', size: parquet.length },
      { path: 'notes.txt', size: 4 },
    ],
    '/api/datasets/odd/tree/main': [{ path: 'data.bin', size: 4 }],
    '/api/datasets/odd/tree/refs/convert/parquet': [{ path: 'default/train/0000.parquet', size: parquet.length }],
    '/api/datasets/none/tree/main': [{ path: 'README.md', size: 4 }],
  };

  beforeAll(async () => {
    server = createServer((request, response) => {
      const path = decodeURIComponent((request.url ?? '').split('?')[0] ?? '');
      const list = lists[path];
      if (list !== undefined) {
        response.setHeader('content-type', 'application/json').end(JSON.stringify(list.map((file) => ({ type: 'file', oid: 'x', ...file }))));
      } else if (path.endsWith('.parquet')) {
        const [, from, to] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
        if (request.method === 'HEAD' || path.includes('whole')) {
          response.setHeader('content-length', parquet.length).end(request.method === 'HEAD' ? undefined : parquet);
        } else if (from === undefined || to === undefined) {
          response.writeHead(416).end();
        } else {
          const part = parquet.subarray(Number(from), Number(to) + 1);
          sent += part.length;
          response.writeHead(206, { 'content-range': `bytes ${from}-${to}/${parquet.length}` }).end(part);
        }
      } else if (path === '/text.txt') {
        response.end('served text');
      } else {
        response.writeHead(404).end(JSON.stringify({ error: 'not here' }));
      }
    });
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
    origin = `http://localhost:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  it('a file is streamed, and parquet read in ranges', async () => {
    expect(await texts(fileOfUrl(`${origin}/text.txt`))).toEqual(['served text']);
    expect(await texts(fileOfUrl(`${origin}/a.parquet`))).toEqual(stories.map(({ text }) => text));
  });

  it('what goes wrong is said: status, unreachable, no ranges, no address', async () => {
    await expect(texts(fileOfUrl(`${origin}/missing.txt`))).rejects.toThrow('/missing.txt: the server answered with status 404 (Not Found)');
    await expect(texts(fileOfUrl(`${origin}/whole.parquet`))).rejects.toThrow('the server does not send parts of files');
    await expect(texts(fileOfUrl('http://localhost:1/a.txt'))).rejects.toThrow(/can't be reached.*CORS/);
    expect(() => fileOfUrl('ftp://somewhere/a.txt')).toThrow('not an address that begins with https://');
  });

  it('a data set is found by name: its training split, in order, by ranges', async () => {
    const files = await hubFiles({ name: 'ann/stories' }, { hubUrl: origin });
    expect(files.map(({ name }) => name)).toEqual(['ann/stories/data/train-0.parquet', 'ann/stories/data/train-1.parquet']);
    sent = 0;
    expect(await texts(files)).toEqual([...stories, ...stories].map(({ text }) => text));
    expect(sent).toBeGreaterThan(0);
    expect((await hubFiles({ name: 'ann/stories', path: 'notes.txt' }, { hubUrl: origin })).map(({ name }) => name)).toEqual(['ann/stories/notes.txt']);
  });

  it('a data set of other formats is read as the hub has converted it', async () => {
    expect(await texts(await hubFiles({ name: 'odd' }, { hubUrl: origin }))).toEqual(stories.map(({ text }) => text));
  });

  it('a data set that is not there, or has nothing to read, is named', async () => {
    await expect(hubFiles({ name: 'nobody/nothing' }, { hubUrl: origin })).rejects.toThrow('has no public data set nobody/nothing (status 404)');
    await expect(hubFiles({ name: 'none' }, { hubUrl: origin })).rejects.toThrow('the data set none has no file that can be read');
  });

  it('a data set’s address names owner, revision and path', () => {
    expect(parseHubAddress('hf://datasets/ann/stories@v1/data/a.parquet')).toEqual({ name: 'ann/stories', revision: 'v1', path: 'data/a.parquet' });
    expect(parseHubAddress('hf://datasets/ann/stories')).toEqual({ name: 'ann/stories' });
    expect(parseHubAddress('stories.txt')).toBeNull();
    expect(() => parseHubAddress('hf://models/ann')).toThrow('names no data set');
  });
});

describe('reading', () => {
  it('counts the bytes of the file, and stops when it is asked to', async () => {
    let bytes = 0;
    await read(fileOf('a.jsonl', '{"text":"one"}\n{"text":"two"}\n'), { onBytes: (more) => (bytes += more) });
    expect(bytes).toBe(30);
    const stop = new AbortController();
    const reading = readDocuments([fileOf('a.txt', 'one'), fileOf('b.txt', 'two')], { signal: stop.signal });
    expect((await reading.next()).value).toMatchObject({ place: 'a.txt' });
    stop.abort(new Error('enough'));
    await expect(reading.next()).rejects.toThrow('enough');
  });

  it('a stream twice is refused', async () => {
    const file = inChunks('a.txt', utf8.encode('one'), [2]);
    await read(file);
    await expect(read(file)).rejects.toThrow('a.txt is a stream, which can be read only once');
  });
});
