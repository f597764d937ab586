/** Data channels in memory, joined: what `link.ts` uses of RTCDataChannel, with its buffering and its events; and links over them. */
import type { HandshakeIdentity } from '../../src/transport/handshake.ts';
import type { ByteChannel } from '../../src/transport/blob-sender.ts';
import { openLink, type Link, type LinkOptions } from '../../src/transport/link.ts';
import type { OpenSubflow, SubflowPolicy } from '../../src/transport/subflows.ts';
import type { Side } from './transport-conformance.ts';

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
  #stalled = false;

  static pair(): [MemoryChannel, MemoryChannel] {
    const [a, b] = [new MemoryChannel(), new MemoryChannel()];
    a.#other = b;
    b.#other = a;
    return [a, b];
  }

  /** While true nothing leaves the buffer. */
  set stalled(isStalled: boolean) {
    this.#stalled = isStalled;
    if (!isStalled) this.#startPump();
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
    this.#startPump();
  }

  #startPump(): void {
    if (this.#pumping || this.#stalled || this.#queue.length === 0) return;
    this.#pumping = true;
    setImmediate(() => this.#pump());
  }

  #pump(): void {
    for (let count = 0; count < framesPerTurn && !this.#stalled; count += 1) {
      const frame = this.#queue.shift();
      if (frame === undefined) break;
      const before = this.bufferedAmount;
      this.bufferedAmount -= frame.byteLength;
      if (before > this.bufferedAmountLowThreshold && this.bufferedAmount <= this.bufferedAmountLowThreshold) {
        this.dispatchEvent(new Event('bufferedamountlow'));
      }
      if (this.#other?.readyState === 'open') this.#other.dispatchEvent(new MessageEvent('message', { data: frame.slice().buffer }));
    }
    this.#pumping = false;
    this.#startPump();
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

export interface Wires {
  readonly control: [MemoryChannel, MemoryChannel];
  readonly bulk: [MemoryChannel, MemoryChannel];
}

export function makeWires(): Wires {
  return { control: MemoryChannel.pair(), bulk: MemoryChannel.pair() };
}

/** What the sides of a link know of themselves and each other. */
export function identity(role: 'caller' | 'callee', key: string, caller = 'a', callee = 'b'): HandshakeIdentity {
  const own = role === 'caller' ? caller : callee;
  const remote = role === 'caller' ? callee : caller;
  return { role, room: 'room', key, ownId: own, remoteId: remote, ownFingerprint: `sha-256 ${own}`, remoteFingerprint: `sha-256 ${remote}` };
}

/** One end of a link. */
export function side(wires: Wires, role: 'caller' | 'callee', options: Side, changes: Partial<LinkOptions> = {}): Link {
  const index = role === 'caller' ? 0 : 1;
  const [control, bulk] = [wires.control[index], wires.bulk[index]];
  return openLink({
    control,
    bulk,
    identity: () => Promise.resolve(identity(role, options.key)),
    handlers: () => options.handlers,
    getStats: () => Promise.reject(new Error('no statistics in memory')),
    openSubflow: () => null,
    release: () => {
      control.close();
      bulk.close();
    },
    ...changes,
  });
}

export function openAll(wires: Wires): void {
  for (const channel of [...wires.bulk, ...wires.control]) channel.open();
}

/** Subflows are opened as soon as anything waits. */
export const eagerPolicy: SubflowPolicy = { minRoundTripMs: 50, minWaitingBytes: 1, readings: 1, readingIntervalMs: 0 };

/** Of a way of that length. */
export function statsWith(roundTripMs: number): Promise<RTCStatsReport> {
  const report = new Map<string, unknown>([
    ['T', { id: 'T', type: 'transport', selectedCandidatePairId: 'P' }],
    ['P', { id: 'P', type: 'candidate-pair', currentRoundTripTime: roundTripMs / 1000 }],
  ]);
  return Promise.resolve(report as unknown as RTCStatsReport);
}

/** Subflows of one link, in memory: each opens when the callee has heard the caller's word. */
export class MemorySubflows {
  readonly pairs: (readonly [MemoryChannel, MemoryChannel])[] = [];
  #joined = 0;

  readonly #open: OpenSubflow = (role, { say }) => {
    if (role === 'caller') {
      const pair = MemoryChannel.pair();
      this.pairs.push(pair);
      queueMicrotask(() => say('open'));
      return { channel: pair[0], hear: () => undefined, close: () => pair[0].close() };
    }
    const pair = this.pairs[this.#joined];
    this.#joined += 1;
    if (pair === undefined) throw new Error('the caller has none that could be joined');
    return {
      channel: pair[1],
      hear: () => {
        for (const channel of pair) channel.open();
      },
      close: () => pair[1].close(),
    };
  };

  options(roundTripMs = 50): Partial<LinkOptions> {
    return { openSubflow: this.#open, subflowPolicy: eagerPolicy, getStats: () => statsWith(roundTripMs) };
  }
}
