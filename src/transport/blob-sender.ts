/**
 * Sends blobs in order over the bulk channel of a link, and over the subflows that it may have besides: each piece goes to whichever
 * channel has room. What went into a subflow is kept until the other side has it, and goes by another way when that one is lost. The
 * bulk channel itself is as the link: reliable, or over. Decides when a way is lost or stuck, not when to have more of them.
 */
import { FrameError, frameBytes, type Received } from './framing.ts';
import { maxOpenBlobs, maxOpenBytes, PieceWriter, unitBytes, unitsPerFrame } from './pieces.ts';

/** What is used of `RTCDataChannel`; ordered and reliable, `binaryType` 'arraybuffer'. */
export type ByteChannel = Pick<
  RTCDataChannel,
  'addEventListener' | 'bufferedAmount' | 'bufferedAmountLowThreshold' | 'close' | 'readyState' | 'removeEventListener' | 'send'
>;

export interface BlobSenderOptions {
  readonly bulk: ByteChannel;
  /** Sends a frame over the bulk channel, or ends the link with the error that it then throws. */
  readonly sendOnBulk: (frame: Uint8Array<ArrayBuffer>) => void;
  /** A frame went into a subflow. */
  readonly sentOnSubflow: (bytes: number) => void;
  /** The bulk channel took nothing for `stuckTimeoutMs`, while there was something for it. */
  readonly stuck: () => void;
  /** A subflow lets frames wait for too long, or takes none: it is to be closed. `remove` has been done. */
  readonly subflowStuck: (flow: number) => void;
  /** Bytes that wait for a channel or in it; called whenever something happened. */
  readonly waiting: (bytes: number) => void;
}

/**
 * Enough for the channel while the page is busy with something else for a moment. The low mark is near: what is sent at
 * each `bufferedamountlow` is one task of the main thread, and 768 KiB in one took 64 ms of processor time where memory was short. Chromium
 * throws at 16 MiB.
 */
export const highWaterBytes = 512 * 1024;
export const lowWaterBytes = 384 * 1024;
/**
 * A blob's end waits for what lies in the slowest subflow, so in each there lies what it sends in that time: 2 MiB by four at 22 ms and 1 %
 * loss were 3.3 times as fast as by one connection then, and 2.7 times with 128 KiB in each.
 */
const subflowBufferMs = 150;
const leastSubflowBufferBytes = 32 * 1024;
const mostSubflowBufferBytes = 512 * 1024;
/** Receipts are counted for so long before they make a rate. */
const rateWindowMs = 250;
/** Of a subflow, sent and not yet known to have arrived: 20 MB/s at a round trip of 100 ms. */
const maxUnconfirmedBytes = 2 * 1024 * 1024;
/** So many subflows have the tensors to themselves, and the first connection is left to control and to what is short. */
const enoughSubflows = 2;
/** Blobs up to this go by the bulk channel alone, in one frame. */
const shortBlobBytes = unitsPerFrame * unitBytes;
export const stuckTimeoutMs = 30_000;
/** Long enough for a browser to send a packet a few times, short enough that a step of the room can do without. */
const subflowStuckTimeoutMs = 10_000;
const watchIntervalMs = 5000;
/** Shorter transfers say more of the buffer than of the network. */
const shortestMeasuredMs = 100;

/** One channel that pieces go into. */
class Flow {
  readonly channel: ByteChannel;
  #highWaterBytes: number;
  /** Nothing goes in from the high-water mark until the low one. */
  #isFull = false;
  /** Without progress so far, in ticks of the watch. */
  idleTicks = 0;
  progressed = true;

  constructor(channel: ByteChannel, [low, high]: readonly [number, number]) {
    this.channel = channel;
    this.#highWaterBytes = high;
    channel.bufferedAmountLowThreshold = low;
  }

  protected setWater(low: number, high: number): void {
    this.channel.bufferedAmountLowThreshold = low;
    this.#highWaterBytes = high;
  }

  get hasRoom(): boolean {
    const { bufferedAmount, bufferedAmountLowThreshold } = this.channel;
    if (bufferedAmount > this.#highWaterBytes) this.#isFull = true;
    else if (bufferedAmount <= bufferedAmountLowThreshold) this.#isFull = false;
    return !this.#isFull;
  }
}

class SubflowQueue extends Flow {
  /** Sent, and not known to have arrived, in order. */
  readonly kept: Uint8Array<ArrayBuffer>[] = [];
  keptBytes = 0;
  /** Since it opened. */
  arrived = 0;
  readonly number: number;
  #windowBytes = 0;
  #windowAtMs = performance.now();

  constructor(channel: ByteChannel, number: number) {
    super(channel, [leastSubflowBufferBytes / 2, leastSubflowBufferBytes]);
    this.number = number;
  }

