/** What the page knows of the way to each peer: asked for at the right time, of the right connection, in steady rates. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PeerId } from '../../src/room/messages.ts';
import { ConnectionWatch, measure } from '../../src/session/connections.ts';
import type { ConnectionRow, Measurement } from '../../src/session/connections.ts';
import type { Connection, ConnectionStats } from '../../src/transport/types.ts';

const ada = 'ada' as PeerId;
const ben = 'ben' as PeerId;

function statsOf(bytesSent: number, bytesReceived: number, more: Partial<ConnectionStats> = {}): ConnectionStats {
  return { bytesSent, bytesReceived, sendBytesPerSecond: null, path: 'direct', roundTripMs: 12, connections: 1, ...more };
}

/** The rows that come of one reading after another. */
function rowsOf(readings: readonly { readonly atMs: number; readonly stats: ConnectionStats }[]): ConnectionRow[] {
  let last: Measurement | null = null;
  return readings.map(({ atMs, stats }) => {
    last = measure(last, ada, stats, atMs);
    return last.row;
  });
}

describe('a connection’s row', () => {
  it('has path and round-trip time from the first reading on, and rates from the second', () => {
    const rows = rowsOf([
      { atMs: 1000, stats: statsOf(5e6, 7e6) },
      { atMs: 3000, stats: statsOf(5e6 + 2000, 7e6 + 6000, { path: 'relayed', roundTripMs: 80 }) },
      { atMs: 5000, stats: statsOf(5e6 + 4000, 7e6 + 12_000, { path: null, roundTripMs: null }) },
    ]);
    expect(rows).toEqual([
      { peer: ada, path: 'direct', roundTripMs: 12, bytesPerSecondUp: null, bytesPerSecondDown: null },
      { peer: ada, path: 'relayed', roundTripMs: 80, bytesPerSecondUp: 1000, bytesPerSecondDown: 3000 },
      { peer: ada, path: null, roundTripMs: null, bytesPerSecondUp: 1000, bytesPerSecondDown: 3000 },
    ]);
  });

  it('keeps its rates when no time has passed since the last reading', () => {
    const rows = rowsOf([
      { atMs: 0, stats: statsOf(0, 0) },
      { atMs: 2000, stats: statsOf(2000, 0) },
      { atMs: 2000, stats: statsOf(9000, 0) },
    ]);
    expect(rows[2]).toEqual(rows[1]);
  });

  it('goes 63 % of the way to a new rate in 4 s, however often it is read', () => {
    for (const everyMs of [500, 2000, 4000]) {
      const readings = [{ atMs: -everyMs, stats: statsOf(0, 0) }];
      for (let atMs = 0; atMs <= 4000; atMs += everyMs) readings.push({ atMs, stats: statsOf(atMs, 0) });
      expect(rowsOf(readings).at(-1)?.bytesPerSecondUp, `every ${everyMs} ms`).toBeCloseTo(1000 * (1 - Math.exp(-1)), 9);
    }
  });

  it('has no rate below or above all that were read', () => {
    const bursts = fc.array(fc.record({ afterMs: fc.integer({ min: 1, max: 60_000 }), bytes: fc.nat(1e9) }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(bursts, (bursts) => {
        let atMs = 0;
        let sent = 0;
        const readings = [{ atMs, stats: statsOf(0, 0) }];
        for (const { afterMs, bytes } of bursts) {
          atMs += afterMs;
          sent += bytes;
          readings.push({ atMs, stats: statsOf(sent, 0) });
        }
        const read = bursts.map(({ afterMs, bytes }) => (1000 * bytes) / afterMs);
        const last = rowsOf(readings).at(-1);
        expect(last?.bytesPerSecondUp).toBeGreaterThanOrEqual(Math.min(...read) * (1 - 1e-9));
        expect(last?.bytesPerSecondUp).toBeLessThanOrEqual(Math.max(...read) * (1 + 1e-9));
        expect(last?.bytesPerSecondDown).toBe(0);
      }),
    );
  });
});

interface FakeConnection extends Connection {
  /** One for each time that it was asked, oldest first. */
  readonly asked: { readonly answer: (stats: ConnectionStats) => Promise<void>; readonly fail: () => Promise<void> }[];
}

/** Whoever asked comes to an end with the answer before the test goes on. */
function heard(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function fakeConnection(remoteId: PeerId): FakeConnection {
  const asked: FakeConnection['asked'] = [];
  return {
    remoteId,
    asked,
    sendControl: () => undefined,
    sendBlob: async () => undefined,
    close: () => undefined,
    stats: () =>
      new Promise((resolve, reject) => {
        asked.push({
          answer: async (stats) => {
            resolve(stats);
            await heard();
          },
          fail: async () => {
            reject(new Error('the statistics are gone'));
            await heard();
          },
        });
      }),
  };
}

describe('the watch over connections', () => {
  const clock = { nowMs: 0 };
  const start = (): ConnectionWatch => {
    clock.nowMs = 1e6;
    return new ConnectionWatch(() => clock.nowMs);
  };

  it('asks each connection at once, and again 2 s later and not before', async () => {
    const watch = start();
    const [toAda, toBen] = [fakeConnection(ada), fakeConnection(ben)];
    expect(watch.rows(new Map([[ada, toAda]]))).toEqual([]);
    clock.nowMs += 500;
    const both = new Map([[ada, toAda], [ben, toBen]]);
    watch.rows(both);
    expect([toAda.asked.length, toBen.asked.length]).toEqual([1, 1]);
    for (const { asked } of both.values()) await asked[0]?.answer(statsOf(0, 0));
    clock.nowMs += 1499;
    watch.rows(both);
    expect([toAda.asked.length, toBen.asked.length]).toEqual([1, 1]);
    clock.nowMs += 1;
    watch.rows(both);
    expect([toAda.asked.length, toBen.asked.length]).toEqual([2, 1]);
    expect(watch.rows(both).map(({ peer }) => peer)).toEqual([ada, ben]);
  });

  it('counts rates over the time between answers, not between questions', async () => {
    const watch = start();
    const toAda = fakeConnection(ada);
    const connections = new Map([[ada, toAda]]);
    watch.rows(connections);
    clock.nowMs += 1000;
    await toAda.asked[0]?.answer(statsOf(0, 0));
    clock.nowMs += 1000;
    watch.rows(connections);
    await toAda.asked[1]?.answer(statsOf(500, 1500));
    expect(watch.rows(connections)).toMatchObject([{ bytesPerSecondUp: 500, bytesPerSecondDown: 1500 }]);
  });

  it('gives the same rows until something has changed', async () => {
    const watch = start();
    const toAda = fakeConnection(ada);
    const connections = new Map([[ada, toAda]]);
    const none = watch.rows(connections);
    expect(watch.rows(connections)).toBe(none);
    await toAda.asked[0]?.answer(statsOf(0, 0));
    const one = watch.rows(connections);
    expect(one).toHaveLength(1);
    expect(watch.rows(connections)).toBe(one);
  });

  it('waits for an answer before it asks again, and for nobody else’s', async () => {
    const watch = start();
    const [toAda, toBen] = [fakeConnection(ada), fakeConnection(ben)];
    const connections = new Map([[ada, toAda], [ben, toBen]]);
    watch.rows(connections);
    await toBen.asked[0]?.answer(statsOf(0, 0));
    clock.nowMs += 10_000;
    expect(watch.rows(connections)).toMatchObject([{ peer: ben }]);
    expect([toAda.asked.length, toBen.asked.length]).toEqual([1, 2]);
  });

  it('asks again where there was no answer, and keeps what it knew', async () => {
    const watch = start();
    const toAda = fakeConnection(ada);
    const connections = new Map([[ada, toAda]]);
    watch.rows(connections);
    await toAda.asked[0]?.answer(statsOf(0, 0));
    clock.nowMs += 2000;
    watch.rows(connections);
    await toAda.asked[1]?.fail();
    expect(watch.rows(connections)).toMatchObject([{ peer: ada, path: 'direct' }]);
    clock.nowMs += 2000;
    watch.rows(connections);
    expect(toAda.asked).toHaveLength(3);
  });

  it('forgets a connection as soon as it is gone, and what it answers later', async () => {
    const watch = start();
    const toAda = fakeConnection(ada);
    const connections = new Map([[ada, toAda]]);
    watch.rows(connections);
    await toAda.asked[0]?.answer(statsOf(0, 0));
    clock.nowMs += 2000;
    expect(watch.rows(connections)).toHaveLength(1);
    const none = watch.rows(new Map());
    expect(none).toEqual([]);
    await toAda.asked[1]?.answer(statsOf(0, 0));
    expect(watch.rows(new Map())).toBe(none);
  });

  it('begins anew when a peer is connected anew, whose bytes are counted from nothing', async () => {
    const watch = start();
    const [before, after] = [fakeConnection(ada), fakeConnection(ada)];
    watch.rows(new Map([[ada, before]]));
    await before.asked[0]?.answer(statsOf(9e6, 9e6));
    clock.nowMs += 2000;
    watch.rows(new Map([[ada, before]]));
    clock.nowMs += 100;
    expect(watch.rows(new Map([[ada, after]]))).toEqual([]);
    await before.asked[1]?.answer(statsOf(9e6, 9e6));
    await after.asked[0]?.answer(statsOf(10, 10));
    expect(watch.rows(new Map([[ada, after]]))).toMatchObject([{ bytesPerSecondUp: null, bytesPerSecondDown: null }]);
    clock.nowMs += 2000;
    watch.rows(new Map([[ada, after]]));
    await after.asked[1]?.answer(statsOf(2010, 10));
    expect(watch.rows(new Map([[ada, after]]))).toMatchObject([{ bytesPerSecondUp: 1000, bytesPerSecondDown: 0 }]);
  });
});
