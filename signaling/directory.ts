/**
 * Who leads each room: one lease per room, with a term that only grows. Every change is a compare-and-set on the term,
 * so that two tabs can't both lead one term. Who of several may take over an ended lease is `election.ts`; what outlives a
 * restart goes to a `RoomKeeper`. Pure but for its own map: time comes in as an argument, no sockets, no randomness. Holds
 * no weights, no text, no keys: of a room's token and of its holder's secret only hashes are kept.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { Election } from './election.ts';

/** Three renewals may be lost before a lease ends; a hand-off after a freeze waits at most this long. */
export const leaseMs = 6000;
/** What is left of a lease when its coordinator's signalling socket closes: time for one renewal, if the coordinator lives. */
export const leaseWithoutSocketMs = 2000;
/** More hand-offs than a restarted directory can have missed. */
const forgottenTermGap = 1_000;
const forgottenTermSpread = 100_000;
/** A room that nobody has touched for this long is forgotten. */
export const roomLifetimeMs = 24 * 3600 * 1000;

export interface DirectoryLimits {
  readonly maxRooms: number;
  /** Of living rooms created from one address: a school behind one address fits, a script filling the directory doesn't. */
  readonly maxRoomsPerAddress: number;
}

export const defaultLimits: DirectoryLimits = { maxRooms: 20_000, maxRoomsPerAddress: 1000 };

/** What anybody who knows the room's id may see. */
export interface Lease {
  readonly coordinator: string;
  readonly term: number;
  /** 0 when the lease is released or has ended: the room may be taken over. */
  readonly expiresInMs: number;
  /** Its holder gave it back. */
  readonly isReleased: boolean;
  /** The newest committed step that the leader has reported. */
  readonly step: number;
  /** The leader has named somebody who is to follow. */
  readonly successor: boolean;
}

/** What a server that was restarted has to know of a room. Hashes are SHA-256, base64url. */
export interface KeptRoom {
  readonly tokenHash: string;
  readonly createdFrom: string;
  readonly coordinator: string;
  readonly holderHash: string;
  /** Somebody who led it told this directory of it: it had forgotten the room. */
  readonly isReclaimed: boolean;
  readonly term: number;
  readonly step: number;
  /** Of its newest renewal. */
  readonly sequence: number;
  readonly isReleased: boolean;
  /** Of the holder's secret of whoever is to follow. */
  readonly successorHash: string | null;
}

export interface RoomKeeper {
  /** Before the change is answered. `isGrave`: more than a step has changed. */
  keep(id: string, room: KeptRoom, isGrave: boolean): void;
  drop(id: string): void;
}

interface Room {
  kept: KeptRoom;
  touchedMs: number;
  leaseEndsMs: number;
  /** Since the first of the unnamed asked for this ended lease. */
  election: Election | null;
}

/**
 * `holder` is a secret: it proves that a lease, or a successor's name, is the sender's own. `step` is the newest committed
 * step that the sender can go on from.
 */
export type Command =
  | {
      readonly type: 'create';
      readonly coordinator: string;
      readonly holder: string;
      readonly term: number;
      readonly step: number;
      /** Its sender leads under this term already, and this directory has forgotten it. */
      readonly isReclaim: boolean;
    }
  | {
      readonly type: 'renew';
      readonly coordinator: string;
      readonly holder: string;
      readonly term: number;
      readonly step: number;
      /** SHA-256 of the successor's holder, base64url; null names nobody. */
      readonly successorHash: string | null;
      /** Grows with each renewal of a term. */
      readonly sequence: number;
    }
  | {
      readonly type: 'takeOver';
      readonly coordinator: string;
      readonly holder: string;
      readonly expectedTerm: number;
      readonly step: number;
      /** It goes on from memory, having kept up with the leader; false: from what its browser has saved. */
      readonly isWarm: boolean;
    }
  | { readonly type: 'release'; readonly holder: string; readonly term: number; readonly step: number }
  /** The room has another key from now on, and `token` proves that one. */
  | { readonly type: 'renewKey'; readonly holder: string; readonly term: number; readonly token: string };

export type Refusal =
  | 'not-found'
  /** The token isn't the one the room was created with. */
  | 'forbidden'
  /** Create: the room is there already. */
  | 'exists'
  /** The term has moved on. */
  | 'stale-term'
  /** The lease of this term is somebody else's. */
  | 'held'
  /** The lease was released; going on needs a new term. */
  | 'released'
  /** A newer renewal was here first. */
  | 'overtaken'
  /** The lease has ended, and others come first; `retryInMs` says when to ask again. */
  | 'election'
  | 'full';

