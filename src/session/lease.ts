/**
 * Holds the room's lease in the directory for as long as this peer leads: takes it, renews it, hands it back, and says
 * when somebody else holds a higher term. While the directory can't be reached the lead goes on; joins wait.
 */
import { DirectoryError } from './directory-client.ts';
import type { DirectoryClient, Lease } from './directory-client.ts';

const renewIntervalMs = 3000;

export interface LeaseOptions {
  readonly directory: DirectoryClient;
  /** This browser's proof that a lease of this room is its own. */
  readonly holder: string;
  /** The peer id at the signalling server; changes when signalling was lost and came back. */
  readonly peerId: () => string | null;
  readonly reachable: (isReachable: boolean) => void;
  /** Another peer leads now. */
  readonly deposed: (lease: Lease | null) => void;
}

export class LeaseKeeper {
  readonly #options: LeaseOptions;
  #term = 0;
  #renewedAtMs = 0;
  #renewing = false;
  #ended = false;

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  get term(): number {
    return this.#term;
  }

  /**
   * Becomes the room's coordinator with a term above `lastTerm` (0: the room is new). Returns the lease of whoever leads instead, or null on
   * success. When the directory can't be reached, takes the next term and claims it when the directory is back.
   */
  async acquire(peerId: string, lastTerm: number): Promise<Lease | null> {
    const { directory, holder } = this.#options;
    try {
      // A room that was just made up is in no directory.
      const current = lastTerm === 0 ? null : await directory.lookUp();
      const lease =
        current === null
          ? await directory.create(peerId, holder, lastTerm + 1)
          : await directory.takeOver(peerId, current.term, holder);
      this.#term = lease.term;
      this.#renewedAtMs = performance.now();
      this.#options.reachable(true);
      return null;
    } catch (error) {
      if (!(error instanceof DirectoryError)) throw error;
      if (error.kind === 'conflict' && error.lease !== null) return error.lease;
      if (error.kind !== 'unreachable' && error.kind !== 'busy') throw error;
      this.#term = lastTerm + 1;
      this.#options.reachable(false);
      return null;
    }
  }

  /** Renews when it is time; call it often. */
  tick(nowMs: number): void {
    if (this.#ended || this.#renewing || nowMs - this.#renewedAtMs < renewIntervalMs) return;
    this.#renewedAtMs = nowMs;
    void this.#renew();
  }

  async #renew(): Promise<void> {
    const { directory, holder, reachable } = this.#options;
    const peerId = this.#options.peerId();
    if (peerId === null) return;
    this.#renewing = true;
    try {
      await directory.renew(peerId, this.#term, holder);
      reachable(true);
    } catch (error) {
      if (!(error instanceof DirectoryError)) throw error;
      if (error.kind === 'not-found') await this.#claimAgain(peerId);
      else if (error.kind === 'conflict') this.#lose(error.lease);
      else if (error.kind === 'forbidden') this.#lose(null);
      else reachable(false);
    } finally {
      this.#renewing = false;
    }
  }

  /** The directory forgot the room (it was restarted). */
  async #claimAgain(peerId: string): Promise<void> {
    try {
      await this.#options.directory.create(peerId, this.#options.holder, this.#term);
      this.#options.reachable(true);
    } catch (error) {
      if (error instanceof DirectoryError && error.kind === 'conflict') this.#lose(error.lease);
      else this.#options.reachable(false);
    }
  }

  #lose(lease: Lease | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.deposed(lease);
  }

  /** Hands the lease back, so that a successor need not wait for it to run out. */
  async release(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    try {
      await this.#options.directory.release(this.#term, this.#options.holder);
    } catch {
      // It runs out by itself.
    }
  }
}
