import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PieceFetch, coordinatorSource } from '../../src/session/piece-fetch.ts';

interface Request {
  readonly from: string;
  readonly piece: number;
}

/** A fetch whose sources answer when the test says so. A piece's bytes are its number; anything else is wrong. */
class FetchBench {
  readonly requests: Request[] = [];
  readonly asked: Request[] = [];
  readonly kept: number[] = [];
  readonly closed: string[] = [];
  readonly openings = new Map<string, (isThere: boolean) => void>();
  outcome: string | null = null;
  nowMs = 0;
  readonly fetch: PieceFetch;

  constructor(pieces: number, others: readonly string[] = []) {
    const want = (from: string) => (piece: number) => {
      this.requests.push({ from, piece });
      this.asked.push({ from, piece });
    };
    this.fetch = new PieceFetch(
      {
        missing: Array.from({ length: pieces }, (_, piece) => piece),
        coordinator: { want: want(coordinatorSource) },
        others,
        open: (peer, opened) => {
          this.openings.set(peer, (isThere) => {
            opened(isThere ? { want: want(peer), close: () => this.closed.push(peer) } : null);
          });
        },
        keep: (piece, bytes, verdict) => {
          const isRight = new Uint8Array(bytes)[0] === piece;
          if (isRight) this.kept.push(piece);
          verdict(isRight);
        },
        done: () => {
          this.outcome = 'done';
        },
        failed: (reason) => {
          this.outcome = reason;
        },
      },
      this.nowMs,
    );
    this.fetch.start();
  }

  open(...peers: readonly string[]): this {
    for (const peer of peers) this.openings.get(peer)?.(true);
    return this;
  }

  answer(request: Request, isRight = true): void {
    this.requests.splice(this.requests.indexOf(request), 1);
    this.fetch.arrived(request.from, request.piece, Uint8Array.of(isRight ? request.piece : 255).buffer);
  }

  /** All open requests, as they come. */
  answerAll(): void {
    for (let next = this.requests[0]; next !== undefined; next = this.requests[0]) this.answer(next);
  }

  openAt(from: string): readonly number[] {
    return this.requests.filter((request) => request.from === from).map(({ piece }) => piece);
  }
}

describe('pieces', () => {
  it('come from the coordinator alone where nobody else has a copy, a few at once', () => {
    const bench = new FetchBench(9);
    expect(bench.openAt(coordinatorSource)).toEqual([0, 1, 2, 3]);
    bench.answerAll();
    expect(bench.outcome).toBe('done');
    expect(bench.kept).toHaveLength(9);
  });

  it('are asked of the coordinator one at a time while others serve, who do nearly all of it', () => {
    const bench = new FetchBench(60, ['bob', 'cid']);
    bench.open('bob', 'cid');
    for (const request of [...bench.requests].filter(({ from }) => from === coordinatorSource)) bench.answer(request);
    expect(bench.openAt(coordinatorSource)).toHaveLength(1);
    while (bench.outcome === null) {
      for (const from of ['bob', 'cid']) for (const piece of bench.openAt(from)) bench.answer(bench.requests.find((each) => each.from === from && each.piece === piece) ?? { from, piece });
    }
    expect(bench.outcome).toBe('done');
    expect(bench.asked.filter(({ from }) => from === coordinatorSource).length).toBeLessThan(7);
    expect(bench.closed).toEqual(['bob', 'cid']);
  });

  it('that one source keeps back are fetched from another near the end', () => {
    const bench = new FetchBench(8, ['bob', 'cid']);
    bench.open('bob', 'cid');
    const slow = bench.openAt('bob');
    expect(slow.length).toBeGreaterThan(0);
    for (let next = bench.requests.find(({ from }) => from !== 'bob'); next !== undefined; next = bench.requests.find(({ from }) => from !== 'bob')) bench.answer(next);
    expect(bench.outcome).toBe('done');
  });

  it('that are wrong are fetched again, and nothing more from whoever sent them', () => {
    const bench = new FetchBench(20, ['eve']);
    bench.open('eve');
    const [wrong = -1] = bench.openAt('eve');
    bench.answer(bench.requests.find(({ from }) => from === 'eve') ?? { from: 'eve', piece: wrong }, false);
    expect(bench.closed).toEqual(['eve']);
    expect(bench.kept).not.toContain(wrong);
    for (const request of bench.requests.filter(({ from }) => from === 'eve')) bench.requests.splice(bench.requests.indexOf(request), 1);
    bench.answerAll();
    expect(bench.outcome).toBe('done');
    expect(new Set(bench.kept).size).toBe(20);
  });

  it('are not waited for from somebody who has not answered for seconds', () => {
    const bench = new FetchBench(20, ['bob']);
    bench.open('bob');
    bench.fetch.tick(3_000);
    expect(bench.closed).toEqual([]);
    bench.fetch.tick(4_500);
    expect(bench.closed).toEqual(['bob']);
    for (const request of bench.requests.filter(({ from }) => from === 'bob')) bench.requests.splice(bench.requests.indexOf(request), 1);
    bench.answerAll();
    expect(bench.outcome).toBe('done');
  });

  it('that were not asked for count for nothing', () => {
    const bench = new FetchBench(20, ['eve']);
    bench.open('eve');
    bench.fetch.arrived('eve', 19, Uint8Array.of(19).buffer);
    bench.fetch.arrived('nobody', 0, Uint8Array.of(0).buffer);
    expect(bench.kept).toEqual([]);
  });
});

