/**
 * The room's lease in the directory: two ways to get it, and a keeper that holds it for as long as this peer leads. The
 * keeper renews it, says there who is to follow, hands it back, and tells when somebody else leads. While the directory
 * can't be reached the lead goes on; joins and hand-offs wait. When to try for a lease is the session's to decide.
 */
import { DirectoryError } from './directory-client.ts';
import type { Claim, DirectoryClient, Lease } from './directory-client.ts';

/** A quarter of what the directory grants. */
const renewIntervalMs = 1500;
/** What the directory grants (6 s; 2 s when it misses the socket), less by what clocks and ways may differ. */
const reliedOnMs = 5400;
const reliedOnWithoutSocketMs = 1800;
/** For how long a grant of a directory that has forgotten the room is not relied on: somebody may lead it, and stand still for a while. */
const untrustedMs = 30_000;
/** The same where this peer's own lease is alive: as long as anybody else may rely on one that was granted after it. */
const untrustedWhileHeldMs = 6000;

export type ClaimOutcome =
  /** This peer leads under `term`. */
  | { readonly kind: 'led'; readonly term: number }
  /** Somebody else does. The lease may have ended meanwhile: look at `expiresInMs`. */
  | { readonly kind: 'led-by-other'; readonly lease: Lease }
  /** Nobody does, and others come first: ask again after this. */
  | { readonly kind: 'wait'; readonly retryInMs: number }
  /** The directory does not know the room (any more). */
  | { readonly kind: 'forgotten' }
  /** No answer, or too many requests. A room that was never anybody else's may be led all the same: the keeper claims it later. */
  | { readonly kind: 'unreachable' };

/** For a room that the directory does not know. Rejects with a `DirectoryError` when the key is wrong. */
export function createRoom(directory: DirectoryClient, claim: Claim & { readonly term: number }): Promise<ClaimOutcome> {
  return outcomeOf(directory.create({ ...claim, isReclaim: false }), claim.peerId, claim.term);
}

/** For a room whose lease was seen under `expectedTerm`. Rejects with a `DirectoryError` when the key is wrong. */
export function takeOver(directory: DirectoryClient, claim: Claim & { readonly expectedTerm: number; readonly isWarm: boolean }): Promise<ClaimOutcome> {
  return outcomeOf(directory.takeOver(claim), claim.peerId, claim.expectedTerm + 1);
}

async function outcomeOf(asking: Promise<Lease>, peerId: string, term: number): Promise<ClaimOutcome> {
  try {
    return { kind: 'led', term: (await asking).term };
  } catch (error) {
    if (!(error instanceof DirectoryError)) throw error;
    const { kind, lease, retryInMs } = error;
    if (kind === 'not-found') return { kind: 'forgotten' };
    if (kind === 'unreachable' || kind === 'busy') return { kind: 'unreachable' };
    if (kind === 'conflict' && retryInMs !== null) return { kind: 'wait', retryInMs };
    if (kind !== 'conflict' || lease === null) throw error;
    // The very lease that was asked for: it was granted before, and that answer was lost.
    const isOwn = lease.coordinator === peerId && lease.term >= term && lease.expiresInMs > 0;
    return isOwn ? { kind: 'led', term: lease.term } : { kind: 'led-by-other', lease };
  }
}

export interface LeaseOptions {
  readonly directory: DirectoryClient;
  /** This browser's proof that a lease of this room is its own. */
  readonly holder: string;
  /** Where others find this peer; changes when signalling was lost and came back. */
  readonly peerId: () => string;
  /** The newest committed step. */
  readonly step: () => number;
  readonly nowMs: () => number;
  readonly reachable: (isReachable: boolean) => void;
  /** The directory knows now whom `name` named last; told once for each `name`. */
  readonly named: (successorHash: string | null) => void;
  /** `heldUntilMs` has changed. */
  readonly heldUntil: (untilMs: number) => void;
  /** Another peer leads now. */
  readonly deposed: (lease: Lease | null) => void;
}

/** Whom the leader wants to be followed by, and whether the directory has said that it knows. */
interface Wish {
  readonly successorHash: string | null;
  isConfirmed: boolean;
}

/** One that was granted, or is to be claimed as soon as the directory can be reached. */
export interface GrantedLead {
  readonly term: number;
  /** By a directory that had forgotten the room. */
  readonly wasForgotten: boolean;
}

export class LeaseKeeper {
  readonly term: number;
  readonly #options: LeaseOptions;
  /** A lease starts with nobody named. */
  #wish: Wish = { successorHash: null, isConfirmed: true };
  #renewedAtMs = Number.NEGATIVE_INFINITY;
  #renewing = false;
  #renewals = 0;
  #ended = false;
  /** How long ago a lease was granted, its keeper doesn't know: its own first renewal tells. */
  #heldUntilMs = 0;
  /** What was sent to the directory before says nothing for sure. */
  #trustedFromMs = Number.NEGATIVE_INFINITY;