export type Outcome =
  | { readonly ok: true; readonly lease: Lease }
  | { readonly ok: false; readonly refusal: Refusal; readonly lease: Lease | null; readonly retryInMs: number | null };

export class Directory {
  readonly #rooms = new Map<string, Room>();
  readonly #limits: DirectoryLimits;
  readonly #keeper: RoomKeeper | null;

  constructor(limits: DirectoryLimits = defaultLimits, keeper: RoomKeeper | null = null) {
    this.#limits = limits;
    this.#keeper = keeper;
  }

  get size(): number {
    return this.#rooms.size;
  }

  /** A room that was kept `ageMs` ago. Whoever leads it may rely on a lease that this directory granted before it was restarted. */
  restore(id: string, kept: KeptRoom, ageMs: number, nowMs: number): void {
    this.#rooms.set(id, { kept, touchedMs: nowMs - ageMs, leaseEndsMs: kept.isReleased ? nowMs : nowMs + leaseMs, election: null });
  }

  lookUp(id: string, nowMs: number): Lease | null {
    const room = this.#living(id, nowMs);
    return room === null ? null : leaseOf(room, nowMs);
  }

  /** `token` proves knowledge of the room's key. */
  apply(id: string, token: string, from: string, command: Command, nowMs: number): Outcome {
    const room = this.#living(id, nowMs);
    if (room === null) return command.type === 'create' ? this.#create(id, token, from, command, nowMs) : refused('not-found');
    const before = room.kept;
    if (!isHashOf(token, before.tokenHash)) return refused('forbidden');
    const no = change(room, command, nowMs);
    if (no !== null) return { ok: false, lease: leaseOf(room, nowMs), retryInMs: null, ...no };
    room.touchedMs = nowMs;
    if (room.kept !== before) this.#keeper?.keep(id, room.kept, isGrave(before, room.kept));
    return { ok: true, lease: leaseOf(room, nowMs) };
  }

  /** This peer's signalling socket closed. Renewals go another way: whoever only lost that socket leads on. */
  socketClosed(peerId: string, nowMs: number): void {
    for (const room of this.#rooms.values()) {
      if (room.kept.coordinator === peerId) room.leaseEndsMs = Math.min(room.leaseEndsMs, nowMs + leaseWithoutSocketMs);
    }
  }

  /** Forgets rooms that nobody has touched for a day. */
  sweep(nowMs: number): void {
    for (const [id, room] of this.#rooms) {
      if (nowMs - room.touchedMs < roomLifetimeMs) continue;
      this.#rooms.delete(id);
      this.#keeper?.drop(id);
    }
  }

  #living(id: string, nowMs: number): Room | null {
    const room = this.#rooms.get(id);
    return room === undefined || nowMs - room.touchedMs >= roomLifetimeMs ? null : room;
  }

  #create(id: string, token: string, from: string, command: Extract<Command, { type: 'create' }>, nowMs: number): Outcome {
    if (this.#rooms.size >= this.#limits.maxRooms) this.sweep(nowMs);
    let fromThisAddress = 0;
    for (const { kept } of this.#rooms.values()) if (kept.createdFrom === from) fromThisAddress += 1;
    if (this.#rooms.size >= this.#limits.maxRooms || fromThisAddress >= this.#limits.maxRoomsPerAddress) {
      return refused('full');
    }
    const lasting = { tokenHash: hashOf(token), createdFrom: from, isReclaimed: command.isReclaim };
    const room: Room = { kept: { ...lasting, ...reign(command, command.term) }, touchedMs: nowMs, leaseEndsMs: nowMs + leaseMs, election: null };
    this.#rooms.set(id, room);
    this.#keeper?.keep(id, room.kept, true);
    return { ok: true, lease: leaseOf(room, nowMs) };
  }
}

/** What a room knows of whoever begins to lead it: nobody is named yet. */
function reign(
  { coordinator, holder, step }: Extract<Command, { type: 'create' | 'takeOver' }>,
  term: number,
): Omit<KeptRoom, 'tokenHash' | 'createdFrom' | 'isReclaimed'> {
  return { coordinator, holderHash: hashOf(holder), term, step, sequence: 0, isReleased: false, successorHash: null };
}

function isGrave(before: KeptRoom, after: KeptRoom): boolean {
  const parts = ['term', 'holderHash', 'isReleased', 'successorHash', 'tokenHash'] as const;
  return parts.some((part) => before[part] !== after[part]);
}

/**
 * One more, unless this directory was restarted and had lost what it kept: it may have granted higher terms than it was told of
 * since. Far beyond them, and by a distance that is the claiming page's own, none is granted twice.
 */
