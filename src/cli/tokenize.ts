/** `cotrain tokenize`: texts in, a tokenizer and rows of token ids out. Learns and encodes nothing itself. */
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { CharacterTokenizer } from '../data/character-tokenizer.ts';
import { lastBorder } from '../data/text-borders.ts';
import { trainBpe } from '../data/tokenize-text.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { TokenizerChoice } from '../data/tokenizer-choice.ts';
import { WordCounter } from '../data/word-counter.ts';
import type { CliHost } from './command.ts';
import { CliError } from './errors.ts';
import { copyTokenizer, makeFolder, readText, writeTokenizer } from './model-folder.ts';
import { readFolderTokenizer } from './folder-tokenizer.ts';

export interface TokenizeOptions {
  readonly data: readonly string[];
  readonly source: TokenizerChoice | { readonly kind: 'folder'; readonly folder: string };
  readonly out: string | null;
  /** Where rows of ids are written to, of `length` tokens each. */
  readonly rows: string | null;
  readonly length: number;
}

type Host = Pick<CliHost, 'progress' | 'warn' | 'isInterrupted'>;

/** What texts hold that were never meant to limit a model's length. */
const modelMaxLength = 1e9;

/** Throws `CliError` with one line that a person can act on. */
export async function tokenize(options: TokenizeOptions, host: Host): Promise<void> {
  const { source, data, out } = options;
  try {
    const bytes = (await Promise.all(data.map(sizeOf))).reduce((sum, size) => sum + size, 0);
    if (bytes === 0) throw new CliError(`${data.join(', ')}: there is no text`);
    const made = source.kind === 'folder' ? null : await make(source, data, bytes, host);
    if (out !== null) {
      await makeFolder(out);
      if (made !== null) await writeTokenizer(out, made.toHuggingFace(modelMaxLength));
      else if (source.kind === 'folder') await copyTokenizer(source.folder, out);
    }
    if (options.rows === null) return;
    const encode = source.kind === 'folder' ? await encoderOf(source.folder) : (text: string) => made?.encode(text) ?? new Uint32Array();
    await writeRows(options.rows, options, encode, bytes, host);
  } finally {
    host.progress.end();
  }
}

async function encoderOf(folder: string): Promise<(text: string) => Uint32Array<ArrayBuffer>> {
  const tokenizer = await readFolderTokenizer(folder);
  return (text) => tokenizer.encode(text);
}

async function make(choice: TokenizerChoice, data: readonly string[], bytes: number, host: Host): Promise<Tokenizer> {
  host.progress.begin({ task: 'read', unit: 'bytes', total: bytes });
  if (choice.kind === 'characters') {
    const characters = new Set<string>();
    for await (const { text } of piecesOf(data, host)) for (const character of text) characters.add(character);
    return CharacterTokenizer.fromText([...characters].join(''));
  }
  const counter = new WordCounter();
  for await (const { text, isLast } of piecesOf(data, host)) {
    counter.add(text);
    if (isLast) counter.endDocument();
  }
  const { counts, droppedOccurrences } = counter.counted();
  host.progress.end();
  if (droppedOccurrences > 0) host.warn(`${droppedOccurrences} occurrences of rare words were left out: the texts have too many different ones`);
  const percent = 100;
  host.progress.begin({ task: 'learn', unit: '% of merges', total: percent });
  const training = trainBpe(counts, choice.vocabularySize);
  for (let step = training.next(); ; step = training.next()) {
    if (step.done === true) {
      const { vocabularySize } = step.value;
      if (vocabularySize < choice.vocabularySize) host.warn(`the texts give ${vocabularySize} tokens, not ${choice.vocabularySize}: no further pair occurs twice`);
      return step.value;
    }
    host.progress.advance(Math.floor(percent * step.value.share));
    await pauseIn(host);
  }
}

async function writeRows(path: string, { data, length, source }: TokenizeOptions, encode: (text: string) => Uint32Array, bytes: number, host: Host): Promise<void> {
  host.progress.end();
  host.progress.begin({ task: 'encode', unit: 'bytes', total: bytes });
  const rows = createWriteStream(path);
  await once(rows, 'open');
  try {
    /** Ids of a row that is not full. */
    let row: number[] = [];
    const write = async (): Promise<void> => {
      const line = `${JSON.stringify({ input_ids: row })}\n`;
      row = [];
      if (!rows.write(line)) await once(rows, 'drain');
    };
    // Others may look further ahead than to the next word: they get their text whole.
    const pieces = source.kind === 'folder' ? wholeOf(data) : piecesOf(data, host);
    for await (const { text, isLast } of pieces) {
      for (const id of encode(text)) {
        row.push(id);
        if (row.length === length) await write();
      }
      if (isLast && row.length > 0) await write();
    }
  } finally {
    rows.end();
    await once(rows, 'close');
  }
}

interface Piece {
  readonly text: string;
  /** Of its file. */
  readonly isLast: boolean;
}

async function* wholeOf(data: readonly string[]): AsyncGenerator<Piece, void, undefined> {
  for (const path of data) yield { text: await readText(path), isLast: true };
}

const bytesAtOnce = 2 ** 17;

/** Files as streams, cut where words surely end. */
async function* piecesOf(data: readonly string[], host: Host): AsyncGenerator<Piece, void, undefined> {
  let done = 0;
  for (const path of data) {
    const decoder = new TextDecoder('utf-8', { fatal: true });
    let rest = '';
    const decoded = (bytes?: Uint8Array): string => {
      try {
        return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
      } catch {
        throw new CliError(`${path} is not text in UTF-8`);
      }
    };
    for await (const bytes of createReadStream(path, { highWaterMark: bytesAtOnce }) as AsyncIterable<Uint8Array>) {
      rest += decoded(bytes);
      const border = lastBorder(rest);
      if (border > 0) yield { text: rest.slice(0, border), isLast: false };
      rest = rest.slice(border);
      done += bytes.byteLength;
      host.progress.advance(done);
      await pauseIn(host);
    }
    yield { text: rest + decoded(), isLast: true };
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    const entry = await stat(path);
    if (entry.isFile()) return entry.size;
  } catch {
    throw new CliError(`${path} does not exist`);
  }
  throw new CliError(`${path} is a folder, not a file`);
}

/** Lets the process hear whether it is to stop. */
async function pauseIn(host: Host): Promise<void> {
  await setImmediate();
  if (host.isInterrupted()) throw new CliError('it was stopped; nothing more was written');
}
