/**
 * Who leads each room: one lease per room, with a term that only grows. Every change is a compare-and-set on the term,
 * so that two tabs can't both lead one term. Pure but for its own map: time comes in as an argument, no sockets, no
 * randomness. Holds no weights, no text, no keys: of a room's token and of its holder's secret only hashes are kept.
 */
import { createHash, timingSafeEqual } from 'node:crypto';

/** Three renewals may be lost before a lease ends; a hand-off after a crash waits at most this long. */
export const leaseMs = 10_000;
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
}

interface Room {
  readonly tokenHash: Buffer;
  readonly createdFrom: string;
  holderHash: Buffer;
  coordinator: string;
  term: number;
  leaseEndsMs: number;
  touchedMs: number;
}

/** `token` proves knowledge of the room's key, `holder` being the one who got the lease. */
export type Command =
  | { readonly type: 'create'; readonly coordinator: string; readonly holder: string; readonly term: number }
  | { readonly type: 'renew'; readonly coordinator: string; readonly holder: string; readonly term: number }
  | { readonly type: 'takeOver'; readonly coordinator: string; readonly holder: string; readonly expectedTerm: number }
  | { readonly type: 'release'; readonly holder: string; readonly term: number };

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
  | 'full';

export type Outcome =
  | { readonly ok: true; readonly lease: Lease }
  | { readonly ok: false; readonly refusal: Refusal; readonly lease: Lease | null };

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

  apply(id: string, token: string, from: string, command: Command, nowMs: number): Outcome {
    const room = this.#living(id, nowMs);
    if (room === null) {
      return command.type === 'create' ? this.#create(id, token, from, command, nowMs) : { ok: false, refusal: 'not-found', lease: null };
    }
    if (!timingSafeEqual(room.tokenHash, sha256(token))) return { ok: false, refusal: 'forbidden', lease: null };
    const refusal = change(room, command, nowMs);
    if (refusal !== null) return { ok: false, refusal, lease: leaseOf(room, nowMs) };
    room.touchedMs = nowMs;
    return { ok: true, lease: leaseOf(room, nowMs) };
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
      return { ok: false, refusal: 'full', lease: null };
    }
    const room: Room = {
      tokenHash: sha256(token),
      createdFrom: from,
      holderHash: sha256(command.holder),
      coordinator: command.coordinator,
      term: command.term,
      leaseEndsMs: nowMs + leaseMs,
      touchedMs: nowMs,
    };
    this.#rooms.set(id, room);
    return { ok: true, lease: leaseOf(room, nowMs) };
  }
}

const releasedMs = Number.NEGATIVE_INFINITY;

/** Applies the command to the room, or says why not and leaves the room as it was. */
function change(room: Room, command: Command, nowMs: number): Refusal | null {
  const isHolder = 'holder' in command && timingSafeEqual(room.holderHash, sha256(command.holder));
  switch (command.type) {
    case 'create':
      return 'exists';
    case 'renew':
      if (command.term !== room.term) return 'stale-term';
      if (!isHolder) return 'held';
      if (room.leaseEndsMs === releasedMs) return 'released';
      // Late renewals count: until somebody takes the room over, its term is still the holder's.
      room.coordinator = command.coordinator;
      room.leaseEndsMs = nowMs + leaseMs;
      return null;
    case 'takeOver':
      if (command.expectedTerm !== room.term) return 'stale-term';
      // The holder itself may start a new term at once: a reloaded coordinator needn't wait for its own lease to end.
      if (!isHolder && room.leaseEndsMs > nowMs) return 'held';
      room.coordinator = command.coordinator;
      room.holderHash = sha256(command.holder);
      room.term += 1;
      room.leaseEndsMs = nowMs + leaseMs;
      return null;
    case 'release':
      if (command.term !== room.term) return 'stale-term';
      if (!isHolder) return 'held';
      room.leaseEndsMs = releasedMs;
      return null;
  }
}

function leaseOf(room: Room, nowMs: number): Lease {
  return { coordinator: room.coordinator, term: room.term, expiresInMs: Math.max(0, room.leaseEndsMs - nowMs) };
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
