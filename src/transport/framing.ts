/**
 * Messages and blobs as frames that fit a data channel, and back. Pure: bytes in, events out. Two directions of one
 * ordered, reliable channel each; whatever arrives, a reader answers with events or one `FrameError`, nothing else.
 *
 * Every frame starts with a byte that says what it is:
 *
 *   control channel   handshake  1 | JSON                              whole, at most 4 KiB, only while shaking hands
 *                     part       2 | bytes                             more of the same message follows
 *                     end        3 | bytes                             the last (or only) piece of a message: JSON, UTF-8
 *                     close      4 | JSON {code, reason}               the sender hangs up
 *   bulk channel      begin     16 | u32 headerBytes | u48 blobBytes | data
 *                     data      17 | data                              header bytes, then blob bytes, in order
 */

/**
 * In Chromium over loopback messages of 16 KiB gave 5 MiB/s, 64 KiB 8 to 11, 256 KiB 9 to 12 (two cores, November 2026).
 * A message is sent whole before any other of the same connection, so control waits less with the smallest near the top.
 */
export const frameBytes = 64 * 1024;
export const maxControlBytes = 8 * 1024 * 1024;
export const maxHandshakeBytes = 4096;
/** Headers list micro-batches, so they may be long; they are JSON, so they must not be huge. */
export const maxHeaderBytes = 1024 * 1024;
const defaultMaxBlobBytes = 1024 * 1024 * 1024;
const maxCloseBytes = 1024;

const kind = { handshake: 1, part: 2, end: 3, close: 4, begin: 16, data: 17 } as const;
const beginBytes = 1 + 4 + 6;
const twoTo32 = 2 ** 32;

/** What came in breaks the rules above: the connection can't go on, and `message` is the reason to give. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

export type ControlEvent =
  | { readonly type: 'handshake'; readonly message: unknown }
  | { readonly type: 'message'; readonly message: unknown }
  | { readonly type: 'close'; readonly code: string; readonly reason: string };

const encoder = new TextEncoder();

export function handshakeFrame(message: unknown): Uint8Array<ArrayBuffer> {
  return frame(kind.handshake, encoder.encode(JSON.stringify(message)));
}

export function closeFrame(code: string, reason: string): Uint8Array<ArrayBuffer> {
  return frame(kind.close, encoder.encode(JSON.stringify({ code: code.slice(0, 80), reason: reason.slice(0, 200) })));
}

/** Throws `RangeError` when the message's JSON is over `maxControlBytes`, or isn't JSON at all. */
export function controlFrames(message: unknown): Uint8Array<ArrayBuffer>[] {
  const text: string | undefined = JSON.stringify(message);
  if (text === undefined) throw new RangeError('A control message must be JSON.');
  const bytes = encoder.encode(text);
  if (bytes.byteLength > maxControlBytes) {
    throw new RangeError(`A control message of ${bytes.byteLength} bytes is over the limit of ${maxControlBytes}.`);
  }
  const frames: Uint8Array<ArrayBuffer>[] = [];
  const roomBytes = frameBytes - 1;
  for (let start = 0; start < bytes.byteLength; start += roomBytes) {
    const isLast = start + roomBytes >= bytes.byteLength;
    frames.push(frame(isLast ? kind.end : kind.part, bytes.subarray(start, start + roomBytes)));
  }
  return frames;
}

function frame(kindByte: number, content: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(1 + content.byteLength);
  bytes[0] = kindByte;
  bytes.set(content, 1);
  return bytes;
}

/** Reassembles control messages. After it has thrown once it must not be fed again. */
export class ControlReader {
  /** The message so far, copied together: a piece of one byte kept as it came would take two hundred. */
  #message = new Uint8Array();
  #bytes = 0;
  readonly #maxBytes: number;

  constructor(maxBytes: number = maxControlBytes) {
    this.#maxBytes = maxBytes;
  }

  read(data: Uint8Array): ControlEvent | null {
    const content = data.subarray(1);
    switch (data[0]) {
      case kind.handshake:
        if (content.byteLength > maxHandshakeBytes) throw new FrameError('a handshake message is too long');
        return { type: 'handshake', message: parse(content) };
      case kind.close:
        return this.#close(content);
      case kind.part:
        this.#add(content);
        return null;
      case kind.end: {
        this.#add(content);
        const whole = this.#message.subarray(0, this.#bytes);
        this.#message = new Uint8Array();
        this.#bytes = 0;
        return { type: 'message', message: parse(whole) };
      }
      default:
        throw new FrameError('an unknown kind of frame arrived on the control channel');
    }
  }

  #add(content: Uint8Array): void {
    const bytes = this.#bytes + content.byteLength;
    if (bytes > this.#maxBytes) throw new FrameError('a control message is too long');
    if (bytes > this.#message.byteLength) {
      const larger = new Uint8Array(Math.min(this.#maxBytes, Math.max(bytes, 2 * this.#message.byteLength)));
      larger.set(this.#message.subarray(0, this.#bytes));
      this.#message = larger;
    }
    this.#message.set(content, this.#bytes);
    this.#bytes = bytes;
  }

  #close(content: Uint8Array): ControlEvent {
    if (content.byteLength > maxCloseBytes) throw new FrameError('a closing message is too long');
    const message = parse(content);
    const isRecord = typeof message === 'object' && message !== null && 'code' in message && 'reason' in message;
    if (!isRecord || typeof message.code !== 'string' || typeof message.reason !== 'string') throw new FrameError('a closing message is malformed');
    return { type: 'close', code: message.code, reason: message.reason };
  }
}

function parse(utf8: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(utf8)) as unknown;
  } catch {
    throw new FrameError('a message is not valid JSON');
  }
}

