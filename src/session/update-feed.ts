/**
 * A member's part in bringing updates to everybody: it puts one together from the pieces that come from the coordinator or from another
 * member, checks those of the latter against the coordinator's hashes, forwards each piece as soon as it is known to be right, and keeps what
 * else the coordinator sends in order meanwhile: the machine sees an ordinary update in its place. What does not come is asked of the
 * coordinator. Who feeds whom the coordinator's machine says (room/fan-out.ts). No timers, connections or hashing here: the
 * simulator runs it too.
 */
import * as v from 'valibot';
import { maxQueuedBlobs } from '../room/limits.ts';
import type { MachineBlob } from '../room/machine.ts';
import { subscribedSchema, updatePieceSchema } from '../room/messages.ts';
import type { CoordinatorBlob, MemberMessage, PeerId, Step, Subscribe, Subscribed, Term, UpdatePiece } from '../room/messages.ts';
import { hex } from './replica-fetch.ts';

/** A connection to another member, with what crosses it. */
export interface FeedLine {
  control(message: Subscribe | Subscribed): void;
  piece(header: UpdatePiece, bytes: ArrayBuffer): void;
  close(reason: string): void;
}

/** What comes from whoever forwards: not validated. */
export interface FeedHandlers {
  control(json: unknown): void;
  blob(json: unknown, bytes: ArrayBuffer): void;
  closed(): void;
}

export interface UpdateFeedOptions {
  /** Of the reign that this member takes part in; null while it takes part in none. */
  readonly term: () => Term | null;
  /** `opened` gets null when that fails, and may be called at once. */
  readonly connect: (peer: PeerId, handlers: FeedHandlers, opened: (line: FeedLine | null) => void) => void;
  /** SHA-256 as 64 hexadecimal digits; `done` may be called at once. */
  readonly hash: (bytes: ArrayBuffer, done: (hash: string) => void) => void;
  readonly deliver: (header: MachineBlob, bytes: ArrayBuffer) => void;
  readonly tell: (message: Extract<MemberMessage, { type: 'fed' | 'missed' }>) => void;
  /** The coordinator sent what can't be right. */
  readonly distrust: () => void;
  readonly nowMs: () => number;
}

export const updateHashBytes = 32;
/** What a connection to another member takes as one blob. */
export const mostUpdatePieceBytes = 256 * 1024;
const leastUpdatePieceBytes = 16 * 1024;
/** So many that the first is through many hands while the last is on its way to the first. */
const usualPieces = 64;
const mostPieces = 65_536;
const mostUpdateBytes = 2 ** 31;

/** More than any coordinator asks for. */
const mostChildren = 8;
/** Pieces that overtake their hashes come from a step or two. */
const mostEarlyPieces = 2 * usualPieces;

/** Nothing of an update for so long, and as long again as a piece takes through several hands at the slowest rate put up with: it comes no more. */
const stalledMs = 3_000;
const slowestBytesPerMs = 20;
/** After such a gap between two ticks it was this page that stood still. */
const ownGapMs = 2_000;
/** What the coordinator was asked for and has not sent is not waited for any more: later updates show that it is missing. */
const hopelessMs = 60_000;
const hopelessBytesPerMs = 10;

export function updatePieceBytesOf(byteLength: number): number {
  return Math.min(mostUpdatePieceBytes, Math.max(leastUpdatePieceBytes, Math.ceil(byteLength / usualPieces)));
}

/** In the order of the coordinator's blobs: one that is here, or an update that is coming. */
type Place = { readonly header: MachineBlob; readonly bytes: ArrayBuffer } | Incoming;

interface Incoming {
  readonly term: Term;
  readonly step: Step;
  readonly pieceBytes: number;
  readonly hashes: readonly string[];
  readonly whole: Uint8Array<ArrayBuffer>;
  readonly missing: Set<number>;
  readonly isFed: boolean;
  progressAtMs: number;
  /** Since when the coordinator knows that it is missed. */
  missedAtMs: number | null;
}

interface Upstream {
  readonly peer: PeerId;
  line: FeedLine | null;
  isSubscribed: boolean;
}

export class UpdateFeed {
  readonly #options: UpdateFeedOptions;
  #places: Place[] = [];
  #upstream: Upstream | null = null;
  readonly #children = new Set<FeedLine>();
  #early: { readonly step: number; readonly piece: number; readonly bytes: ArrayBuffer }[] = [];
  /** The newest whose hashes have come. */
  #announcedStep = -1;
  #tickedAtMs: number;
  #isFlushing = false;