  constructor(options: LeaseOptions, { term, wasForgotten }: GrantedLead) {
    this.#options = options;
    this.term = term;
    if (wasForgotten) this.#distrust(untrustedMs);
  }

  /** Nobody else can have taken the lead before, by the clock `nowMs`. */
  get heldUntilMs(): number {
    return this.#heldUntilMs;
  }

  /** The signalling socket is closed: the directory, which sees it too, ends the lease early unless it is renewed. */
  socketClosed(): void {
    const nowMs = this.#options.nowMs();
    // A renewal that is on its way may come before the directory misses the socket.
    this.#trustedFromMs = Math.max(this.#trustedFromMs, nowMs);
    this.#holdUntil(Math.min(this.#heldUntilMs, nowMs + reliedOnWithoutSocketMs));
  }

  #holdUntil(heldUntilMs: number): void {
    this.#heldUntilMs = heldUntilMs;
    this.#options.heldUntil(heldUntilMs);
  }

  #end(): void {
    this.#ended = true;
    this.#holdUntil(this.#options.nowMs());
  }

  /** Renews when it is time; call it often. */
  tick(): void {
    const nowMs = this.#options.nowMs();
    if (this.#renewing || nowMs - this.#renewedAtMs < renewIntervalMs) return;
    this.#renewedAtMs = nowMs;
    void this.#renew();
  }

  /** Only this one may take over as soon as the lease ends (`holderHash` of its secret; null: nobody). */
  name(successorHash: string | null): void {
    this.#wish = { successorHash, isConfirmed: false };
    void this.#renew();
  }

  /** One renewal at a time, and another one at once when somebody else was named meanwhile. */
  async #renew(): Promise<void> {
    if (this.#renewing || this.#ended) return;
    this.#renewing = true;
    try {
      let sent: Wish;
      do {
        sent = this.#wish;
        await this.#send(sent);
      } while (sent !== this.#wish && !this.#ended);
    } finally {
      this.#renewing = false;
    }
  }

  async #send(wish: Wish): Promise<void> {
    const { directory, nowMs } = this.#options;
    this.#renewals += 1;
    const sentMs = nowMs();
    try {
      await directory.renew({ ...this.#claim(), successorHash: wish.successorHash, sequence: this.#renewals });
      if (this.#ended) return;
      this.#answered(true);
      if (sentMs < this.#trustedFromMs) return;
      this.#holdUntil(sentMs + reliedOnMs);
      if (wish !== this.#wish || wish.isConfirmed) return;
      wish.isConfirmed = true;
      this.#options.named(wish.successorHash);
    } catch (error) {
      if (!(error instanceof DirectoryError)) throw error;
      const isForgotten = error.kind === 'not-found' || (error.lease !== null && error.lease.term < this.term);
      if (isForgotten) await this.#createAgain(nowMs() < this.#heldUntilMs ? untrustedWhileHeldMs : untrustedMs);
      else this.#refused(error);
    }
  }

  /** The directory forgot the room (it was restarted). Whom it shall name it hears with the next renewal. */
  async #createAgain(distrustMs: number): Promise<void> {
    if (this.#ended) return;
    try {
      await this.#options.directory.create({ ...this.#claim(), isReclaim: true });
      this.#distrust(distrustMs);
      this.#answered(true);
    } catch (error) {
      if (!(error instanceof DirectoryError)) throw error;
      this.#refused(error);
    }
  }

  /** Somebody with a higher term may still come forward, whom this directory has forgotten too. */
  #distrust(durationMs: number): void {
    this.#trustedFromMs = this.#options.nowMs() + durationMs;
  }

  #claim(): Claim & { readonly term: number } {
    const { peerId, holder, step } = this.#options;
    return { peerId: peerId(), holder, term: this.term, step: step() };
  }

  #refused(error: DirectoryError): void {
    if (error.kind === 'conflict') this.#lose(error.lease);
    else if (error.kind === 'forbidden') this.#lose(null);
    else this.#answered(false);
  }

  #answered(isReachable: boolean): void {
    if (!this.#ended) this.#options.reachable(isReachable);
  }

  #lose(lease: Lease | null): void {
    if (this.#ended) return;
    this.#end();
    this.#options.deposed(lease);
  }

  /** Hands the lease back, so that a successor need not wait for it to run out. */
  get isReleased(): boolean {
    return this.#ended;
  }

  async release(): Promise<void> {
    if (this.#ended) return;
    this.#end();
    const { directory, holder, step } = this.#options;
    try {
      await directory.release({ holder, term: this.term, step: step() });
    } catch {
      // It runs out by itself.
    }
  }
}
