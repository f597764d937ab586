/**
 * Who leads each room: one lease per room, with a term that only grows. Every change is a compare-and-set on the term,
 * so that two tabs can't both lead one term. Who of several may take over an ended lease is `election.ts`. Pure but for
 * its own map: time comes in as an argument, no sockets, no randomness. Holds no weights, no text, no keys: of a room's
 * token and of its holder's secret only hashes are kept.
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

interface Room {
  tokenHash: Buffer;
  readonly createdFrom: string;
  touchedMs: number;
  coordinator: string;
  holderHash: Buffer;
  /** Somebody who led it told this directory of it: it was restarted since the room was made. */
  isReclaimed: boolean;
  term: number;
  step: number;
  /** Of its newest renewal. */
  sequence: number;
  leaseEndsMs: number;
  isReleased: boolean;
  /** Hash of the holder's secret of whoever is to follow. */
  successorHash: Uint8Array | null;
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

  constructor(limits: DirectoryLimits = defaultLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#rooms.size;
  }

  lookUp(id: string, nowMs: number): Lease | null {
    const room = this.#living(id, nowMs);
    return room === null ? null : leaseOf(room, nowMs);
  }

  /** `token` proves knowledge of the room's key. */
  apply(id: string, token: string, from: string, command: Command, nowMs: number): Outcome {
    const room = this.#living(id, nowMs);
    if (room === null) return command.type === 'create' ? this.#create(id, token, from, command, nowMs) : refused('not-found');
    if (!timingSafeEqual(room.tokenHash, sha256(token))) return refused('forbidden');
    const no = change(room, command, nowMs);
    if (no !== null) return { ok: false, lease: leaseOf(room, nowMs), retryInMs: null, ...no };
    room.touchedMs = nowMs;
    return { ok: true, lease: leaseOf(room, nowMs) };
  }

  /** This peer's signalling socket closed. Renewals go another way: whoever only lost that socket leads on. */
  socketClosed(peerId: string, nowMs: number): void {
    for (const room of this.#rooms.values()) {
      if (room.coordinator === peerId) room.leaseEndsMs = Math.min(room.leaseEndsMs, nowMs + leaseWithoutSocketMs);
    }
  }

  /** Forgets rooms that nobody has touched for a day. */
  sweep(nowMs: number): void {
    for (const [id, room] of this.#rooms) if (nowMs - room.touchedMs >= roomLifetimeMs) this.#rooms.delete(id);
  }

  #living(id: string, nowMs: number): Room | null {
    const room = this.#rooms.get(id);
    return room === undefined || nowMs - room.touchedMs >= roomLifetimeMs ? null : room;
  }

  #create(id: string, token: string, from: string, command: Extract<Command, { type: 'create' }>, nowMs: number): Outcome {
    if (this.#rooms.size >= this.#limits.maxRooms) this.sweep(nowMs);
    let fromThisAddress = 0;
    for (const room of this.#rooms.values()) if (room.createdFrom === from) fromThisAddress += 1;
    if (this.#rooms.size >= this.#limits.maxRooms || fromThisAddress >= this.#limits.maxRoomsPerAddress) {
      return refused('full');
    }
    const room: Room = {
      tokenHash: sha256(token),
      createdFrom: from,
      touchedMs: nowMs,
      isReclaimed: command.isReclaim,
      ...reign(command, command.term, nowMs),
    };
    this.#rooms.set(id, room);
    return { ok: true, lease: leaseOf(room, nowMs) };
  }
}

/** What a room knows of whoever begins to lead it: nobody is named yet, and nobody else asks. */
function reign(
  { coordinator, holder, step }: Extract<Command, { type: 'create' | 'takeOver' }>,
  term: number,
  nowMs: number,
): Omit<Room, 'tokenHash' | 'createdFrom' | 'touchedMs' | 'isReclaimed'> {
  return {
    coordinator,
    holderHash: sha256(holder),
    term,
    step,
    sequence: 0,
    leaseEndsMs: nowMs + leaseMs,
    isReleased: false,
    successorHash: null,
    election: null,
  };
}

/**
 * One more, unless this directory was restarted: it may have granted higher terms than it was told of since. Far beyond them,
 * and by the claimant's own distance, none is granted twice.
 */
