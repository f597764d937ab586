/**
 * What is known of the way to each connected peer: direct or relayed, round-trip time, bytes each way. Asks the connections
 * now and then for their statistics, whenever it is called; keeps no timer. Why somebody is not connected is not its to say.
 */
import type { PeerId } from '../room/messages.ts';
import type { Connection, ConnectionStats } from '../transport/types.ts';

const askIntervalMs = 2000;
/** Bytes come in bursts, one or more with every step: a rate that doesn't flicker, and still follows within seconds. */
const smoothingMs = 4000;

/** Null: not known (yet). */
export interface ConnectionRow {
  readonly peer: PeerId;
  readonly path: 'direct' | 'relayed' | null;
  readonly roundTripMs: number | null;
  /** From this page to the peer. */
  readonly bytesPerSecondUp: number | null;
  readonly bytesPerSecondDown: number | null;
}

/** A row, and what the next one's rates are counted from. */
export interface Measurement {
  readonly row: ConnectionRow;
  readonly atMs: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** `before`: of the same connection; null for its first. */
export function measure(before: Measurement | null, peer: PeerId, stats: ConnectionStats, atMs: number): Measurement {
  const { path, roundTripMs, bytesSent, bytesReceived } = stats;
  const elapsedMs = before === null ? 0 : atMs - before.atMs;
  const rateOf = (bytes: number, bytesBefore: number, smoothed: number | null): number | null => {
    if (elapsedMs <= 0) return smoothed;
    const rate = (1000 * (bytes - bytesBefore)) / elapsedMs;
    return smoothed === null ? rate : rate + (smoothed - rate) * Math.exp(-elapsedMs / smoothingMs);
  };
  const bytesPerSecondUp = rateOf(bytesSent, before?.bytesSent ?? 0, before?.row.bytesPerSecondUp ?? null);
  const bytesPerSecondDown = rateOf(bytesReceived, before?.bytesReceived ?? 0, before?.row.bytesPerSecondDown ?? null);
  return { row: { peer, path, roundTripMs, bytesPerSecondUp, bytesPerSecondDown }, atMs, bytesSent, bytesReceived };
}

interface Watched {
  readonly connection: Connection;
  askedAtMs: number;
  isAsking: boolean;
  measurement: Measurement | null;
}

export class ConnectionWatch {
  readonly #nowMs: () => number;
  readonly #watched = new Map<PeerId, Watched>();
  #rows: readonly ConnectionRow[] = [];
  #isChanged = false;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Of these connections, as far as they have answered by now; the same array until something has changed. Call it often. */
  rows(connections: ReadonlyMap<PeerId, Connection>): readonly ConnectionRow[] {
    for (const [peer, { connection }] of this.#watched) {
      if (connections.get(peer) === connection) continue;
      this.#watched.delete(peer);
      this.#isChanged = true;
    }
    for (const [peer, connection] of connections) this.#ask(peer, connection);
    if (this.#isChanged) {
      this.#isChanged = false;
      this.#rows = [...this.#watched.values()].flatMap(({ measurement }) => (measurement === null ? [] : [measurement.row]));
    }
    return this.#rows;
  }

  #ask(peer: PeerId, connection: Connection): void {
    const nowMs = this.#nowMs();
    const watched = this.#watched.get(peer) ?? { connection, askedAtMs: Number.NEGATIVE_INFINITY, isAsking: false, measurement: null };
    this.#watched.set(peer, watched);
    if (watched.isAsking || nowMs - watched.askedAtMs < askIntervalMs) return;
    watched.askedAtMs = nowMs;
    watched.isAsking = true;
    connection.stats().then(
      (stats) => {
        watched.isAsking = false;
        watched.measurement = measure(watched.measurement, peer, stats, this.#nowMs());
        if (this.#watched.get(peer) === watched) this.#isChanged = true;
      },
      () => {
        watched.isAsking = false; // It is asked again, for as long as it is there.
      },
    );
  }
}