it('a fetch fails when nobody with a copy is left, and not before', () => {
  const bench = new FetchBench(20, ['bob', 'cid']);
  bench.open('bob');
  bench.fetch.gone(coordinatorSource);
  bench.fetch.gone('bob');
  expect(bench.outcome).toBeNull();
  bench.openings.get('cid')?.(false);
  expect(bench.outcome).toMatch(/nobody who has a copy/);
});

it('a fetch is given up when nothing came for half a minute', () => {
  const bench = new FetchBench(20);
  bench.fetch.tick(25_000);
  bench.answer(bench.requests[0] ?? { from: coordinatorSource, piece: 0 });
  bench.fetch.tick(54_000);
  expect(bench.outcome).toBeNull();
  bench.fetch.tick(56_000);
  expect(bench.outcome).toMatch(/for a long time/);
});

it('nothing missing is done at once, and connects to nobody', () => {
  const bench = new FetchBench(0, ['bob']);
  expect(bench.outcome).toBe('done');
  expect(bench.openings.size).toBe(0);
});

it('after an end nothing is asked or kept any more', () => {
  const bench = new FetchBench(20, ['bob']);
  bench.fetch.abort();
  const asked = bench.asked.length;
  bench.open('bob');
  bench.answerAll();
  expect(bench.closed).toEqual(['bob']);
  expect(bench.asked).toHaveLength(asked);
  expect([bench.kept, bench.outcome]).toEqual([[], null]);
});

it('whatever sources do in whatever order, every piece is kept once as long as the coordinator serves', () => {
  const others = ['bob', 'cid', 'dan'];
  const event = fc.record({ kind: fc.constantFrom('answer', 'answer', 'answer', 'wrong', 'open', 'fail', 'gone', 'tick'), at: fc.nat() });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.array(event, { maxLength: 120 }), (pieces, events) => {
      const bench = new FetchBench(pieces, others);
      const opened = new Set<string>();
      for (const { kind, at } of events) {
        const peer = others[at % others.length] ?? '';
        const request = bench.requests[at % Math.max(1, bench.requests.length)];
        if (kind === 'answer' && request !== undefined) bench.answer(request);
        if (kind === 'wrong' && request !== undefined && request.from !== coordinatorSource) bench.answer(request, false);
        if ((kind === 'open' || kind === 'fail') && !opened.has(peer)) {
          opened.add(peer);
          bench.openings.get(peer)?.(kind === 'open');
        }
        if (kind === 'gone') bench.fetch.gone(peer);
        // Never so long without a piece that the fetch is given up.
        if (kind === 'tick') bench.fetch.tick((bench.nowMs += at % 240));
      }
      bench.answerAll();
      for (const peer of others) bench.fetch.gone(peer);
      bench.answerAll();
      expect(bench.outcome).toBe('done');
      expect([...bench.kept].sort((a, b) => a - b)).toEqual(Array.from({ length: pieces }, (_, piece) => piece));
    }),
    { numRuns: 500 },
  );
});
