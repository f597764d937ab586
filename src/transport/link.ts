/**
 * A `Connection` over two open-or-opening data channels, control and bulk: handshake, then messages and blobs with
 * backpressure, blobs over subflows too where these help. Knows nothing of PeerJS or of how the channels came about.
 */
import { BlobSender, stuckTimeoutMs, type ByteChannel } from './blob-sender.ts';
import { ControlSender } from './control-sender.ts';
import { closeFrame, controlFrames, ControlReader, FrameError, handshakeFrame, receivedFrame, subflowFrame } from './framing.ts';
import { shakeHands, type HandshakeIdentity } from './handshake.ts';
import { BlobReader } from './pieces.ts';
import { problems } from './problems.ts';
import { pathOf } from './stats.ts';
import { Subflows, usualPolicy, type OpenSubflow, type SubflowPolicy } from './subflows.ts';
import { TransportError, type Connection, type ConnectionHandlers, type ConnectionStats } from './types.ts';

export interface LinkOptions {
  readonly control: ByteChannel;
  readonly bulk: ByteChannel;
  /** Asked once both channels are open: fingerprints are known only then, or a moment later. */
  readonly identity: () => Promise<HandshakeIdentity>;
  /** Called when the handshake has succeeded, and only then. */
  readonly handlers: (connection: Connection) => ConnectionHandlers;
  readonly getStats: () => Promise<RTCStatsReport>;
  readonly openSubflow: OpenSubflow;
  readonly subflowPolicy?: SubflowPolicy;
  /** Takes down what is below, once, when the link is over. */
  readonly release: () => void;
}

export interface Link {
  /** The proved connection. Rejects with a `TransportError`. */
  readonly opened: Promise<Connection>;
  /** For what is noticed from outside (ICE failed, PeerJS closed): ends the link with this as its reason. */
  fail(error: TransportError): void;
}

const handshakeTimeoutMs = 10_000;
/** The other side hangs up when our closing words arrive; without an answer we do. */
const lingerMs = 1000;
/** The bulk channel's number among the ways that blobs take; subflows count from 1. */
const bulkFlow = 0;

/** The code under which the other side is told that what it sent can't be read. */
const malformed = 'malformed';

type Phase = 'opening' | 'verified' | 'open' | 'closed';

export function openLink(options: LinkOptions): Link {
  const link = new DataChannelLink(options);
  return { opened: link.opened, fail: (error) => link.end(error, null, error.message) };
}

