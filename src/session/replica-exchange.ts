/**
 * A member's dealings in replicas: fetches the one that the coordinator has announced, and keeps copies for others when it is
 * asked to. Which replica, and when, the machine says.
 */
import type { PieceCache } from '../checkpoint/piece-cache.ts';
import type { MemberEffect } from '../room/machine.ts';
import type { CoordinatorBlob, PeerId, Step, Subscribe, Term, Want } from '../room/messages.ts';
import type { Connection, ConnectionHandlers } from '../transport/types.ts';
import { hopelessFetchMs } from './piece-fetch.ts';
import { ReplicaShare } from './replica-copies.ts';
import { ReplicaFetch } from './replica-fetch.ts';

type Blob<Kind extends CoordinatorBlob['kind']> = Extract<CoordinatorBlob, { kind: Kind }>;

export interface ReplicaExchangeOptions {
  /** What was fetched before. */
  readonly cache: PieceCache;
  readonly askCoordinator: (want: Want) => void;
  readonly connect: (peer: PeerId, handlers: ConnectionHandlers) => Promise<Connection>;
  readonly nowMs: () => number;
  readonly fetched: (step: Step, bytes: ArrayBuffer) => void;
  readonly failed: (step: Step, reason: string) => void;
  /** Somebody wants updates from this peer. Gives what is to be called when it is gone. */
  readonly subscribed: (connection: Connection, message: Subscribe) => () => void;
}

export class ReplicaExchange {
  readonly #options: ReplicaExchangeOptions;
  readonly #share: ReplicaShare;
  #current: { readonly offer: Blob<'replica'>; readonly sinceMs: number; pieces: ReplicaFetch | null } | null = null;
  /** They may come before what they belong to is taken up. */
  #hashes: { readonly header: Blob<'pieceHashes'>; readonly bytes: ArrayBuffer } | null = null;

  constructor(options: ReplicaExchangeOptions) {
    this.#options = options;
    this.#share = new ReplicaShare(options.nowMs, options.subscribed);
  }

  fetch({ offer }: Extract<MemberEffect, { type: 'loadReplica' }>): void {
    this.#drop();
    this.#current = { offer, sinceMs: this.#options.nowMs(), pieces: null };
    this.#start();
  }

  hashesArrived(header: Blob<'pieceHashes'>, bytes: ArrayBuffer): void {
    this.#hashes = { header, bytes };
    this.#start();
  }

  pieceArrived(header: Blob<'replicaPiece'>, bytes: ArrayBuffer): void {
    if (this.#isCurrent(header)) this.#current?.pieces?.arrived(header.piece, bytes);
  }

  /** The coordinator has no such copy any more. */
  missing(of: { readonly term: Term; readonly step: Step }): void {
    if (this.#isCurrent(of)) this.#current?.pieces?.missing();
  }

  /** The connection to the coordinator is gone. Pieces that arrived are kept for the next attempt. */
  abort(): void {
    this.#hashes = null;
    this.#giveUp('the connection to the coordinator is gone');
  }

  /** `bytes`: of the replica after `step` updates; null when it is not at hand any more. */
  share(term: Term, step: Step, bytes: Promise<ArrayBuffer | null>): void {
    this.#share.keep(term, step, bytes);
  }

  /** For a connection whose key is proved; it may fetch copies, or have updates forwarded. */
  accept(connection: Connection): ConnectionHandlers {
    return this.#share.accept(connection);
  }

  tick(): void {
    this.#share.tick();
    const current = this.#current;
    if (current?.pieces != null) current.pieces.tick();
    else if (current !== null && this.#options.nowMs() - current.sinceMs > hopelessFetchMs) this.#giveUp('the hashes of its pieces did not come');
  }

  close(): void {
    this.#drop();
    this.#share.close();
  }

  #isCurrent({ term, step }: { readonly term: Term; readonly step: Step }): boolean {
    return this.#current?.offer.term === term && this.#current.offer.step === step;
  }

  #giveUp(reason: string): void {
    const current = this.#current;
    this.#drop();
    if (current !== null) this.#options.failed(current.offer.step, reason);
  }

  #drop(): void {
    this.#current?.pieces?.abort();
    this.#current = null;
  }

  /** As soon as offer and hashes are there. */
  #start(): void {
    const current = this.#current;
    const hashes = this.#hashes;
    if (current === null || current.pieces !== null || hashes === null || !this.#isCurrent(hashes.header)) return;
    this.#hashes = null;
    const { offer } = current;
    const over = (): boolean => {
      if (this.#current !== current) return false;
      this.#current = null;
      return true;
    };
    const { cache, askCoordinator, connect, nowMs, fetched, failed } = this.#options;
    try {
      current.pieces = new ReplicaFetch({
        offer,
        hashes: hashes.bytes,
        cache,
        askCoordinator,
        connect,
        nowMs,
        done: (bytes) => {
          if (over()) fetched(offer.step, bytes);
        },
        failed: (reason) => {
          if (over()) failed(offer.step, reason);
        },
      });
      void current.pieces.start();
    } catch (error) {
      if (over()) failed(offer.step, error instanceof Error ? error.message : String(error));
    }
  }
}
