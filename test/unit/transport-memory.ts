/** Two data channels in memory, joined: what `link.ts` uses of RTCDataChannel, with its buffering and its events. */
import type { ByteChannel } from '../../src/transport/link.ts';

/** Frames handed over per turn of the event loop, so that senders meet a full buffer. */
const framesPerTurn = 4;

export class MemoryChannel extends EventTarget implements ByteChannel {
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  readyState: RTCDataChannelState = 'connecting';
  #other: MemoryChannel | null = null;
  #queue: Uint8Array[] = [];
  #pumping = false;
  /** Sees, and may change or swallow (null), every frame that this side sends. */
  tap: (frame: Uint8Array) => Uint8Array | null = (frame) => frame;
  /** While true nothing leaves the buffer. */
  stalled = false;

  static pair(): [MemoryChannel, MemoryChannel] {
    const [a, b] = [new MemoryChannel(), new MemoryChannel()];
    a.#other = b;
    b.#other = a;
    return [a, b];
  }

  open(): void {
    this.readyState = 'open';
    this.dispatchEvent(new Event('open'));
  }

  send(data: string | Blob | ArrayBuffer | ArrayBufferView): void {
    if (this.readyState !== 'open') throw new DOMException('The channel is not open', 'InvalidStateError');
    if (!ArrayBuffer.isView(data)) throw new TypeError('Only views are sent here');
    const frame = this.tap(new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice());
    if (frame === null) return;
    this.bufferedAmount += frame.byteLength;
    this.#queue.push(frame);
    if (!this.#pumping) {
      this.#pumping = true;
      setImmediate(() => this.#pump());
    }
  }

  #pump(): void {
    for (let count = 0; count < framesPerTurn && !this.stalled; count += 1) {
      const frame = this.#queue.shift();
      if (frame === undefined) break;
      const before = this.bufferedAmount;
      this.bufferedAmount -= frame.byteLength;
      if (before > this.bufferedAmountLowThreshold && this.bufferedAmount <= this.bufferedAmountLowThreshold) {
        this.dispatchEvent(new Event('bufferedamountlow'));
      }
      if (this.#other?.readyState === 'open') this.#other.dispatchEvent(new MessageEvent('message', { data: frame.slice().buffer }));
    }
    this.#pumping = this.#queue.length > 0 && !this.stalled;
    if (this.#pumping) setImmediate(() => this.#pump());
  }

  close(): void {
    if (this.readyState === 'closed') return;
    this.readyState = 'closed';
    this.#queue = [];
    this.dispatchEvent(new Event('close'));
    const other = this.#other;
    if (other !== null) setImmediate(() => other.close());
  }
}
