/**
 * Bytes to text as they come: UTF-8, UTF-16 with its mark, gzip unpacked. What is no text is named with the byte where that
 * shows. Cutting text into documents is the formats' affair.
 */
import { DataError } from '../errors.ts';
import type { DataFile } from './data-file.ts';

export interface ReadOptions {
  /** Called with the bytes of the file that were read since the last call. */
  readonly onBytes?: (bytes: number) => void;
  /** Reading stops, with its reason. */
  readonly signal?: AbortSignal;
}

export interface DecodingOptions extends ReadOptions {
  /** "\r\n" and "\r" become "\n", so that a text has no two ways to break a line. */
  readonly normalizesLineEnds: boolean;
}

type Encoding = 'utf-8' | 'utf-16le' | 'utf-16be';

/** The text of a file in pieces, as it is read. Throws `DataError` where it is no text. A file of no bytes has no pieces. */
export async function* decodedText(file: DataFile, options: DecodingOptions): AsyncGenerator<string> {
  const { normalizesLineEnds } = options;
  let encoding: Encoding | null = null;
  let decoder: Utf8Decoder | Utf16Decoder | null = null;
  let endsWithReturn = false;
  const clean = (text: string, isLast: boolean): string => {
    if (!normalizesLineEnds) return text;
    const whole = endsWithReturn ? `\r${text}` : text;
    // Perhaps the first half of "\r\n".
    endsWithReturn = !isLast && whole.endsWith('\r');
    return (endsWithReturn ? whole.slice(0, -1) : whole).replace(/\r\n?/g, '\n');
  };
  for await (const bytes of unpackedBytes(file, options)) {
    if (decoder === null) {
      encoding = encodingOf(bytes);
      decoder = encoding === 'utf-8' ? new Utf8Decoder(file.name) : new Utf16Decoder(file.name, encoding);
    }
    const text = clean(decoder.decode(bytes), false);
    if (text !== '') yield text;
  }
  const rest = clean(decoder?.end() ?? '', true);
  if (rest !== '') yield rest;
}

function encodingOf(bytes: Uint8Array): Encoding {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return 'utf-16le';
  return bytes[0] === 0xfe && bytes[1] === 0xff ? 'utf-16be' : 'utf-8';
}

const leastHeadBytes = 4;

/** Chunks of which the first has a few bytes at least, unpacked where they are gzip's. */
async function* unpackedBytes(file: DataFile, { onBytes, signal }: ReadOptions): AsyncGenerator<Uint8Array> {
  const reader = (await file.stream()).getReader();
  async function* counted(): AsyncGenerator<Uint8Array> {
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = await reader.read();
      if (done) return;
      onBytes?.(value.byteLength);
      yield value;
    }
  }
  try {
    const chunks = counted();
    let head = new Uint8Array();
    while (head.length < leastHeadBytes) {
      const next = await chunks.next();
      if (next.done === true) break;
      head = joined(head, next.value);
    }
    if (head[0] === 0x1f && head[1] === 0x8b) {
      yield* unzipped(file.name, head, chunks);
      return;
    }
    if (head.length > 0) yield head;
    yield* chunks;
  } finally {
    // Also when whoever reads has seen enough.
    await reader.cancel().catch(() => undefined);
  }
}

async function* unzipped(name: string, head: Uint8Array<ArrayBuffer>, rest: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  let failure: Error | null = null;
  const packed = new ReadableStream<BufferSource>({
    start: (controller) => {
      controller.enqueue(head);
    },
    async pull(controller) {
      try {
        const next = await rest.next();
        if (next.done === true) controller.close();
        else controller.enqueue(new Uint8Array(next.value));
      } catch (error) {
        failure = error instanceof Error ? error : new Error(String(error));
        controller.error(failure);
      }
    },
  });
  const reader = packed.pipeThrough(new DecompressionStream('gzip')).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    // It was reading that failed, not unpacking.
    if (failure !== null) throw failure as Error;
    throw new DataError(`${name} is damaged or cut short: its gzip data ends before it should (${error instanceof Error ? error.message : String(error)})`);
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function joined(one: Uint8Array, other: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

/** Characters cut by the end of a chunk wait for the next one. */
class Utf8Decoder {
  readonly #name: string;
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #cut = new Uint8Array();
  /** Bytes before the cut ones. */
  #offset = 0;

  constructor(name: string) {
    this.#name = name;
  }

  decode(bytes: Uint8Array): string {
    const all = this.#cut.length > 0 ? joined(this.#cut, bytes) : bytes;
    const whole = all.length - cutBytes(all);
    const text = this.#text(all.subarray(0, whole));
    this.#cut = all.slice(whole);
    this.#offset += whole;
    return text;
  }

  end(): string {
    if (this.#cut.length > 0) throw new DataError(`${this.#name} ends in the middle of a character, at byte ${this.#offset}: it was cut short`);
    return '';
  }

  #text(bytes: Uint8Array): string {
    const zero = bytes.indexOf(0);
    if (zero >= 0) {
      throw new DataError(`${this.#name} holds binary data, not text: byte ${this.#offset + zero} is zero. Save it as plain text in UTF-8, or give a format that is supported`);
    }
    try {
      const text = this.#decoder.decode(bytes);
      return this.#offset === 0 && text.startsWith('\ufeff') ? text.slice(1) : text;
    } catch {
      const at = this.#offset + firstInvalid(bytes);
      throw new DataError(`${this.#name} is not text in UTF-8: byte ${at} is no character's. Save it with the encoding UTF-8`);
    }
  }
}

/** How many bytes at the end belong to a character that goes on. */
function cutBytes(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needed > back ? back : 0;
  }
  return 0;
}

/** Offset of the first byte that begins no character (The Unicode Standard, table 3-7). */
function firstInvalid(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length) {
    const lead = bytes[at] ?? 0;
    const length = lead < 0x80 ? 1 : lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
    if (length === 0) return at;
    for (let next = 1; next < length; next += 1) {
      const byte = bytes[at + next] ?? 0;
      const low = next > 1 ? 0x80 : lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
      const high = next > 1 ? 0xbf : lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
      if (byte < low || byte > high) return at;
    }
    at += length;
  }
  return bytes.length;
}

class Utf16Decoder {
  readonly #name: string;
  readonly #decoder: TextDecoder;

  constructor(name: string, encoding: 'utf-16le' | 'utf-16be') {
    this.#name = name;
    this.#decoder = new TextDecoder(encoding, { fatal: true });
  }

  decode(bytes: Uint8Array): string {
    return this.#guarded(() => this.#decoder.decode(bytes, { stream: true }));
  }

  end(): string {
    return this.#guarded(() => this.#decoder.decode());
  }

  #guarded(decode: () => string): string {
    try {
      return decode();
    } catch {
      throw new DataError(`${this.#name} says that it is UTF-16, and holds what is not. Save it with the encoding UTF-8`);
    }
  }
}
