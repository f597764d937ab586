/**
 * Decides when a link has further connections to the same peer besides its first, makes them, and lets them go. All of them are
 * agreed on in messages over the first connection, whose other end has proved the room's key. So whoever is at a subflow's other end is
 * the same peer without a proof of its own: the certificates that DTLS holds both ends to are named in those messages.
 *
 * The caller of the link begins subflows; the callee asks for them. It knows nothing of WebRTC (`rtc-subflow.ts`) nor of what goes
 * through (`blob-sender.ts`).
 */
import * as v from 'valibot';
import type { ByteChannel } from './blob-sender.ts';
import { FrameError } from './framing.ts';

/** A connection being made, or made. */
export interface Subflow {
  readonly channel: ByteChannel;
  /** What the other side's `say` said, in its order; not validated. Whatever it is, at worst the subflow is lost. */
  hear(said: unknown): void;
  close(): void;
}

export interface SubflowEvents {
  /** Only before `lost`. */
  say(said: unknown): void;
  lost(): void;
}

/** null when this page must not have more of them. Calls back later, never while it is called. */
export type OpenSubflow = (role: 'caller' | 'callee', events: SubflowEvents) => Subflow | null;

/** When subflows are worth their while. */
export interface SubflowPolicy {
  /** Round trips at least so long. */
  readonly minRoundTripMs: number;
  /** Bytes that wait to be sent. */
  readonly minWaitingBytes: number;
  /** So many readings of the round-trip time agree; the shortest counts, since a busy way's own queues make it longer. */
  readonly readings: number;
  readonly readingIntervalMs: number;
}

/**
 * What one connection makes of a lossy way falls with its round-trip time (Mathis et al. 1997: 1.2 · packet / (round trip · √loss)); with
 * 1 % loss that is 1.5 MB/s at 10 ms. It was not searched for by measuring on both sides of it.
 */
export const usualPolicy: SubflowPolicy = { minRoundTripMs: 10, minWaitingBytes: 256 * 1024, readings: 3, readingIntervalMs: 1000 };

/** At 22 ms and 1 % loss tensors go that many times as fast; more take memory and ports in a room of thirty. */
export const maxSubflows = 4;
/** Over the life of a link; what goes on dying isn't worth it. */
const maxSubflowsEver = 32;
const openTimeoutMs = 20_000;
const retryPauseMs = 30_000;
const idleTimeoutMs = 120_000;
/** Descriptions and candidates for one subflow. */
const maxSaid = 100;

const flowNumber = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(maxSubflowsEver));
const messageSchema = v.variant('type', [
  v.object({ type: v.literal('ask') }),
  v.object({ type: v.literal('begin'), flow: flowNumber }),
  v.object({ type: v.literal('said'), flow: flowNumber, said: v.unknown() }),
  v.object({ type: v.literal('end'), flow: flowNumber }),
]);
type Message = v.InferOutput<typeof messageSchema>;

export interface SubflowsOptions {
  readonly role: 'caller' | 'callee';
  readonly open: OpenSubflow;
  readonly policy: SubflowPolicy;
  readonly roundTripMs: () => Promise<number | null>;
  /** To the other side's `hear`, in order. False when it can't be said. */
  readonly say: (message: unknown) => boolean;
  readonly opened: (flow: number, channel: ByteChannel) => void;
  /** It had opened. */
  readonly lost: (flow: number) => void;
  readonly arrived: (flow: number, data: unknown) => void;
}

interface Entry {
  readonly subflow: Subflow;
  readonly timer: ReturnType<typeof setTimeout>;
  isOpen: boolean;
  heard: number;
}

export class Subflows {
  readonly #options: SubflowsOptions;
  readonly #entries = new Map<number, Entry>();
  /** The number that was given last. */
  #last = 0;
  #roundTripsMs: number[] = [];
  #nextReadingAtMs = 0;
  /** Of opening more, or asking for them. */
  #nextAttemptAtMs = 0;
  #usedAtMs = 0;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;
  #hasEnded = false;

  constructor(options: SubflowsOptions) {
    this.#options = options;
  }

