/**
 * Copies of a replica, cut into pieces, for newcomers who fetch them: what the coordinator announces, and what a member
 * keeps because the coordinator asked it to. Whom to serve is the machine's to say for the coordinator; a member serves
 * whoever has proved the key, within bounds.
 */
import * as v from 'valibot';
import { subscribeSchema, wantSchema } from '../room/messages.ts';
import type { Missing, ReplicaPiece, Step, Subscribe, Term, Want } from '../room/messages.ts';
import type { Connection, ConnectionHandlers } from '../transport/types.ts';

/** Small enough that a piece hardly delays the update behind it. */
export const pieceBytes = 256 * 1024;
export const hashBytes = 32;
/** Newcomers that a member serves at once; more would slow its own work. */
const maxGuests = 8;
/** Of one newcomer; each holds a piece in memory until the network has taken it. */
export const maxOpenWants = 16;
const idleGuestMs = 30_000;
const unusedCopyMs = 60_000;
/** Copies that are kept at once; who fetches an older one is offered a newer. */
const maxCopies = 2;
const maxOffers = 4;

export function pieceCountOf(byteLength: number, bytesPerPiece: number): number {
  return Math.ceil(byteLength / bytesPerPiece);
}

export function pieceOf(bytes: ArrayBuffer, piece: number, bytesPerPiece = pieceBytes): ArrayBuffer | null {
  return piece < pieceCountOf(bytes.byteLength, bytesPerPiece) ? bytes.slice(piece * bytesPerPiece, (piece + 1) * bytesPerPiece) : null;
}

/** SHA-256 of each piece, one after another. */
export async function hashesOf(bytes: ArrayBuffer, bytesPerPiece = pieceBytes): Promise<ArrayBuffer> {
  const pieces = pieceCountOf(bytes.byteLength, bytesPerPiece);
  const hashes = new Uint8Array(pieces * hashBytes);
  for (let piece = 0; piece < pieces; piece += 1) {
    const view = new Uint8Array(bytes, piece * bytesPerPiece, Math.min(bytesPerPiece, bytes.byteLength - piece * bytesPerPiece));
    hashes.set(new Uint8Array(await crypto.subtle.digest('SHA-256', view)), piece * hashBytes);
  }
  return hashes.buffer;
}

interface Copy {
  readonly step: Step;
  /** null: it could not be read. */
  readonly bytes: Promise<ArrayBuffer | null>;
  usedAtMs: number;
}

interface Guest {
  readonly connection: Connection;
  askedAtMs: number;
  openWants: number;
}

/** A member's copies, and those who fetch them. */
export class ReplicaShare {
  readonly #nowMs: () => number;
  /** Somebody wants updates from this peer, and is no guest any more. Gives what is to be called when it is gone. */
  readonly #subscribed: (connection: Connection, message: Subscribe) => () => void;
  #term: Term | null = null;
  #copies: readonly Copy[] = [];
  readonly #guests = new Set<Guest>();

  constructor(nowMs: () => number, subscribed: (connection: Connection, message: Subscribe) => () => void) {
    this.#nowMs = nowMs;
    this.#subscribed = subscribed;
  }

  /** `bytes`: of the replica after `step` updates; null when it is not at hand any more. */
  keep(term: Term, step: Step, bytes: Promise<ArrayBuffer | null>): void {
    const others = this.#term === term ? this.#copies.filter((copy) => copy.step !== step) : [];
    this.#term = term;
    this.#copies = [...others.slice(1 - maxCopies), { step, bytes, usedAtMs: this.#nowMs() }];
  }

  /** For a connection whose key is proved. */
  accept(connection: Connection): ConnectionHandlers {
    const guest: Guest = { connection, askedAtMs: this.#nowMs(), openWants: 0 };
    if (this.#guests.size >= maxGuests) connection.close('this peer serves enough others');
    else this.#guests.add(guest);
    const turnAway = (): void => {
      this.#guests.delete(guest);
      connection.close('this peer does not lead the room');
    };
    let left: (() => void) | null = null;
    return {
      control: (json) => {
        if (!this.#guests.has(guest)) return;
        const subscribe = v.safeParse(subscribeSchema, json);
        if (subscribe.success) {
          this.#guests.delete(guest);
          left = this.#subscribed(connection, subscribe.output);
          return;
        }
        const want = v.safeParse(wantSchema, json);
        if (!want.success || guest.openWants >= maxOpenWants) turnAway();
        else void this.#serve(guest, want.output);
      },
      maxBlobBytes: 0,
      blob: turnAway,
      closed: () => {
        this.#guests.delete(guest);
        left?.();
      },
    };
  }

  tick(): void {
    const nowMs = this.#nowMs();
    this.#copies = this.#copies.filter(({ usedAtMs }) => nowMs - usedAtMs <= unusedCopyMs);
    for (const guest of this.#guests) {
      if (nowMs - guest.askedAtMs <= idleGuestMs) continue;
      this.#guests.delete(guest);
      guest.connection.close('nothing was asked for');
    }
  }

  close(): void {
    for (const { connection } of this.#guests) connection.close('this peer shares nothing any more');
    this.#guests.clear();
    this.#copies = [];
  }

  async #serve(guest: Guest, { term, step, piece }: Want): Promise<void> {
    const { connection } = guest;
    guest.askedAtMs = this.#nowMs();
    guest.openWants += 1;
    const copy = this.#term === term ? this.#copies.find((each) => each.step === step) : undefined;
    if (copy !== undefined) copy.usedAtMs = guest.askedAtMs;
    const whole = await copy?.bytes.catch(() => null);
    const bytes = whole === null || whole === undefined ? null : pieceOf(whole, piece);
    if (bytes === null) {
      const missing: Missing = { type: 'missing', term, step, piece };
      connection.sendControl(missing);
    } else {
      const header: ReplicaPiece = { kind: 'replicaPiece', term, step, piece };
      await connection.sendBlob(header, bytes).catch(() => undefined); // It is gone, and says so itself.
    }
    guest.openWants -= 1;
  }
}

/** A coordinator's copies: one for each step at which newcomers were promised one, for as long as any of them fetches it. */
export class ReplicaOffers {
  readonly #copies = new Map<Step, Promise<{ readonly bytes: ArrayBuffer; readonly hashes: Promise<ArrayBuffer> }>>();

  /** `read` gives the replica as it is after `step` updates; it is asked once for each step. */
  copy(step: Step, read: () => Promise<ArrayBuffer>): Promise<{ readonly bytes: ArrayBuffer; readonly hashes: Promise<ArrayBuffer> }> {
    const known = this.#copies.get(step);
    if (known !== undefined) return known;
    const [oldest] = this.#copies.keys();
    if (oldest !== undefined && this.#copies.size >= maxOffers) this.#copies.delete(oldest);
    const copy = read().then((bytes) => ({ bytes, hashes: hashesOf(bytes) }));
    this.#copies.set(step, copy);
    copy.catch(() => {
      this.#copies.delete(step);
    });
    return copy;
  }

  async piece(step: Step, piece: number): Promise<ArrayBuffer | null> {
    const copy = await this.#copies.get(step)?.catch(() => null);
    return copy === undefined || copy === null ? null : pieceOf(copy.bytes, piece);
  }

  /** `isFetched`: whether anybody still fetches the copy of this step. */
  prune(isFetched: (step: Step) => boolean): void {
    for (const step of this.#copies.keys()) if (!isFetched(step)) this.#copies.delete(step);
  }
}
