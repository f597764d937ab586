/** GGUF's little-endian numbers and strings, off a file and into memory. What they mean is said in `gguf.ts`. */
import type { ByteSource } from './bytes.ts';

/** A header is read in windows of this size. */
const windowBytes = 2 ** 18;
/** Longer than any chat template or key. */
const maxStringBytes = 16 * 2 ** 20;

/** Takes values off the front of a file; what reaches past its end is an error made by `fail`. */
export class GgufCursor {
  readonly #source: ByteSource;
  readonly #fail: (what: string) => Error;
  #window = new Uint8Array(0);
  #windowStart = 0;
  #position = 0;

  constructor(source: ByteSource, fail: (what: string) => Error) {
    this.#source = source;
    this.#fail = fail;
  }

  get position(): number {
    return this.#position;
  }

  get bytesLeft(): number {
    return this.#source.size - this.#position;
  }

  async #take(bytes: number): Promise<Uint8Array> {
    if (bytes > this.bytesLeft) throw this.#fail(`ends in the middle of its header, at byte ${this.#source.size}`);
    const from = this.#position;
    this.#position += bytes;
    if (from < this.#windowStart || from + bytes > this.#windowStart + this.#window.length) {
      this.#window = await this.#source.read(from, Math.min(Math.max(bytes, windowBytes), this.#source.size - from));
      this.#windowStart = from;
    }
    return this.#window.subarray(from - this.#windowStart, from - this.#windowStart + bytes);
  }

  async number(bytes: number, get: (view: DataView) => number): Promise<number> {
    const taken = await this.#take(bytes);
    return get(new DataView(taken.buffer, taken.byteOffset, bytes));
  }

  u8(): Promise<number> {
    return this.number(1, (view) => view.getUint8(0));
  }

  u32(): Promise<number> {
    return this.number(4, (view) => view.getUint32(0, true));
  }

  /** A count or an offset: past 2⁵³ it is an error, which calls it `what`. */
  async u64(what: string): Promise<number> {
    const value = await this.number(8, (view) => Number(view.getBigUint64(0, true)));
    if (!Number.isSafeInteger(value)) throw this.#fail(`${what} is ${value}, which can't be`);
    return value;
  }

  async string(what: string): Promise<string> {
    const length = await this.u64(`the length of ${what}`);
    if (length > Math.min(maxStringBytes, this.bytesLeft)) throw this.#fail(`${what} claims ${length} bytes, and the file has ${this.bytesLeft} left`);
    const bytes = await this.#take(length);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw this.#fail(`${what} is not a text in UTF-8`);
    }
  }
}

export class ByteWriter {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  #put(part: Uint8Array): void {
    this.#parts.push(part);
    this.#length += part.length;
  }

  #number(bytes: number, set: (view: DataView) => void): void {
    const view = new DataView(new ArrayBuffer(bytes));
    set(view);
    this.#put(new Uint8Array(view.buffer));
  }

  u8(value: number): void {
    this.#put(Uint8Array.of(value));
  }

  u32(value: number): void {
    this.#number(4, (view) => view.setUint32(0, value, true));
  }

  u64(value: number): void {
    this.#number(8, (view) => view.setBigUint64(0, BigInt(value), true));
  }

  f32(value: number): void {
    this.#number(4, (view) => view.setFloat32(0, value, true));
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.length);
    this.#put(bytes);
  }

  /** All that was written, and zeros up to a multiple of `alignment`. */
  bytes(alignment: number): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(Math.ceil(this.#length / alignment) * alignment);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}
