/**
 * What the control channel carries, as frames that fit it, and back. Pure: bytes in, events out. Two directions of one ordered, reliable
 * channel; whatever arrives, the reader answers with events or one `FrameError`, nothing else. Blobs are `pieces.ts`'s.
 *
 * Every frame starts with a byte that says what it is:
 *
 *   handshake  1 | JSON                              whole, at most 4 KiB, only while shaking hands
 *   part       2 | bytes                             more of the same message follows
 *   end        3 | bytes                             the last (or only) piece of a message: JSON, UTF-8
 *   close      4 | JSON {code, reason}               the sender hangs up
 *   received   5 | u16 flow | u32 frames | u32 blobs   what has come in all by that connection, and blobs that are whole
 *   subflow    6 | JSON                              whole, at most 16 KiB: about further connections (`subflows.ts`)
 *
 * `received` and `subflow` may stand between the parts of a message.
 */

/**
 * In Chromium over loopback messages of 16 KiB gave 5 MiB/s, 64 KiB 8 to 11, 256 KiB 9 to 12 (two cores, November 2026).
 * A message is sent whole before any other of the same connection, so control waits less with the smallest near the top.
 */
export const frameBytes = 64 * 1024;
export const maxControlBytes = 8 * 1024 * 1024;
export const maxHandshakeBytes = 4096;
/** A session description of one channel takes one or two of them. */
const maxSubflowBytes = 16 * 1024;
const maxCloseBytes = 1024;

const kind = { handshake: 1, part: 2, end: 3, close: 4, received: 5, subflow: 6 } as const;
const receivedBytes = 1 + 2 + 4 + 4;

/** Counts since the link began; a connection's number is never used again. */
export interface Received {
  readonly flow: number;
  readonly frames: number;
  readonly blobs: number;
}

/** What came in breaks the rules above: the connection can't go on, and `message` is the reason to give. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

export type ControlEvent =
  | { readonly type: 'handshake'; readonly message: unknown }
  | { readonly type: 'message'; readonly message: unknown }
  | { readonly type: 'close'; readonly code: string; readonly reason: string }
  | ({ readonly type: 'received' } & Received)
  | { readonly type: 'subflow'; readonly message: unknown };

const encoder = new TextEncoder();

export function handshakeFrame(message: unknown): Uint8Array<ArrayBuffer> {
  return frame(kind.handshake, encoder.encode(JSON.stringify(message)));
}

export function closeFrame(code: string, reason: string): Uint8Array<ArrayBuffer> {
  return frame(kind.close, encoder.encode(JSON.stringify({ code: code.slice(0, 80), reason: reason.slice(0, 200) })));
}

export function receivedFrame({ flow, frames, blobs }: Received): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(receivedBytes));
  view.setUint8(0, kind.received);
  view.setUint16(1, flow);
  view.setUint32(3, frames);
  view.setUint32(7, blobs);
  return new Uint8Array(view.buffer);
}

/** null when the other side would not take it, so long is it. */
export function subflowFrame(message: unknown): Uint8Array<ArrayBuffer> | null {
  const content = encoder.encode(JSON.stringify(message));
  return content.byteLength > maxSubflowBytes ? null : frame(kind.subflow, content);
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
      case kind.received: {
        if (data.byteLength !== receivedBytes) throw new FrameError('a receipt is malformed');
        const view = new DataView(data.buffer, data.byteOffset, receivedBytes);
        return { type: 'received', flow: view.getUint16(1), frames: view.getUint32(3), blobs: view.getUint32(7) };
      }
      case kind.subflow:
        if (content.byteLength > maxSubflowBytes) throw new FrameError('a message about a further connection is too long');
        return { type: 'subflow', message: parse(content) };
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

/** Throws `FrameError` when it isn't JSON. */
export function parse(utf8: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(utf8)) as unknown;
  } catch {
    throw new FrameError('a message is not valid JSON');
  }
}