class DataChannelLink implements Connection {
  readonly opened: Promise<Connection>;
  readonly #options: LinkOptions;
  readonly #controlReader = new ControlReader();
  readonly #blobReader = new BlobReader();
  readonly #control: ControlSender;
  readonly #blobs: BlobSender;
  /** null before the handshake is over. */
  #subflows: Subflows | null = null;
  /** Frames that came in by each subflow. */
  readonly #framesBySubflow = new Map<number, number>();
  #settle: { resolve(connection: Connection): void; reject(error: TransportError): void } | null = null;
  #handshakeTimer: ReturnType<typeof setTimeout> | undefined;
  /** What arrived before the other side's proof was checked waits here; it is at most a few handshake messages. */
  readonly #handshakeInbox: unknown[] = [];
  #handshakeWaiter: { resolve(message: unknown): void; reject(error: TransportError): void } | null = null;
  /** Complete messages and blobs that arrived between our check and the other side's `accepted`. */
  #early: (() => void)[] | null = [];
  #phase: Phase = 'opening';
  #handlers: ConnectionHandlers | null = null;
  #remoteId = '';
  #role: HandshakeIdentity['role'] = 'callee';
  /** Called with the reason when the link ends, so that whoever waits for a channel stops. */
  readonly #waiting = new Set<(error: TransportError) => void>();
  #endedWith: TransportError | null = null;
  #bytesSent = 0;
  #bytesReceived = 0;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.opened = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#control = new ControlSender({
      channel: options.control,
      send: (frame) => this.#sendNow(frame),
      tooMuch: () => void this.#fail('the other side takes no messages', null),
      stuck: () => void this.#tookNothing(),
    });
    this.#blobs = new BlobSender({
      bulk: options.bulk,
      sendOnBulk: (frame) => this.#sendOn(options.bulk, frame),
      sentOnSubflow: (bytes) => {
        this.#bytesSent += bytes;
      },
      stuck: () => void this.#tookNothing(),
      subflowStuck: (flow) => this.#subflows?.drop(flow),
      waiting: (bytes) => this.#subflows?.waiting(bytes),
    });
    for (const channel of [options.control, options.bulk]) {
      channel.addEventListener('close', () => {
        this.#fail('the connection was lost', null);
      });
    }
    options.control.addEventListener('message', (event) => this.#guard(() => this.#controlArrived(bytesOf(event.data))));
    options.bulk.addEventListener('message', (event) => this.#guard(() => this.#bulkArrived(bulkFlow, bytesOf(event.data))));
    this.#shakeHands().then(
      () => this.#becomeOpen(),
      (error: unknown) => {
        if (error instanceof TransportError) this.end(error, error.problem.code, error.message);
        else this.#fail(String(error), 'failed');
      },
    );
  }

  get remoteId(): string {
    return this.#remoteId;
  }

  async #shakeHands(): Promise<void> {
    await Promise.all([this.#whenOpen(this.#options.control), this.#whenOpen(this.#options.bulk)]);
    this.#handshakeTimer = setTimeout(() => {
      this.#fail(`the other side did not prove the room key within ${handshakeTimeoutMs / 1000} s`, 'timeout');
    }, handshakeTimeoutMs);
    const identity = await this.#options.identity();
    this.#remoteId = identity.remoteId;
    this.#role = identity.role;
    await shakeHands(
      identity,
      {
        send: (message) => this.#sendNow(handshakeFrame(message)),
        receive: () => this.#nextHandshakeMessage(),
      },
      {
        verified: () => {
          if (this.#phase === 'opening') this.#phase = 'verified';
        },
      },
    );
  }

  #whenOpen(channel: ByteChannel): Promise<void> {
    if (channel.readyState === 'open') return Promise.resolve();
    return this.#until((done) => {
      channel.addEventListener('open', done, { once: true });
      return () => channel.removeEventListener('open', done);
    });
  }

  #nextHandshakeMessage(): Promise<unknown> {
    if (this.#endedWith !== null) return Promise.reject(this.#endedWith);
    if (this.#handshakeInbox.length > 0) return Promise.resolve(this.#handshakeInbox.shift());
    return new Promise((resolve, reject) => {
      this.#handshakeWaiter = { resolve, reject };
    });
  }

  #becomeOpen(): void {
    if (this.#phase !== 'verified') return;
    clearTimeout(this.#handshakeTimer);
    this.#phase = 'open';
    this.#subflows = this.#makeSubflows();
    this.#handlers = this.#options.handlers(this);
    const { maxBlobBytes } = this.#handlers;
    if (maxBlobBytes !== undefined) this.#guard(() => this.#blobReader.limit(maxBlobBytes));
    this.#settle?.resolve(this);
    // A task of its own: the code that awaits the connection goes first, then what came early, then what comes.
    setTimeout(() => this.#deliverEarly(), 0);
  }

  #makeSubflows(): Subflows {
    const { openSubflow, subflowPolicy, getStats } = this.#options;
    return new Subflows({
      role: this.#role,
      open: openSubflow,
      policy: subflowPolicy ?? usualPolicy,
      roundTripMs: () =>
        getStats().then(
          (report) => pathOf(report).roundTripMs,
          () => null,
        ),
      say: (message) => {
        const frame = subflowFrame(message);
        if (frame !== null) this.#control.enqueue([frame]);
        return frame !== null;
      },
      opened: (flow, channel) => this.#blobs.add(flow, channel),
      lost: (flow) => {
        this.#framesBySubflow.delete(flow);
        this.#blobs.remove(flow);
      },
      arrived: (flow, data) => this.#guard(() => this.#bulkArrived(flow, bytesOf(data))),
    });
  }

  #deliverEarly(): void {
    const early = this.#early ?? [];
    this.#early = null;
    for (const deliver of early) deliver();
  }

  /** Whatever is wrong with what arrived ends this link, with the reason for both sides; it never gets out of here. */
  #guard(action: () => void): void {
    if (this.#phase === 'closed') return;
    try {
      action();
    } catch (error) {
      if (error instanceof FrameError) this.#fail(error.message, malformed);
      else if (error !== this.#endedWith) throw error; // Else an answer could not be sent, and the link has ended and said so.
    }
  }

  #controlArrived(data: Uint8Array): void {
    this.#bytesReceived += data.byteLength;
    const event = this.#controlReader.read(data);
    if (event === null) {
      // Without this a stranger could make us collect 8 MiB.
      this.#onlyProved();
      return;
    }
    switch (event.type) {
      case 'handshake':
        this.#handshakeArrived(event.message);
        return;
      case 'close':
        // During the handshake the other side may be first to see what is wrong; both should show the same problem.
        if (event.code === 'wrong-key') this.end(problems.wrongKey(), null, event.reason);
        else this.#fail(event.reason, null);
        return;
      case 'message':
        this.#onlyProved();
        this.#deliver(() => this.#handlers?.control(event.message));
        return;
      case 'received':
        this.#onlyProved();
        this.#blobs.received(event);
        return;
      case 'subflow':
        this.#onlyProved();
        this.#deliver(() => this.#guard(() => this.#subflows?.hear(event.message)));
        return;
    }
  }

  #handshakeArrived(message: unknown): void {
    if (this.#phase === 'open') throw new FrameError('a handshake message arrived after the handshake');
    const waiter = this.#handshakeWaiter;
    this.#handshakeWaiter = null;
    if (waiter !== null) waiter.resolve(message);
    else if (this.#handshakeInbox.length < 3) this.#handshakeInbox.push(message);
    else throw new FrameError('too many handshake messages arrived');
  }

  #onlyProved(): void {
    if (this.#phase === 'opening') throw new FrameError('a message arrived before the key was proved');
  }

  #bulkArrived(flow: number, data: Uint8Array): void {
    this.#bytesReceived += data.byteLength;
    this.#onlyProved();
    const whole = this.#blobReader.read(data);
    // The other side keeps what went into a subflow until it knows; of the bulk channel it wants to know only where blobs end.
    const frames = flow === bulkFlow ? 0 : (this.#framesBySubflow.get(flow) ?? 0) + 1;
    if (flow !== bulkFlow) this.#framesBySubflow.set(flow, frames);
    if (flow !== bulkFlow || whole.length > 0) this.#sendNow(receivedFrame({ flow, frames, blobs: this.#blobReader.delivered }));
    for (const blob of whole) this.#deliver(() => this.#handlers?.blob(blob.header, blob.bytes));
  }

  #deliver(action: () => void): void {
    if (this.#early === null) action();
    else this.#early.push(action);
  }

  sendControl(message: unknown): void {
    const frames = controlFrames(message);
    if (this.#phase === 'open') this.#control.enqueue(frames);
  }

  sendBlob(header: unknown, bytes: ArrayBuffer): Promise<void> {
    if (this.#phase !== 'open') return Promise.reject(this.#endedWith ?? problems.connectionClosed('it is not open'));
    return this.#blobs.send(header, bytes);
  }

  #tookNothing(): TransportError {
    return this.#fail(`the other side took nothing for ${stuckTimeoutMs / 1000} s`, null);
  }

  /** Waits for an event that `start` listens for, or for the end of the link. `start` returns how to stop listening. */
  #until(start: (done: () => void) => () => void): Promise<void> {
    if (this.#endedWith !== null) return Promise.reject(this.#endedWith);
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        this.#waiting.delete(onEnd);
        stop();
        settle();
      };
      const onEnd = (error: TransportError): void => finish(() => reject(error));
      const stop = start(() => finish(resolve));
      this.#waiting.add(onEnd);
    });
  }

  #sendNow(frame: Uint8Array<ArrayBuffer>): void {
    this.#sendOn(this.#options.control, frame);
  }

  #sendOn(channel: ByteChannel, frame: Uint8Array<ArrayBuffer>): void {
    if (this.#endedWith !== null) throw this.#endedWith;
    try {
      channel.send(frame);
    } catch (error) {
      // The channel closed and its event is still on its way, or the browser's own buffer is full.
      throw this.#fail(error instanceof Error ? error.message : 'the channel is closed', null);
    }
    this.#bytesSent += frame.byteLength;
  }

  async stats(): Promise<ConnectionStats> {
    const report = this.#phase === 'closed' ? null : await this.#options.getStats().catch(() => null);
    return {
      bytesSent: this.#bytesSent,
      bytesReceived: this.#bytesReceived,
      sendBytesPerSecond: this.#blobs.bytesPerSecond,
      connections: 1 + (this.#subflows?.openCount ?? 0),
      ...(report === null ? { path: null, roundTripMs: null } : pathOf(report)),
    };
  }

  close(reason: string): void {
    this.#fail(reason, 'closed');
  }

  #fail(reason: string, tellAs: string | null): TransportError {
    const error = problems.connectionClosed(reason);
    this.end(error, tellAs, reason);
    return error;
  }

  /** `tellAs`: the code under which the other side is told why, or null when it knows or can't hear. */
  end(error: TransportError, tellAs: string | null, reason: string): void {
    if (this.#phase === 'closed') return;
    const wasOpen = this.#phase === 'open';
    this.#phase = 'closed';
    this.#endedWith = error;
    this.#control.end(error);
    clearTimeout(this.#handshakeTimer);
    this.#blobs.end(error);
    this.#subflows?.end();
    if (tellAs !== null && this.#options.control.readyState === 'open') {
      try {
        this.#options.control.send(closeFrame(tellAs, reason));
        this.#linger();
      } catch {
        this.#options.release(); // Nothing can be said any more.
      }
    } else {
      this.#options.release();
    }
    this.#handshakeWaiter?.reject(error);
    for (const tell of this.#waiting) tell(error);
    if (wasOpen) {
      this.#deliverEarly();
      this.#handlers?.closed(reason, tellAs === malformed);
    } else {
      this.#settle?.reject(error);
    }
  }

  /** Closing at once would lose the closing words: the other side closes when it has them. */
  #linger(): void {
    const timer = setTimeout(release, lingerMs);
    const { control, release: releaseBelow } = this.#options;
    function release(): void {
      clearTimeout(timer);
      control.removeEventListener('close', release);
      releaseBelow();
    }
    control.addEventListener('close', release);
  }
}

/** Text frames are none of ours; as empty bytes they fail as an unknown kind. */
function bytesOf(data: unknown): Uint8Array {
  return data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(0);
}
