/**
 * Blobs as pieces that may travel by several channels, and back. Pure: bytes in, blobs out. Each piece says where it belongs, so it
 * may come before its neighbours or twice; blobs come out whole and in the order of their numbers. Whatever arrives, the reader
 * answers with blobs or one `FrameError`, nothing else. Which channel takes which piece is `blob-sender.ts`'s.
 *
 *   piece  16 | u32 blob | u32 headerBytes | u48 blobBytes | u48 offset | data
 *
 * Blobs are numbered from 0. Header bytes (JSON, UTF-8) and then the blob's are one stream; `offset` is the place of `data` in it, a
 * multiple of `unitBytes`. Only the last unit of a stream may be shorter.
 */
import { FrameError, frameBytes, parse } from './framing.ts';

const pieceKind = 16;
const prefixBytes = 1 + 4 + 4 + 6 + 6;
/** Four of them and what stands before make a frame. A quarter of a frame is what other messages of a slow connection wait for. */
export const unitBytes = 16_376;
export const unitsPerFrame = Math.floor((frameBytes - prefixBytes) / unitBytes);
/** Headers list micro-batches, so they may be long; they are JSON, so they must not be huge. */
export const maxHeaderBytes = 1024 * 1024;
const defaultMaxBlobBytes = 1024 * 1024 * 1024;
/**
 * Blobs that may be on their way at once when there are several channels: enough that none falls idle at a blob's end, little enough
 * that a peer can't have us set aside memory without end. A larger one goes alone.
 */
export const maxOpenBlobs = 16;
export const maxOpenBytes = 32 * 1024 * 1024;
const twoTo32 = 2 ** 32;

/** Cuts one blob into frames. `bytes` must not change or be transferred until the last one is out. */
export class PieceWriter {
  readonly totalBytes: number;
  readonly #blob: number;
  readonly #header: Uint8Array;
  readonly #bytes: Uint8Array;
  /** Bytes of the stream handed out so far. */
  #offset = 0;

