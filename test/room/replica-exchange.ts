/** A simulated member's dealings in replicas: fetches them piece by piece from whoever has a copy, and keeps copies for others. */
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import type { ReplicaOffer } from '../../src/room/machine.ts';
import { missingSchema, replicaPieceSchema, subscribeSchema, wantSchema } from '../../src/room/messages.ts';
import type { CoordinatorBlob, Step, Subscribe, Term, Want } from '../../src/room/messages.ts';
import { PieceFetch, coordinatorSource, hopelessFetchMs } from '../../src/session/piece-fetch.ts';
import type { PieceSource } from '../../src/session/piece-fetch.ts';
import { pieceCountOf } from '../../src/session/replica-copies.ts';
import type { End, Handlers } from './network.ts';
import type { Tab } from './tab.ts';

export type PieceHashes = Extract<CoordinatorBlob, { kind: 'pieceHashes' }>;

const hashBytes = 32;

/** So many pieces that several sources have something to do. */
export function simulatedPieceBytes(byteLength: number, pieces = 7): number {
  return Math.max(1, Math.ceil(byteLength / pieces));
}

export function pieceAt(bytes: ArrayBuffer, piece: number, pieceBytes = simulatedPieceBytes(bytes.byteLength)): ArrayBuffer {
  return bytes.slice(piece * pieceBytes, (piece + 1) * pieceBytes);
}

export function hashOf(bytes: ArrayBuffer): string {
  return createHash('sha256').update(new Uint8Array(bytes)).digest('hex');
}

export function hashesOf(bytes: ArrayBuffer, pieceBytes = simulatedPieceBytes(bytes.byteLength)): ArrayBuffer {
  const pieces = pieceCountOf(bytes.byteLength, pieceBytes);
  const hashes = Array.from({ length: pieces }, (_, piece) => hashOf(pieceAt(bytes, piece, pieceBytes)));
  return Uint8Array.from(Buffer.from(hashes.join(''), 'hex')).buffer;
}

interface Options {
  readonly tab: Tab;
  /** Something happens in the tab, unless it is closed or plays another role. */
  readonly enter: (action: () => void) => void;
  readonly askCoordinator: (want: Want) => void;
  readonly fetched: (step: Step, bytes: ArrayBuffer) => void;
  readonly failed: (step: Step) => void;
  /** As the session's. */
  readonly subscribed: (end: End, message: Subscribe) => () => void;
}

export class SimulatedExchange {
  readonly #options: Options;
  #current: { readonly offer: ReplicaOffer; readonly sinceMs: number; fetch: PieceFetch | null; readonly whole: Uint8Array<ArrayBuffer> } | null = null;
  #hashes: { readonly header: PieceHashes; readonly bytes: ArrayBuffer } | null = null;
  readonly #guests = new Set<End>();
  #copy: { readonly term: Term; readonly step: Step; readonly bytes: ArrayBuffer } | null = null;

  constructor(options: Options) {
    this.#options = options;
  }

  fetch(offer: ReplicaOffer): void {
    this.#drop();
    this.#current = { offer, sinceMs: this.#options.tab.nowMs(), fetch: null, whole: new Uint8Array(offer.byteLength) };
    this.#start();
  }

  hashesArrived(header: PieceHashes, bytes: ArrayBuffer): void {
    this.#hashes = { header, bytes };
    this.#start();
  }