  get openCount(): number {
    return [...this.#entries.values()].filter(({ isOpen }) => isOpen).length;
  }

  /** So many bytes wait to be sent: looks, from time to time, whether subflows would help. */
  waiting(bytes: number): void {
    const { minWaitingBytes, readingIntervalMs } = this.#options.policy;
    if (bytes < minWaitingBytes || this.#hasEnded) return;
    const nowMs = performance.now();
    this.#usedAtMs = nowMs;
    if (nowMs < this.#nextReadingAtMs || nowMs < this.#nextAttemptAtMs || this.#entries.size >= maxSubflows) return;
    this.#nextReadingAtMs = nowMs + readingIntervalMs;
    void this.#consider();
  }

  async #consider(): Promise<void> {
    const { policy, role, roundTripMs, say } = this.#options;
    const reading = await roundTripMs();
    if (reading === null || this.#hasEnded) return;
    this.#roundTripsMs = [...this.#roundTripsMs, reading].slice(-policy.readings);
    if (this.#roundTripsMs.length < policy.readings || Math.min(...this.#roundTripsMs) < policy.minRoundTripMs) return;
    if (role === 'caller') {
      this.#open();
    } else {
      this.#nextAttemptAtMs = performance.now() + retryPauseMs;
      say({ type: 'ask' } satisfies Message);
    }
  }

  /** The caller's. */
  #open(): void {
    const nowMs = performance.now();
    if (nowMs < this.#nextAttemptAtMs) return;
    this.#nextAttemptAtMs = nowMs + retryPauseMs;
    this.#usedAtMs = nowMs;
    while (this.#entries.size < maxSubflows && this.#last < maxSubflowsEver) {
      const flow = this.#last + 1;
      if (!this.#make(flow)) return;
      this.#last = flow;
      if (!this.#options.say({ type: 'begin', flow } satisfies Message)) return;
    }
    this.#watchIdleness();
  }

  #make(flow: number): boolean {
    const { open, role, say, opened, arrived } = this.#options;
    const subflow = open(role, {
      say: (said) => {
        if (this.#entries.has(flow) && !say({ type: 'said', flow, said } satisfies Message)) this.drop(flow);
      },
      lost: () => this.drop(flow),
    });
    if (subflow === null) return false;
    const { channel } = subflow;
    const entry: Entry = { subflow, timer: setTimeout(() => this.drop(flow), openTimeoutMs), isOpen: false, heard: 0 };
    this.#entries.set(flow, entry);
    channel.addEventListener('open', () => {
      if (this.#entries.get(flow) !== entry) return;
      clearTimeout(entry.timer);
      entry.isOpen = true;
      opened(flow, channel);
    });
    channel.addEventListener('message', (event) => {
      if (this.#entries.get(flow) !== entry) return;
      this.#usedAtMs = performance.now();
      arrived(flow, event.data);
    });
    channel.addEventListener('close', () => this.drop(flow));
    return true;
  }

  /** Lets one go, and says so. */
  drop(flow: number): void {
    if (this.#remove(flow)) this.#options.say({ type: 'end', flow } satisfies Message);
  }

  #remove(flow: number): boolean {
    const entry = this.#entries.get(flow);
    if (entry === undefined) return false;
    this.#entries.delete(flow);
    clearTimeout(entry.timer);
    entry.subflow.close();
    if (entry.isOpen) this.#options.lost(flow);
    return true;
  }

  /** Throws `FrameError` for what no honest peer says. */
  hear(message: unknown): void {
    const parsed = v.safeParse(messageSchema, message);
    if (!parsed.success) throw new FrameError('a message about a further connection is malformed');
    const said = parsed.output;
    switch (said.type) {
      case 'ask':
        if (this.#options.role !== 'caller') throw new FrameError('the caller asked for what is its own to begin');
        this.#open();
        return;
      case 'begin':
        if (this.#options.role !== 'callee' || said.flow !== this.#last + 1 || this.#entries.size >= maxSubflows) throw new FrameError('a further connection began out of turn');
        this.#last = said.flow;
        if (!this.#make(said.flow)) this.#options.say({ type: 'end', flow: said.flow } satisfies Message);
        return;
      case 'said':
      case 'end':
        this.#hearOf(said);
        return;
    }
  }

  #hearOf(said: Extract<Message, { type: 'said' | 'end' }>): void {
    if (said.flow > this.#last) throw new FrameError('words came for a connection that nobody began');
    const entry = this.#entries.get(said.flow);
    // It ended here, and the words crossed.
    if (entry === undefined) return;
    if (said.type === 'end') {
      this.#remove(said.flow);
      return;
    }
    entry.heard += 1;
    if (entry.heard > maxSaid) throw new FrameError('too many words came for one connection');
    entry.subflow.hear(said.said);
  }

  #watchIdleness(): void {
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(
      () => {
        if (performance.now() - this.#usedAtMs >= idleTimeoutMs) for (const flow of [...this.#entries.keys()]) this.drop(flow);
        if (this.#entries.size > 0) this.#watchIdleness();
      },
      Math.max(1000, this.#usedAtMs + idleTimeoutMs - performance.now()),
    );
  }

  end(): void {
    this.#hasEnded = true;
    clearTimeout(this.#idleTimer);
    const entries = [...this.#entries.values()];
    // First, so that nobody is told of what ends with the link.
    this.#entries.clear();
    for (const { subflow, timer } of entries) {
      clearTimeout(timer);
      subflow.close();
    }
  }
}