function termAfter({ term, isReclaimed }: KeptRoom, coordinator: string): number {
  return isReclaimed ? term + forgottenTermGap + (sha256(coordinator).readUInt32LE(0) % forgottenTermSpread) : term + 1;
}

interface No {
  readonly refusal: Refusal;
  readonly retryInMs?: number;
}

/** Applies the command to the room, or says why not and leaves the lease as it was. */
function change(room: Room, command: Command, nowMs: number): No | null {
  const { kept } = room;
  switch (command.type) {
    case 'create':
      // A directory that has forgotten may first hear of somebody who led before: the newest leader has the highest term.
      if (!command.isReclaim || command.term <= kept.term) return { refusal: 'exists' };
      return grant(room, { ...kept, ...reign(command, command.term), isReclaimed: true }, nowMs);
    case 'renew': {
      const no = notItsLease(kept, command);
      if (no !== null) return no;
      if (kept.isReleased) return { refusal: 'released' };
      // A request that its sender has given up may lie in a network for seconds. It must not bring an old name back: its
      // owner would take over without the steps that only the new successor has.
      const { coordinator, sequence, successorHash } = command;
      if (sequence < kept.sequence) return { refusal: 'overtaken' };
      // Late renewals count: until somebody takes the room over, its term is still the holder's.
      return grant(room, { ...kept, coordinator, sequence, successorHash, step: Math.max(kept.step, command.step) }, nowMs);
    }
    case 'takeOver': {
      if (command.expectedTerm !== kept.term) return { refusal: 'stale-term' };
      return notItsTurn(room, command, nowMs) ?? grant(room, { ...kept, ...reign(command, termAfter(kept, command.coordinator)) }, nowMs);
    }
    case 'release': {
      const no = notItsLease(kept, command);
      if (no !== null || kept.isReleased) return no;
      room.kept = { ...kept, isReleased: true, step: Math.max(kept.step, command.step) };
      room.leaseEndsMs = nowMs;
      room.election = null;
      return null;
    }
    case 'renewKey': {
      const no = notItsLease(kept, command);
      if (no === null) room.kept = { ...kept, tokenHash: hashOf(command.token) };
      return no;
    }
  }
}

function grant(room: Room, kept: KeptRoom, nowMs: number): null {
  room.kept = kept;
  room.leaseEndsMs = nowMs + leaseMs;
  room.election = null;
  return null;
}

function notItsLease(kept: KeptRoom, { holder, term }: Extract<Command, { type: 'renew' | 'release' | 'renewKey' }>): No | null {
  if (term !== kept.term) return { refusal: 'stale-term' };
  return isHashOf(holder, kept.holderHash) ? null : { refusal: 'held' };
}

/** Whether the claim has to wait: for the lease's end, and then for those who come first. */
function notItsTurn(room: Room, { holder, step, isWarm }: Extract<Command, { type: 'takeOver' }>, nowMs: number): No | null {
  const { kept } = room;
  const { successorHash } = kept;
  // The holder itself may start a new term at once: a reloaded leader needn't wait for its own lease to end. Unless a
  // successor may have steps that its last save lacks; only a release says exactly which the last one was.
  const isCurrent = step >= kept.step;
  if (isHashOf(holder, kept.holderHash) && (successorHash === null || (kept.isReleased && isCurrent))) return null;
  if (room.leaseEndsMs > nowMs) return { refusal: 'held' };
  // Named for what its page keeps in memory. When it was reloaded, it is like everybody else.
  if (isWarm && successorHash !== null && isHashOf(holder, successorHash)) return null;
  room.election ??= new Election();
  const vacancy = {
    endedMs: room.leaseEndsMs,
    end: kept.isReleased ? 'released' : 'ranOut',
    successor: successorHash === null ? 'unnamed' : 'named',
    step: kept.step,
  } as const;
  const retryInMs = room.election.claim({ by: sha256(holder), step }, vacancy, nowMs);
  return retryInMs === 0 ? null : { refusal: 'election', retryInMs };
}

function leaseOf({ kept, leaseEndsMs }: Room, nowMs: number): Lease {
  const { coordinator, term, isReleased, step, successorHash } = kept;
  return { coordinator, term, expiresInMs: Math.max(0, leaseEndsMs - nowMs), isReleased, step, successor: successorHash !== null };
}

function refused(refusal: Refusal): Outcome {
  return { ok: false, refusal, lease: null, retryInMs: null };
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function hashOf(text: string): string {
  return sha256(text).toString('base64url');
}

function isHashOf(text: string, hash: string): boolean {
  return timingSafeEqual(sha256(text), Buffer.from(hash, 'base64url'));
}
