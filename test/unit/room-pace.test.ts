/** Where a step's time goes: what the coordinator measures, what it tells everybody, and what the page says of it. */
import { describe, expect, it } from 'vitest';
import { limitInWords, SentSoFar, togetherInWords } from '../../src/app/step-words.ts';
import { noTimes, paceAfter, slowestOf } from '../../src/room/pace.ts';
import type { Pace, StepTimes } from '../../src/room/pace.ts';
import type { HistoryPoint } from '../../src/room/messages.ts';
import { CoordinatorBench, hashAt, peer, step } from '../room/bench.ts';

const ada = peer('ada');
const bob = peer('bob');

describe('the time of a step', () => {
  /** Began at 1000; all was counted at 1400, and its commit began at 1450. */
  const times = (last: typeof ada, computeMs: number): StepTimes => ({ computeMs: new Map([[last, computeMs]]), last, lastMs: 1_390, wholeMs: 1_400, commitMs: 1_450 });

  it('is the last worker’s computing and way, the wait, and the coordinator’s work', () => {
    expect(paceAfter(null, { times: times(bob, 300), beganAtMs: 1_000 }, ada, 1_500)).toEqual({ computeMs: 300, wayMs: 90, waitMs: 50, applyMs: 60, last: new Map([[bob, 1]]) });
  });

  it('has no way where the coordinator itself was last', () => {
    expect(paceAfter(null, { times: times(ada, 300), beganAtMs: 1_000 }, ada, 1_500)).toMatchObject({ computeMs: 300, wayMs: 0, waitMs: 50, applyMs: 150 });
  });

  it('is never more than passed, whatever a peer says of its computing', () => {
    expect(paceAfter(null, { times: times(bob, 1e12), beganAtMs: 1_000 }, ada, 1_500)).toMatchObject({ computeMs: 390, wayMs: 0 });
  });

  it('is smoothed, and names who is last most often', () => {
    let pace: Pace | null = null;
    for (const last of [bob, bob, ada, bob]) pace = paceAfter(pace, { times: times(last, 300), beganAtMs: 1_000 }, ada, 1_500);
    if (pace === null) throw new Error('there is a pace after a step');
    expect(slowestOf(pace)).toBe(bob);
    expect(pace.wayMs).toBeLessThan(90);
    expect(pace.wayMs).toBeGreaterThan(60);
    expect([...pace.last.values()].reduce((sum, share) => sum + share, 0)).toBeCloseTo(1);
  });

  it('stays as it was after a step that nobody computed', () => {
    expect(paceAfter(null, { times: noTimes, beganAtMs: 0 }, ada, 10)).toBeNull();
  });

  it('reaches everybody with the table of peers, by name', () => {
    const bench = new CoordinatorBench({ leaseUntilMs: Infinity }).join('bob');
    for (let count = 0; count < 6; count += 1) bench.finishStep({ ada: 200, bob: 400 });
    bench.passWith(1_000, 'bob');
    const told = bench.sentTo('bob').findLast((message) => message.type === 'peers');
    expect(told).toMatchObject({ pace: { slowest: 'bob' } });
  });
});

describe('what the page says', () => {
  const pace = { computeMs: 10, wayMs: 10, waitMs: 10, applyMs: 10, slowest: 'Bob' };

  it.each([
    ['computeMs', 2, /^Computing limits this room: Bob is ready last/],
    ['computeMs', 1, /^Computing limits this room: more devices/],
    ['wayMs', 2, /^The network limits this room: weights to Bob/],
    ['applyMs', 2, /^Adding up limits/],
    ['waitMs', 2, /^Keeping steps safe limits/],
  ] as const)('names %s as the limit of %d', (part, workers, words) => {
    expect(limitInWords({ ...pace, [part]: 100 }, { codec: 'fp32', workers })).toMatch(words);
  });

  it('does not offer fewer bits where there are none', () => {
    expect(limitInWords({ ...pace, wayMs: 100 }, { codec: 'int8', workers: 2 })).not.toContain('fewer bits');
    expect(limitInWords({ ...pace, wayMs: 100 }, { codec: 'bf16', workers: 2 })).toContain('fewer bits');
  });

  it('compares the room with this device alone, where there are others', () => {
    const row = { id: ada, name: 'Ada', role: 'coordinator', device: '', isSoftware: false, tokensPerSecond: 100, microbatches: 1, state: 'ready' } as const;
    const other = { ...row, id: bob, role: 'member' } as const;
    expect(togetherInWords({ tokensPerSecond: 250, ownTokensPerSecond: 100, peers: [row, other], role: 'coordinator' })).toBe('2.5 times as fast as you alone');
    expect(togetherInWords({ tokensPerSecond: 80, ownTokensPerSecond: 100, peers: [row, other], role: 'member' })).toBe('slower than you alone, at 80 %');
    expect(togetherInWords({ tokensPerSecond: 80, ownTokensPerSecond: 100, peers: [row], role: 'coordinator' })).toBeNull();
    expect(togetherInWords({ tokensPerSecond: 80, ownTokensPerSecond: 0, peers: [row, other], role: 'watcher' })).toBeNull();
  });

  it('adds up what was sent, also when the history is another one', () => {
    const point = (at: number, bytesUp: number): HistoryPoint => ({ step: step(at), loss: 1, gradNorm: 1, lr: 1, ms: 1, tokens: 1, bytesDown: 2, bytesUp, replicaHash: hashAt(at + 1) });
    const sent = new SentSoFar();
    const points = Array.from({ length: 30 }, (_, at) => point(at, at < 10 ? 100 : 10));
    expect(sent.of(points.slice(0, 5)).inAll).toBe(5 * 102);
    expect(sent.of(points)).toEqual({ upPerStep: 10, downPerStep: 2, inAll: 10 * 102 + 20 * 12 });
    expect(sent.of(points).inAll).toBe(10 * 102 + 20 * 12);
    expect(sent.of(points.slice(0, 3)).inAll, 'gone back to a checkpoint').toBe(3 * 102);
    expect(sent.of([]).inAll).toBe(0);
  });
});