  pieceArrived({ term, step, piece }: Extract<CoordinatorBlob, { kind: 'replicaPiece' }>, bytes: ArrayBuffer): void {
    if (this.#isCurrent(term, step)) this.#current?.fetch?.arrived(coordinatorSource, piece, bytes);
  }

  missing({ term, step }: { readonly term: Term; readonly step: Step }): void {
    if (this.#isCurrent(term, step)) this.#current?.fetch?.gone(coordinatorSource);
  }

  abort(): void {
    const current = this.#current;
    this.#drop();
    this.#hashes = null;
    if (current !== null) this.#options.failed(current.offer.step);
  }

  share(term: Term, step: Step, bytes: ArrayBuffer): void {
    this.#copy = { term, step, bytes };
  }

  accept(end: End): Handlers {
    const { enter, subscribed } = this.#options;
    this.#guests.add(end);
    let left: (() => void) | null = null;
    return {
      control: (json) => {
        enter(() => {
          const subscribe = v.safeParse(subscribeSchema, json);
          if (subscribe.success) {
            left ??= subscribed(end, subscribe.output);
            return;
          }
          const want = v.safeParse(wantSchema, json);
          if (!want.success) return end.close();
          const { term, step, piece } = want.output;
          const isThere = this.#copy?.term === term && this.#copy.step === step;
          if (isThere && this.#copy !== null) end.sendBlob({ kind: 'replicaPiece', term, step, piece }, pieceAt(this.#copy.bytes, piece));
          else end.sendControl({ type: 'missing', term, step, piece });
        });
      },
      blob: () => {
        end.close();
      },
      closed: () => {
        this.#guests.delete(end);
        left?.();
      },
    };
  }

  tick(): void {
    const nowMs = this.#options.tab.nowMs();
    if (this.#current?.fetch != null) this.#current.fetch.tick(nowMs);
    else if (this.#current !== null && nowMs - this.#current.sinceMs > hopelessFetchMs) this.abort();
  }

  close(): void {
    this.#drop();
    for (const end of this.#guests) end.close();
    this.#guests.clear();
  }

  #isCurrent(term: Term, step: Step): boolean {
    return this.#current?.offer.term === term && this.#current.offer.step === step;
  }

  #drop(): void {
    this.#current?.fetch?.abort();
    this.#current = null;
  }

  #start(): void {
    const current = this.#current;
    const hashes = this.#hashes;
    if (current === null || current.fetch !== null || hashes === null || !this.#isCurrent(hashes.header.term, hashes.header.step)) return;
    this.#hashes = null;
    const { offer, whole } = current;
    const { tab, askCoordinator, fetched, failed } = this.#options;
    const pieces = pieceCountOf(offer.byteLength, offer.pieceBytes);
    const expected = Buffer.from(hashes.bytes).toString('hex');
    const hashAt = (piece: number): string => expected.slice(2 * piece * hashBytes, 2 * (piece + 1) * hashBytes);
    const put = (piece: number, bytes: ArrayBuffer): boolean => {
      const offset = piece * offer.pieceBytes;
      if (bytes.byteLength !== Math.min(offer.pieceBytes, offer.byteLength - offset) || hashOf(bytes) !== hashAt(piece)) return false;
      whole.set(new Uint8Array(bytes), offset);
      return true;
    };
    const want = (piece: number): Want => ({ type: 'want', term: offer.term, step: offer.step, piece });
    const { pieces: known } = tab.computer;
    const missing = Array.from({ length: pieces }, (_, piece) => piece).filter((piece) => {
      const bytes = known.get(hashAt(piece));
      return bytes === undefined || !put(piece, bytes);
    });
    known.clear();
    const over = (): boolean => {
      if (this.#current !== current) return false;
      this.#current = null;
      return true;
    };
    const fetch = new PieceFetch(
      {
        missing,
        coordinator: { want: (piece) => askCoordinator(want(piece)) },
        others: offer.sources,
        open: (peer, opened) => this.#open(peer, want, opened),
        keep: (piece, bytes, verdict) => {
          const isRight = put(piece, bytes);
          if (isRight) known.set(hashAt(piece), bytes);
          verdict(isRight);
        },
        done: () => {
          if (over()) fetched(offer.step, whole.buffer);
        },
        failed: () => {
          if (over()) failed(offer.step);
        },
      },
      tab.nowMs(),
    );
    current.fetch = fetch;
    fetch.start();
  }

  #open(peer: string, want: (piece: number) => Want, opened: (source: PieceSource | null) => void): void {
    const { tab, enter } = this.#options;
    const fetch = (): PieceFetch | null => this.#current?.fetch ?? null;
    const handlers: Handlers = {
      control: (json) => {
        enter(() => {
          if (v.is(missingSchema, json)) fetch()?.gone(peer);
        });
      },
      blob: (json, bytes) => {
        enter(() => {
          const header = v.safeParse(replicaPieceSchema, json);
          if (header.success && this.#isCurrent(header.output.term, header.output.step)) fetch()?.arrived(peer, header.output.piece, bytes);
          else fetch()?.gone(peer);
        });
      },
      closed: () => {
        enter(() => fetch()?.gone(peer));
      },
    };
    tab.world.network.connect({ machine: tab.name, address: tab.address }, peer, handlers, (end) => {
      if (!tab.isOpen) return end?.close();
      enter(() => {
        opened(end === null ? null : { want: (piece) => end.sendControl(want(piece)), close: () => end.close() });
      });
    });
  }
}