  /** So many more frames have arrived than were known to. */
  confirm(count: number): void {
    const nowMs = performance.now();
    for (const frame of this.kept.splice(0, count)) {
      this.keptBytes -= frame.byteLength;
      this.#windowBytes += frame.byteLength;
    }
    this.arrived += count;
    this.progressed = true;
    if (nowMs - this.#windowAtMs < rateWindowMs) return;
    const bytes = Math.min(mostSubflowBufferBytes, Math.max(leastSubflowBufferBytes, (this.#windowBytes / (nowMs - this.#windowAtMs)) * subflowBufferMs));
    this.setWater(bytes / 2, bytes);
    this.#windowBytes = 0;
    this.#windowAtMs = nowMs;
  }

  override get hasRoom(): boolean {
    return super.hasRoom && this.keptBytes < maxUnconfirmedBytes;
  }
}

interface Outgoing {
  readonly writer: PieceWriter;
  /** null until its first piece is out. */
  begun: { readonly atMs: number; readonly bufferedBytes: number } | null;
  resolve(): void;
  reject(error: Error): void;
}

export class BlobSender {
  readonly #options: BlobSenderOptions;
  readonly #bulk: Flow;
  readonly #subflows = new Map<number, SubflowQueue>();
  readonly #scratch = new Uint8Array(frameBytes);
  readonly #queue: Outgoing[] = [];
  /** Frames of lost subflows; they go before anything new. */
  #again: Uint8Array<ArrayBuffer>[] = [];
  /** Lengths of the blobs that have begun and of which the other side hasn't said that they are whole. */
  readonly #openBytes: number[] = [];
  #confirmedBlobs = 0;
  #enqueued = 0;
  #bytesPerSecond: number | null = null;
  #watch: ReturnType<typeof setTimeout> | undefined;
  #bulkBufferedBefore = 0;
  #endedWith: Error | null = null;
  #isPumping = false;
  readonly #pumpAgain = (): void => this.#pump();

  constructor(options: BlobSenderOptions) {
    this.#options = options;
    this.#bulk = new Flow(options.bulk, [lowWaterBytes, highWaterBytes]);
    options.bulk.addEventListener('bufferedamountlow', this.#pumpAgain);
  }

  /** null until a blob took long enough to tell. */
  get bytesPerSecond(): number | null {
    return this.#bytesPerSecond;
  }

  /** Resolves when the last byte was handed to a channel. Rejects with a `RangeError` when the header can't be sent, or with why the link ended. */
  send(header: unknown, bytes: ArrayBuffer): Promise<void> {
    if (this.#endedWith !== null) return Promise.reject(this.#endedWith);
    return new Promise((resolve, reject) => {
      const writer = new PieceWriter(this.#enqueued, header, bytes);
      this.#enqueued += 1;
      this.#queue.push({ writer, begun: null, resolve, reject });
      this.#pump();
    });
  }

  /** `channel` is open. */
  add(flow: number, channel: ByteChannel): void {
    this.#subflows.set(flow, new SubflowQueue(channel, flow));
    channel.addEventListener('bufferedamountlow', this.#pumpAgain);
    this.#pump();
  }

  /** What it may not have delivered goes by other ways. */
  remove(flow: number): void {
    const subflow = this.#subflows.get(flow);
    if (subflow === undefined) return;
    this.#subflows.delete(flow);
    subflow.channel.removeEventListener('bufferedamountlow', this.#pumpAgain);
    this.#again.push(...subflow.kept);
    this.#pump();
  }

  /** Throws `FrameError` when more is said to have arrived than was sent. */
  received({ flow, frames, blobs }: Received): void {
    if (blobs > this.#confirmedBlobs + this.#openBytes.length) throw new FrameError('a blob was confirmed that was not sent');
    if (blobs > this.#confirmedBlobs) {
      this.#openBytes.splice(0, blobs - this.#confirmedBlobs);
      this.#confirmedBlobs = blobs;
    }
    // It may be of a subflow that was given up meanwhile.
    const subflow = this.#subflows.get(flow);
    if (subflow !== undefined && frames > subflow.arrived) {
      const count = frames - subflow.arrived;
      if (count > subflow.kept.length) throw new FrameError('a frame was confirmed that was not sent');
      subflow.confirm(count);
    }
    this.#pump();
  }

  end(error: Error): void {
    this.#endedWith = error;
    clearTimeout(this.#watch);
    for (const outgoing of this.#queue.splice(0)) outgoing.reject(error);
    this.#again = [];
    this.#subflows.clear();
  }

  #pump(): void {
    if (this.#isPumping || this.#endedWith !== null) return;
    this.#isPumping = true;
    try {
      while (this.#sendOne());
    } catch (error) {
      // The link is over, or else this is a mistake of ours.
      if (error !== this.#endedWith) throw error;
      return;
    } finally {
      this.#isPumping = false;
    }
    this.#options.waiting(this.#waitingBytes());
    if (this.#isBusy()) this.#watch ??= setTimeout(() => this.#tick(), watchIntervalMs);
  }

  /** False when there is nothing to send or no room for it. */
  #sendOne(): boolean {
    const [again] = this.#again;
    if (again !== undefined) {
      const flow = this.#flowWithRoom('long');
      if (flow === null) return false;
      this.#again.shift();
      this.#put(flow, again);
      return true;
    }
    const [outgoing] = this.#queue;
    if (outgoing === undefined) return false;
    if (outgoing.begun === null && !this.#mayBegin(outgoing.writer.totalBytes)) return false;
    const flow = this.#flowWithRoom(outgoing.writer.totalBytes > shortBlobBytes ? 'long' : 'short');
    if (flow === null) return false;
    if (outgoing.begun === null) {
      outgoing.begun = { atMs: performance.now(), bufferedBytes: this.#bufferedBytes() };
      this.#openBytes.push(outgoing.writer.totalBytes);
    }
    const { writer } = outgoing;
    // Small ones where connections are slow: whoever is next waits for less. A subflow's frames are kept, so they have memory of their own.
    const isBulk = flow === this.#bulk;
    const units = this.#subflows.size > 0 ? 1 : unitsPerFrame;
    this.#put(flow, isBulk ? writer.next(units, this.#scratch) : writer.next(units));
    if (writer.leftBytes === 0) {
      this.#queue.shift();
      this.#measure(outgoing);
      outgoing.resolve();
    }
    return true;
  }

  #put(flow: Flow, frame: Uint8Array<ArrayBuffer>): void {
    if (!(flow instanceof SubflowQueue)) {
      this.#options.sendOnBulk(frame);
      flow.progressed = true;
      return;
    }
    // Nothing was outstanding, so that there was no progress to be made.
    if (flow.kept.length === 0) flow.progressed = true;
    flow.kept.push(frame);
    flow.keptBytes += frame.byteLength;
    try {
      flow.channel.send(frame);
      this.#options.sentOnSubflow(frame.byteLength);
    } catch {
      this.#giveUp(flow); // It closed, and its event is still on its way. The frame is among those that go again.
    }
  }

  #giveUp({ number }: SubflowQueue): void {
    this.remove(number);
    this.#options.subflowStuck(number);
  }

  /** By one channel alone blobs come in order, and none begins before the last has ended. */
  #mayBegin(bytes: number): boolean {
    const open = this.#openBytes;
    if (this.#subflows.size === 0 || open.length === 0) return true;
    return open.length < maxOpenBlobs && open.reduce((sum, each) => sum + each, bytes) <= maxOpenBytes;
  }

  /** The one in which least lies, of those that a piece of such a blob may go by. */
  #flowWithRoom(blob: 'long' | 'short'): Flow | null {
    const subflows = blob === 'long' ? [...this.#subflows.values()] : [];
    const flows = subflows.length >= enoughSubflows ? subflows : [...subflows, this.#bulk];
    let least: Flow | null = null;
    for (const flow of flows) {
      if (flow.hasRoom && (least === null || flow.channel.bufferedAmount < least.channel.bufferedAmount)) least = flow;
    }
    return least;
  }

  #bufferedBytes(): number {
    return [this.#bulk, ...this.#subflows.values()].reduce((sum, { channel }) => sum + channel.bufferedAmount, 0);
  }

  #waitingBytes(): number {
    return this.#queue.reduce((sum, { writer }) => sum + writer.leftBytes, this.#bufferedBytes());
  }

  #measure({ writer, begun }: Outgoing): void {
    if (begun === null) return;
    const elapsedMs = performance.now() - begun.atMs;
    if (elapsedMs >= shortestMeasuredMs) this.#bytesPerSecond = ((writer.totalBytes + begun.bufferedBytes - this.#bufferedBytes()) / elapsedMs) * 1000;
  }

  #isBusy(): boolean {
    return this.#queue.length > 0 || this.#again.length > 0 || this.#bulk.channel.bufferedAmount > 0 || [...this.#subflows.values()].some(({ kept }) => kept.length > 0);
  }

  /** Looks after ways that take nothing any more. */
  #tick(): void {
    this.#watch = undefined;
    const buffered = this.#bulk.channel.bufferedAmount;
    if (buffered === 0 || buffered < this.#bulkBufferedBefore) this.#bulk.progressed = true;
    this.#bulkBufferedBefore = buffered;
    if (idles(this.#bulk, stuckTimeoutMs)) {
      this.#options.stuck();
      return;
    }
    for (const subflow of this.#subflows.values()) {
      if (subflow.kept.length === 0) subflow.progressed = true;
      if (idles(subflow, subflowStuckTimeoutMs)) this.#giveUp(subflow);
    }
    if (this.#isBusy()) this.#watch ??= setTimeout(() => this.#tick(), watchIntervalMs);
  }
}

/** Counts a tick of the watch; true when too many passed without progress. */
function idles(flow: Flow, timeoutMs: number): boolean {
  flow.idleTicks = flow.progressed ? 0 : flow.idleTicks + 1;
  flow.progressed = false;
  return flow.idleTicks * watchIntervalMs >= timeoutMs;
}
