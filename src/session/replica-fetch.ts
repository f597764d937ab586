/**
 * Puts a replica together from pieces: those this browser still has, and those it fetches from the coordinator and from
 * members with a copy. Each is checked against its announced hash. Of whom a piece is asked is `piece-fetch.ts`.
 */
import * as v from 'valibot';
import type { PieceCache } from '../checkpoint/piece-cache.ts';
import type { ReplicaOffer } from '../room/machine.ts';
import { missingSchema, replicaPieceSchema } from '../room/messages.ts';
import type { PeerId, Want } from '../room/messages.ts';
import type { Connection, ConnectionHandlers } from '../transport/types.ts';
import { PieceFetch, coordinatorSource } from './piece-fetch.ts';
import type { PieceSource } from './piece-fetch.ts';
import { hashBytes, pieceCountOf } from './replica-copies.ts';

export interface ReplicaFetchOptions {
  readonly offer: ReplicaOffer;
  /** As the coordinator sent them. */
  readonly hashes: ArrayBuffer;
  readonly cache: PieceCache;
  readonly askCoordinator: (want: Want) => void;
  readonly connect: (peer: PeerId, handlers: ConnectionHandlers) => Promise<Connection>;
  readonly nowMs: () => number;
  readonly done: (bytes: ArrayBuffer) => void;
  readonly failed: (reason: string) => void;
}

/** What a connection takes as one blob; no replica that fits a browser's GPU is larger. */
const maxReplicaBytes = 2 ** 31;
const maxPieces = 65_536;

export class ReplicaFetch {
  readonly #options: ReplicaFetchOptions;
  readonly #hashes: readonly string[];
  readonly #whole: Uint8Array<ArrayBuffer>;
  #fetch: PieceFetch | null = null;
  #isOver = false;

  /** Throws `RangeError` when what was announced can't be right, or there is no memory for it. */
  constructor(options: ReplicaFetchOptions) {
    this.#options = options;
    const { byteLength, pieceBytes } = options.offer;
    const pieces = pieceCountOf(byteLength, pieceBytes);
    const isPlausible = byteLength <= maxReplicaBytes && pieces <= maxPieces && options.hashes.byteLength === pieces * hashBytes;
    if (!isPlausible) throw new RangeError(`weights of ${byteLength} bytes in ${pieces} pieces were announced with ${options.hashes.byteLength} bytes of hashes`);
    this.#hashes = Array.from({ length: pieces }, (_, piece) => hex(new Uint8Array(options.hashes, piece * hashBytes, hashBytes)));
    this.#whole = new Uint8Array(byteLength);
  }

  async start(): Promise<void> {
    const { cache, offer, nowMs, done, failed, askCoordinator } = this.#options;
    const missing = new Set(this.#hashes.keys());
    const known = await cache.known(this.#hashes);
    for (const [piece, hash] of this.#hashes.entries()) {
      const bytes = known.get(hash);
      if (bytes !== undefined && (await this.#put(piece, bytes))) missing.delete(piece);
    }
    if (this.#isOver) return;
    const want = (piece: number): Want => ({ type: 'want', term: offer.term, step: offer.step, piece });
    this.#fetch = new PieceFetch(
      {
        missing: [...missing],
        coordinator: {
          want: (piece) => {
            askCoordinator(want(piece));
          },
        },
        others: offer.sources,
        open: (peer, opened) => {
          this.#connect(peer, want, opened);
        },
        keep: (piece, bytes, verdict) => {
          void this.#put(piece, bytes).then((isRight) => {
            const hash = this.#hashes[piece];
            if (isRight && hash !== undefined) cache.keep(hash, bytes);
            verdict(isRight);
          });
        },
        done: () => {
          done(this.#whole.buffer);
        },
        failed,
      },
      nowMs(),
    );
    this.#fetch.start();
  }

  /** From the coordinator. */
  arrived(piece: number, bytes: ArrayBuffer): void {
    this.#fetch?.arrived(coordinatorSource, piece, bytes);
  }

  /** The coordinator has no such copy any more. */
  missing(): void {
    this.#fetch?.gone(coordinatorSource);
  }

  tick(): void {
    this.#fetch?.tick(this.#options.nowMs());
  }

  abort(): void {
    this.#isOver = true;
    this.#fetch?.abort();
  }

  #connect(peer: string, want: (piece: number) => Want, opened: (source: PieceSource | null) => void): void {
    const { offer, connect } = this.#options;
    const isOurs = (of: { readonly term: number; readonly step: number }): boolean => of.term === offer.term && of.step === offer.step;
    const lost = (): void => {
      this.#fetch?.gone(peer);
    };
    connect(peer as PeerId, {
      maxBlobBytes: offer.pieceBytes,
      control: (json) => {
        if (v.is(missingSchema, json)) lost();
      },
      blob: (json, bytes) => {
        const header = v.safeParse(replicaPieceSchema, json);
        if (header.success && isOurs(header.output)) this.#fetch?.arrived(peer, header.output.piece, bytes);
        else lost();
      },
      closed: lost,
    }).then(
      (connection) => {
        opened({
          want: (piece) => {
            connection.sendControl(want(piece));
          },
          close: () => {
            connection.close('the weights are there');
          },
        });
      },
      () => {
        opened(null);
      },
    );
  }

  async #put(piece: number, bytes: ArrayBuffer): Promise<boolean> {
    const { pieceBytes, byteLength } = this.#options.offer;
    const offset = piece * pieceBytes;
    if (bytes.byteLength !== Math.min(pieceBytes, byteLength - offset)) return false;
    const hash = await hexOfHash(bytes);
    if (hash !== this.#hashes[piece]) return false;
    this.#whole.set(new Uint8Array(bytes), offset);
    return true;
  }
}

/** SHA-256. */
export async function hexOfHash(bytes: ArrayBuffer): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)));
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