function termAfter({ term, isReclaimed }: Room, holder: string): number {
  return isReclaimed ? term + forgottenTermGap + (sha256(holder).readUInt32LE(0) % forgottenTermSpread) : term + 1;
}

interface No {
  readonly refusal: Refusal;
  readonly retryInMs?: number;
}

/** Applies the command to the room, or says why not and leaves the lease as it was. */
function change(room: Room, command: Command, nowMs: number): No | null {
  switch (command.type) {
    case 'create':
      // A directory that was restarted may first hear of somebody who led before: the newest leader has the highest term.
      if (!command.isReclaim || command.term <= room.term) return { refusal: 'exists' };
      Object.assign(room, reign(command, command.term, nowMs));
      room.isReclaimed = true;
      return null;
    case 'renew': {
      const no = notItsLease(room, command);
      if (no !== null) return no;
      if (room.isReleased) return { refusal: 'released' };
      // A request that its sender has given up may lie in a network for seconds. It must not bring an old name back: its
      // owner would take over without the steps that only the new successor has.
      if (command.sequence < room.sequence) return { refusal: 'overtaken' };
      room.sequence = command.sequence;
      // Late renewals count: until somebody takes the room over, its term is still the holder's.
      room.coordinator = command.coordinator;
      room.leaseEndsMs = nowMs + leaseMs;
      room.step = Math.max(room.step, command.step);
      // A copy of its own: a small buffer made from a string is a view that keeps a pool of 8 KiB alive.
      room.successorHash = command.successorHash === null ? null : Uint8Array.from(Buffer.from(command.successorHash, 'base64url'));
      room.election = null;
      return null;
    }
    case 'takeOver': {
      if (command.expectedTerm !== room.term) return { refusal: 'stale-term' };
      const no = notItsTurn(room, command, nowMs);
      if (no === null) Object.assign(room, reign(command, termAfter(room, command.holder), nowMs));
      return no;
    }
    case 'release': {
      const no = notItsLease(room, command);
      if (no !== null || room.isReleased) return no;
      room.leaseEndsMs = nowMs;
      room.isReleased = true;
      room.step = Math.max(room.step, command.step);
      room.election = null;
      return null;
    }
    case 'renewKey': {
      const no = notItsLease(room, command);
      if (no === null) room.tokenHash = sha256(command.token);
      return no;
    }
  }
}

function notItsLease(room: Room, { holder, term }: Extract<Command, { type: 'renew' | 'release' | 'renewKey' }>): No | null {
  if (term !== room.term) return { refusal: 'stale-term' };
  return timingSafeEqual(room.holderHash, sha256(holder)) ? null : { refusal: 'held' };
}

/** Whether the claim has to wait: for the lease's end, and then for those who come first. */
function notItsTurn(room: Room, { holder, step, isWarm }: Extract<Command, { type: 'takeOver' }>, nowMs: number): No | null {
  const by = sha256(holder);
  const { successorHash } = room;
  // The holder itself may start a new term at once: a reloaded leader needn't wait for its own lease to end. Unless a
  // successor may have steps that its last save lacks; only a release says exactly which the last one was.
  const isCurrent = step >= room.step;
  if (timingSafeEqual(room.holderHash, by) && (successorHash === null || (room.isReleased && isCurrent))) return null;
  if (room.leaseEndsMs > nowMs) return { refusal: 'held' };
  // Named for what its page keeps in memory. When it was reloaded, it is like everybody else.
  if (isWarm && successorHash !== null && timingSafeEqual(successorHash, by)) return null;
  room.election ??= new Election();
  const vacancy = {
    endedMs: room.leaseEndsMs,
    end: room.isReleased ? 'released' : 'ranOut',
    successor: successorHash === null ? 'unnamed' : 'named',
    step: room.step,
  } as const;
  const retryInMs = room.election.claim({ by, step }, vacancy, nowMs);
  return retryInMs === 0 ? null : { refusal: 'election', retryInMs };
}

function leaseOf(room: Room, nowMs: number): Lease {
  const { coordinator, term, leaseEndsMs, isReleased, step, successorHash } = room;
  return { coordinator, term, expiresInMs: Math.max(0, leaseEndsMs - nowMs), isReleased, step, successor: successorHash !== null };
}

function refused(refusal: Refusal): Outcome {
  return { ok: false, refusal, lease: null, retryInMs: null };
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