/**
 * Cuts one blob into frames. `next` hands out the same scratch buffer each time: send (which copies) before asking on.
 * `bytes` must not change or be transferred until the last frame is out.
 */
export class BlobWriter {
  readonly totalBytes: number;
  readonly #header: Uint8Array;
  readonly #bytes: Uint8Array;
  readonly #scratch: Uint8Array<ArrayBuffer>;
  /** Bytes of header and blob handed out so far; -1 before the first frame. */
  #offset = -1;

  /** `scratch`: at least `frameBytes` long. Throws `RangeError` when the header isn't JSON or is too long. */
  constructor(header: unknown, bytes: ArrayBuffer, scratch: Uint8Array<ArrayBuffer>) {
    const text: string | undefined = JSON.stringify(header);
    if (text === undefined) throw new RangeError('A blob header must be JSON.');
    this.#header = encoder.encode(text);
    if (this.#header.byteLength > maxHeaderBytes) throw new RangeError(`A blob header of ${this.#header.byteLength} bytes is over the limit of ${maxHeaderBytes}.`);
    this.#bytes = new Uint8Array(bytes);
    this.#scratch = scratch;
    this.totalBytes = this.#header.byteLength + this.#bytes.byteLength;
  }

  get done(): boolean {
    return this.#offset >= this.totalBytes;
  }

  next(): Uint8Array<ArrayBuffer> {
    let used = 1;
    if (this.#offset < 0) {
      this.#offset = 0;
      const view = new DataView(this.#scratch.buffer, this.#scratch.byteOffset, beginBytes);
      view.setUint8(0, kind.begin);
      view.setUint32(1, this.#header.byteLength);
      view.setUint16(5, Math.floor(this.#bytes.byteLength / twoTo32));
      view.setUint32(7, this.#bytes.byteLength % twoTo32);
      used = beginBytes;
    } else {
      this.#scratch[0] = kind.data;
    }
    used += this.#take(this.#header, 0, used);
    used += this.#take(this.#bytes, this.#header.byteLength, used);
    return this.#scratch.subarray(0, used);
  }

  /** Copies what is left of `source`, which starts at `sourceStart` of the stream, as far as the frame has room. */
  #take(source: Uint8Array, sourceStart: number, used: number): number {
    const from = this.#offset - sourceStart;
    if (from < 0 || from >= source.byteLength) return 0;
    const piece = source.subarray(from, from + frameBytes - used);
    this.#scratch.set(piece, used);
    this.#offset += piece.byteLength;
    return piece.byteLength;
  }
}

export interface Blob {
  readonly header: unknown;
  readonly bytes: ArrayBuffer;
}

/** Reassembles blobs. After it has thrown once it must not be fed again. */
export class BlobReader {
  #maxBlobBytes: number;
  #header: Uint8Array<ArrayBuffer> | null = null;
  #blob: Uint8Array<ArrayBuffer> | null = null;
  #received = 0;

  constructor(maxBlobBytes: number = defaultMaxBlobBytes) {
    this.#maxBlobBytes = maxBlobBytes;
  }

  /** From now on, and for the blob that has begun: throws `FrameError` when that is larger. */
  limit(maxBlobBytes: number): void {
    this.#maxBlobBytes = maxBlobBytes;
    this.#check(this.#blob?.byteLength ?? 0);
  }

  read(data: Uint8Array): Blob | null {
    switch (data[0]) {
      case kind.begin:
        this.#begin(data);
        return this.#fill(data.subarray(beginBytes));
      case kind.data:
        if (data.byteLength === 1) throw new FrameError('an empty piece of a blob arrived');
        return this.#fill(data.subarray(1));
      default:
        throw new FrameError('an unknown kind of frame arrived on the bulk channel');
    }
  }

  #begin(data: Uint8Array): void {
    if (this.#blob !== null) throw new FrameError('a blob began before the last one ended');
    if (data.byteLength < beginBytes) throw new FrameError('the beginning of a blob is cut short');
    const view = new DataView(data.buffer, data.byteOffset, beginBytes);
    const headerBytes = view.getUint32(1);
    const blobBytes = view.getUint16(5) * twoTo32 + view.getUint32(7);
    if (headerBytes === 0 || headerBytes > maxHeaderBytes) throw new FrameError(`a blob header of ${headerBytes} bytes was announced`);
    this.#check(blobBytes);
    try {
      this.#header = new Uint8Array(headerBytes);
      this.#blob = new Uint8Array(blobBytes);
    } catch {
      throw new FrameError(`there is no memory for a blob of ${blobBytes} bytes`);
    }
    this.#received = 0;
  }

  #check(blobBytes: number): void {
    if (blobBytes > this.#maxBlobBytes) throw new FrameError(`a blob of ${blobBytes} bytes was announced, and ${this.#maxBlobBytes} is the limit`);
  }

  #fill(content: Uint8Array): Blob | null {
    const header = this.#header;
    const blob = this.#blob;
    if (header === null || blob === null) throw new FrameError('a piece of no blob arrived');
    const inHeader = Math.min(content.byteLength, Math.max(0, header.byteLength - this.#received));
    header.set(content.subarray(0, inHeader), Math.min(this.#received, header.byteLength - inHeader));
    const rest = content.subarray(inHeader);
    const blobOffset = this.#received + inHeader - header.byteLength;
    if (rest.byteLength > 0) {
      if (blobOffset + rest.byteLength > blob.byteLength) throw new FrameError('a blob is longer than announced');
      blob.set(rest, blobOffset);
    }
    this.#received += content.byteLength;
    if (this.#received < header.byteLength + blob.byteLength) return null;
    this.#header = null;
    this.#blob = null;
    return { header: parse(header), bytes: blob.buffer };
  }
}