  constructor(options: UpdateFeedOptions) {
    this.#options = options;
    this.#tickedAtMs = options.nowMs();
  }

  /** Every blob of the coordinator that belongs among weights and work. */
  arrived(header: Exclude<CoordinatorBlob, { kind: 'pieceHashes' | 'replicaPiece' }>, bytes: ArrayBuffer): void {
    switch (header.kind) {
      case 'updateHashes':
        this.#announced(header, bytes);
        break;
      case 'updatePiece': {
        const incoming = this.#incoming(header.step);
        if (incoming !== undefined) this.#keep(incoming, header.piece, bytes);
        return;
      }
      case 'update': {
        const incoming = this.#incoming(header.step);
        if (incoming === undefined) this.#places.push({ header, bytes });
        else this.#fill(incoming, bytes);
        break;
      }
      case 'replica':
        // What waits for an older update is for weights that are given up.
        if (this.#allIncoming().some(({ step }) => step < header.step)) this.#places = [];
        this.#places.push({ header, bytes });
        break;
      default:
        this.#places.push({ header, bytes });
    }
    this.#flush();
  }

  /** The coordinator's word on who forwards to this member. */
  feed(from: PeerId | null): void {
    if (this.#upstream?.peer === from) return;
    this.#lost('gone');
    if (from === null) return;
    const upstream: Upstream = { peer: from, line: null, isSubscribed: false };
    this.#upstream = upstream;
    const isCurrent = (): boolean => this.#upstream === upstream;
    const handlers: FeedHandlers = {
      control: (json) => {
        if (!isCurrent()) return;
        const answer = v.safeParse(subscribedSchema, json);
        if (!answer.success || answer.output.term !== this.#options.term()) return this.#lost('gone');
        upstream.isSubscribed = true;
        this.#options.tell({ type: 'fed', term: answer.output.term, from });
      },
      blob: (json, bytes) => {
        if (isCurrent()) this.#forwarded(json, bytes);
      },
      closed: () => {
        if (isCurrent()) this.#lost('gone');
      },
    };
    this.#options.connect(from, handlers, (line) => {
      const term = this.#options.term();
      if (!isCurrent() || term === null) return line?.close('not needed any more');
      if (line === null) return this.#lost('gone');
      upstream.line = line;
      line.control({ type: 'subscribe', term });
    });
  }

  /** Another member wants what comes here. Its line is to be given to `left` when it is closed. */
  subscribed(line: FeedLine, { term }: Subscribe): void {
    if (term !== this.#options.term() || this.#children.size >= mostChildren) return line.close('this peer forwards nothing');
    this.#children.add(line);
    line.control({ type: 'subscribed', term });
  }

  left(line: FeedLine): void {
    this.#children.delete(line);
  }

  tick(): void {
    const nowMs = this.#options.nowMs();
    const hasStoodStill = nowMs - this.#tickedAtMs > ownGapMs;
    this.#tickedAtMs = nowMs;
    const all = this.#allIncoming();
    if (hasStoodStill) for (const incoming of all) incoming.progressAtMs = nowMs;
    const isStalled = ({ isFed, missedAtMs, progressAtMs, pieceBytes }: Incoming): boolean =>
      isFed && missedAtMs === null && nowMs - progressAtMs > stalledMs + pieceBytes / slowestBytesPerMs;
    if (all.some(isStalled)) this.#lost('late');
    const isHopeless = ({ missedAtMs, whole }: Incoming): boolean => missedAtMs !== null && nowMs - missedAtMs > hopelessMs + whole.byteLength / hopelessBytesPerMs;
    if (!all.some(isHopeless)) return;
    this.#places = this.#places.filter((place) => !('missing' in place) || !isHopeless(place));
    this.#flush();
  }

  /** The connection to the coordinator is gone: nothing comes here any more that could be forwarded. */
  abort(): void {
    this.#places = [];
    this.#early = [];
    this.#announcedStep = -1;
    this.#upstream?.line?.close('not needed any more');
    this.#upstream = null;
    for (const line of this.#children) line.close('this peer has lost the coordinator');
    this.#children.clear();
  }

  #allIncoming(): readonly Incoming[] {
    return this.#places.filter((place) => 'missing' in place);
  }

  #incoming(step: number): Incoming | undefined {
    return this.#allIncoming().find((incoming) => incoming.step === step);
  }

  #announced({ term, step, byteLength, pieceBytes, isFed }: Extract<CoordinatorBlob, { kind: 'updateHashes' }>, bytes: ArrayBuffer): void {
    const pieces = Math.ceil(byteLength / pieceBytes);
    const isPlausible = byteLength <= mostUpdateBytes && pieces <= mostPieces && bytes.byteLength === pieces * updateHashBytes;
    if (!isPlausible) return this.#options.distrust();
    // Delivered twice.
    if (step <= this.#announcedStep) return;
    this.#announcedStep = step;
    const hashes = Array.from({ length: pieces }, (_, piece) => hex(new Uint8Array(bytes, piece * updateHashBytes, updateHashBytes)));
    const missing = new Set(hashes.keys());
    const incoming: Incoming = { term, step, pieceBytes, hashes, whole: new Uint8Array(byteLength), missing, isFed, progressAtMs: this.#options.nowMs(), missedAtMs: null };
    this.#places.push(incoming);
    const early = this.#early.filter((each) => each.step === step);
    this.#early = this.#early.filter((each) => each.step > step);
    if (isFed && this.#upstream?.isSubscribed !== true) this.#miss(incoming, 'gone');
    for (const { piece, bytes: its } of early) this.#check(incoming, piece, its);
  }

  /** By another member. */
  #forwarded(json: unknown, bytes: ArrayBuffer): void {
    const header = v.safeParse(updatePieceSchema, json);
    if (!header.success) return this.#lost('wrong');
    const { term, step, piece } = header.output;
    if (term !== this.#options.term()) return;
    const incoming = this.#incoming(step);
    if (incoming !== undefined) this.#check(incoming, piece, bytes);
    else if (step > this.#announcedStep && this.#early.length < mostEarlyPieces && bytes.byteLength <= mostUpdatePieceBytes) this.#early.push({ step, piece, bytes });
  }

  #check(incoming: Incoming, piece: number, bytes: ArrayBuffer): void {
    if (!incoming.missing.has(piece)) {
      if (piece >= incoming.hashes.length) this.#lost('wrong');
      return;
    }
    const upstream = this.#upstream;
    this.#options.hash(bytes, (hash) => {
      if (hash === incoming.hashes[piece]) this.#keep(incoming, piece, bytes);
      else if (this.#upstream === upstream) this.#lost('wrong');
    });
  }

  /** Right, and new, or from the coordinator itself. */
  #keep(incoming: Incoming, piece: number, bytes: ArrayBuffer): void {
    const { missing, whole, pieceBytes, term, step } = incoming;
    const offset = piece * pieceBytes;
    if (!missing.has(piece) || bytes.byteLength !== Math.min(pieceBytes, whole.byteLength - offset)) return;
    missing.delete(piece);
    whole.set(new Uint8Array(bytes), offset);
    incoming.progressAtMs = this.#options.nowMs();
    if (!this.#places.includes(incoming)) return;
    for (const line of this.#children) line.piece({ kind: 'updatePiece', term, step, piece }, bytes);
    if (missing.size === 0) this.#flush();
  }

  /** The coordinator has sent it whole. */
  #fill(incoming: Incoming, bytes: ArrayBuffer): void {
    const { whole, pieceBytes, missing } = incoming;
    if (bytes.byteLength !== whole.byteLength) return this.#options.distrust();
    for (const piece of [...missing]) this.#keep(incoming, piece, bytes.slice(piece * pieceBytes, (piece + 1) * pieceBytes));
  }

  #lost(why: 'late' | 'gone' | 'wrong'): void {
    const upstream = this.#upstream;
    if (upstream === null) return;
    this.#upstream = null;
    this.#early = [];
    upstream.line?.close(why === 'wrong' ? 'it forwards what was not announced' : 'not needed any more');
    for (const incoming of this.#allIncoming()) if (incoming.isFed) this.#miss(incoming, why);
  }

  #miss(incoming: Incoming, why: 'late' | 'gone' | 'wrong'): void {
    if (incoming.missedAtMs !== null || incoming.missing.size === 0) return;
    incoming.missedAtMs = this.#options.nowMs();
    this.#options.tell({ type: 'missed', term: incoming.term, step: incoming.step, why });
  }

  #flush(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    // More than a machine keeps: whatever is missing, it finds out by itself.
    if (this.#places.length > maxQueuedBlobs) this.#places = this.#places.filter((place) => !('missing' in place) || place.missing.size === 0);
    for (let [next] = this.#places; next !== undefined; [next] = this.#places) {
      if ('missing' in next && next.missing.size > 0) break;
      this.#places.shift();
      if ('missing' in next) this.#options.deliver({ kind: 'update', term: next.term, step: next.step }, next.whole.buffer);
      else this.#options.deliver(next.header, next.bytes);
    }
    this.#isFlushing = false;
  }
}