  /** Throws `RangeError` when the header isn't JSON or is too long. */
  constructor(blob: number, header: unknown, bytes: ArrayBuffer) {
    const text: string | undefined = JSON.stringify(header);
    if (text === undefined) throw new RangeError('A blob header must be JSON.');
    this.#header = new TextEncoder().encode(text);
    if (this.#header.byteLength > maxHeaderBytes) throw new RangeError(`A blob header of ${this.#header.byteLength} bytes is over the limit of ${maxHeaderBytes}.`);
    this.#blob = blob;
    this.#bytes = new Uint8Array(bytes);
    this.totalBytes = this.#header.byteLength + this.#bytes.byteLength;
  }

  get leftBytes(): number {
    return this.totalBytes - this.#offset;
  }

  /** The next frame of at most so many units, written to the beginning of `into`, which has room for it. */
  next(units: number, into: Uint8Array<ArrayBuffer> = new Uint8Array(prefixBytes + Math.min(units * unitBytes, this.leftBytes))): Uint8Array<ArrayBuffer> {
    const view = new DataView(into.buffer, into.byteOffset, prefixBytes);
    view.setUint8(0, pieceKind);
    view.setUint32(1, this.#blob);
    view.setUint32(5, this.#header.byteLength);
    setUint48(view, 9, this.#bytes.byteLength);
    setUint48(view, 15, this.#offset);
    const end = Math.min(this.#offset + units * unitBytes, this.totalBytes);
    const headerBytes = this.#header.byteLength;
    const ofHeader = this.#header.subarray(Math.min(this.#offset, headerBytes), Math.min(end, headerBytes));
    into.set(ofHeader, prefixBytes);
    into.set(this.#bytes.subarray(Math.max(0, this.#offset - headerBytes), Math.max(0, end - headerBytes)), prefixBytes + ofHeader.byteLength);
    const used = prefixBytes + end - this.#offset;
    this.#offset = end;
    return into.subarray(0, used);
  }
}

export interface Blob {
  readonly header: unknown;
  readonly bytes: ArrayBuffer;
}

/** Reassembles blobs. After it has thrown once it must not be fed again. */
export class BlobReader {
  #maxBlobBytes: number;
  readonly #open = new Map<number, Assembly>();
  #openBytes = 0;
  #delivered = 0;

  constructor(maxBlobBytes: number = defaultMaxBlobBytes) {
    this.#maxBlobBytes = maxBlobBytes;
  }

  /** Blobs that have come out. */
  get delivered(): number {
    return this.#delivered;
  }

  /** From now on, and for what has begun: throws `FrameError` when that is larger. */
  limit(maxBlobBytes: number): void {
    this.#maxBlobBytes = maxBlobBytes;
    for (const { blobBytes } of this.#open.values()) this.#check(blobBytes);
  }

  /** The blobs that are whole now, and all before them. */
  read(data: Uint8Array): readonly Blob[] {
    if (data[0] !== pieceKind) throw new FrameError('an unknown kind of frame arrived on the bulk channel');
    if (data.byteLength <= prefixBytes) throw new FrameError('an empty piece of a blob arrived');
    const view = new DataView(data.buffer, data.byteOffset, prefixBytes);
    const number = view.getUint32(1);
    // It came by another way, too.
    if (number < this.#delivered) return [];
    const assembly = this.#assembly(number, view.getUint32(5), getUint48(view, 9));
    assembly.add(getUint48(view, 15), data.subarray(prefixBytes));
    return this.#take();
  }

  #assembly(number: number, headerBytes: number, blobBytes: number): Assembly {
    const known = this.#open.get(number);
    if (known !== undefined) {
      if (known.headerBytes !== headerBytes || known.blobBytes !== blobBytes) throw new FrameError('two pieces of one blob do not agree on its size');
      return known;
    }
    if (number >= this.#delivered + maxOpenBlobs) throw new FrameError('a blob began too long before its turn');
    if (headerBytes === 0 || headerBytes > maxHeaderBytes) throw new FrameError(`a blob header of ${headerBytes} bytes was announced`);
    this.#check(blobBytes);
    const totalBytes = headerBytes + blobBytes;
    if (this.#open.size > 0 && this.#openBytes + totalBytes > maxOpenBytes) throw new FrameError('too many blobs began before others ended');
    const assembly = new Assembly(headerBytes, blobBytes);
    this.#open.set(number, assembly);
    this.#openBytes += totalBytes;
    return assembly;
  }

  #check(blobBytes: number): void {
    if (blobBytes > this.#maxBlobBytes) throw new FrameError(`a blob of ${blobBytes} bytes was announced, and ${this.#maxBlobBytes} is the limit`);
  }

  #take(): readonly Blob[] {
    const whole: Blob[] = [];
    for (let next = this.#open.get(this.#delivered); next?.isWhole === true; next = this.#open.get(this.#delivered)) {
      this.#open.delete(this.#delivered);
      this.#openBytes -= next.headerBytes + next.blobBytes;
      this.#delivered += 1;
      whole.push(next.blob());
    }
    return whole;
  }
}

/** A blob of which pieces have come. */
class Assembly {
  readonly headerBytes: number;
  readonly blobBytes: number;
  readonly #header: Uint8Array<ArrayBuffer>;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  /** One for each unit that has come. */
  readonly #has: Uint8Array;
  #missing: number;

  constructor(headerBytes: number, blobBytes: number) {
    this.headerBytes = headerBytes;
    this.blobBytes = blobBytes;
    this.#missing = Math.ceil((headerBytes + blobBytes) / unitBytes);
    try {
      this.#header = new Uint8Array(headerBytes);
      this.#bytes = new Uint8Array(blobBytes);
      this.#has = new Uint8Array(this.#missing);
    } catch {
      throw new FrameError(`there is no memory for a blob of ${blobBytes} bytes`);
    }
  }

  get isWhole(): boolean {
    return this.#missing === 0;
  }

  blob(): Blob {
    return { header: parse(this.#header), bytes: this.#bytes.buffer };
  }

  add(offset: number, data: Uint8Array): void {
    const end = offset + data.byteLength;
    const totalBytes = this.headerBytes + this.blobBytes;
    if (end > totalBytes) throw new FrameError('a blob is longer than announced');
    if (offset % unitBytes !== 0 || (data.byteLength % unitBytes !== 0 && end !== totalBytes)) throw new FrameError('a piece of a blob has no place in it');
    for (let unit = offset / unitBytes; unit * unitBytes < end; unit += 1) {
      if (this.#has[unit] === 1) continue;
      this.#has[unit] = 1;
      this.#missing -= 1;
    }
    const ofHeader = data.subarray(0, Math.max(0, this.headerBytes - offset));
    if (ofHeader.byteLength > 0) this.#header.set(ofHeader, offset);
    if (ofHeader.byteLength < data.byteLength) this.#bytes.set(data.subarray(ofHeader.byteLength), Math.max(0, offset - this.headerBytes));
  }
}

function setUint48(view: DataView, at: number, value: number): void {
  view.setUint16(at, Math.floor(value / twoTo32));
  view.setUint32(at + 2, value % twoTo32);
}

function getUint48(view: DataView, at: number): number {
  return view.getUint16(at) * twoTo32 + view.getUint32(at + 2);
}
