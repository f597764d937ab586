/** JSON lines, and JSON files of any layout: an array's elements, one object, or values one after another. A value is a document. */
import { DataError } from '../errors.ts';
import type { SourceDocument } from '../types.ts';
import type { DataFile } from './data-file.ts';
import { decodedText } from './decoding.ts';
import type { ReadOptions } from './decoding.ts';

/** UTF-16 units. What a person has is far shorter; a file without line ends would otherwise be read into memory as a whole. */
export const maxRecordLength = 2 ** 24;

function tooLong(place: string): DataError {
  return new DataError(`${place} is longer than ${maxRecordLength / 2 ** 20} million characters: is this the format that its name says?`);
}

function parsed(json: string, place: string): SourceDocument {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new DataError(`${place}: not valid JSON (${error instanceof Error ? error.message : String(error)})`);
  }
  if (typeof value === 'string') return { kind: 'text', place, text: value };
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new DataError(`${place}: not a JSON object`);
  return { kind: 'record', place, record: value as Readonly<Record<string, unknown>> };
}

/** A line is a document; empty ones are skipped. Throws `DataError` with file and line. */
export async function* jsonLines(file: DataFile, options: ReadOptions): AsyncGenerator<SourceDocument> {
  let lines = 0;
  let waiting = '';
  for await (const text of decodedText(file, { ...options, normalizesLineEnds: false })) {
    let from = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', from)) {
      const line = waiting + text.slice(from, end);
      [waiting, from] = ['', end + 1];
      lines += 1;
      if (line.trim() !== '') yield parsed(line, `${file.name}:${lines}`);
    }
    waiting += text.slice(from);
    if (waiting.length > maxRecordLength) throw tooLong(`${file.name}:${lines + 1}`);
  }
  if (waiting.trim() !== '') yield parsed(waiting, `${file.name}:${lines + 1}`);
}

/** Throws `DataError` with file and line. */
export async function* jsonValues(file: DataFile, options: ReadOptions): AsyncGenerator<SourceDocument> {
  const scanner = new ValueScanner(file.name);
  for await (const text of decodedText(file, { ...options, normalizesLineEnds: false })) {
    for (const { json, line } of scanner.take(text)) yield parsed(json, `${file.name}:${line}`);
  }
  scanner.end();
}

/** Finds where values begin and end, without understanding them. */
class ValueScanner {
  readonly #name: string;
  #line = 1;
  #hasBegun = false;
  /** The file is one array, and its end was not seen yet. */
  #isInArray = false;
  #isInValue = false;
  #isInString = false;
  #isEscaped = false;
  /** Brackets of the value that are open. */
  #open = 0;
  /** What there is of a value so far. */
  #value = '';
  #valueLine = 1;

  constructor(name: string) {
    this.#name = name;
  }

  *take(text: string): Generator<{ readonly json: string; readonly line: number }> {
    let from = 0;
    for (let at = 0; at < text.length; at += 1) {
      const character = text[at] ?? '';
      if (character === '\n') this.#line += 1;
      if (!this.#isInValue) {
        if (this.#begins(character)) from = at;
        continue;
      }
      if (!this.#ends(character)) continue;
      yield { json: this.#value + text.slice(from, at + 1), line: this.#valueLine };
      [this.#value, this.#isInValue] = ['', false];
    }
    if (this.#isInValue) this.#value += text.slice(from);
    if (this.#value.length > maxRecordLength) throw tooLong(`${this.#name}:${this.#valueLine}`);
  }

  /** Whether a value begins with this character, which stands between values. */
  #begins(character: string): boolean {
    if (/\s/.test(character)) return false;
    const isFirst = !this.#hasBegun;
    this.#hasBegun = true;
    if (isFirst && character === '[') {
      this.#isInArray = true;
      return false;
    }
    if (this.#isInArray && character === ',') return false;
    if (this.#isInArray && character === ']') {
      this.#isInArray = false;
      return false;
    }
    if (!'{["'.includes(character)) throw new DataError(`${this.#name}:${this.#line}: not valid JSON (no object, list or text begins with ${JSON.stringify(character)})`);
    [this.#isInValue, this.#valueLine] = [true, this.#line];
    this.#isInString = character === '"';
    this.#open = this.#isInString ? 0 : 1;
    return true;
  }

  /** Whether the value ends with this character, which is one of its own. */
  #ends(character: string): boolean {
    if (this.#isInString) {
      if (this.#isEscaped) this.#isEscaped = false;
      else if (character === '\\') this.#isEscaped = true;
      else if (character === '"') this.#isInString = false;
      return !this.#isInString && this.#open === 0;
    }
    if (character === '"') this.#isInString = true;
    else if (character === '{' || character === '[') this.#open += 1;
    else if (character === '}' || character === ']') this.#open -= 1;
    return this.#open === 0;
  }

  end(): void {
    if (!this.#isInArray && !this.#isInValue) return;
    const which = this.#isInValue ? `the value that begins at line ${this.#valueLine}` : 'its list';
    throw new DataError(`${this.#name}:${this.#line}: the file ends in the middle of ${which}: it was cut short, or a bracket is missing`);
  }
}
