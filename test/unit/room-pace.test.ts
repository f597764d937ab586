/** Where a step's time goes: what the coordinator measures, what it tells everybody, and what the page says of it. */
import { describe, expect, it } from 'vitest';
import { limitInWords, sentAsInWords, SentSoFar, togetherInWords } from '../../src/app/step-words.ts';
import { nextSentAs, roomCodecs } from '../../src/room/codec-choice.ts';
import type { SentAs } from '../../src/room/codec-choice.ts';
import { composeRun } from '../../src/session/run.ts';
import type { RunSettings } from '../../src/session/types.ts';
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

describe('the codec of a room that may choose', () => {
  const paceOf = (wayMs: number): Pace => ({ computeMs: 1_000 - wayMs, wayMs, waitMs: 0, applyMs: 0, last: new Map() });
  const next = (before: SentAs | null, wayMs: number | null, at: number, hasReceivers = true, codecs = roomCodecs('auto', 1)): SentAs | null =>
    nextSentAs(before, { codecs, pace: wayMs === null ? null : paceOf(wayMs), hasReceivers, step: step(at) });
  const started = (codec: SentAs['codec']): SentAs => ({ codec, why: 'start', wayShare: 0, since: step(0) });

  it('is exact for whoever is alone, and begins with eight bits when somebody comes', () => {
    const alone = next(null, null, 0, false);
    expect(alone).toMatchObject({ codec: 'fp32', why: 'alone' });
    expect(next(alone, null, 1, false)).toBe(alone);
    expect(next(alone, 0, 7)).toEqual({ codec: 'int8', why: 'start', wayShare: 0, since: 7 });
    expect(next(started('int8'), 0, 20, false)).toMatchObject({ codec: 'fp32', why: 'alone' });
  });

  it('is settled before it is changed', () => {
    const before = started('int8');
    expect(next(before, 1, 9)).toBe(before);
    expect(next(before, null, 50)).toBe(before);
    expect(next(before, 1, 10)).toMatchObject({ codec: 'fp32', why: 'quick', wayShare: 0.001, since: 10 });
  });

  it('is exact only where four times the bytes take next to nothing, and no longer than they do', () => {
    expect(next(started('int8'), 20, 50)).toEqual(started('int8'));
    expect(next(started('fp32'), 90, 50)).toEqual(started('fp32'));
    expect(next(started('fp32'), 110, 50)).toMatchObject({ codec: 'int8', why: 'slow', wayShare: 0.11 });
  });

  it('does not go back and forth, whatever the network', () => {
    for (const bytesPerMs of [1, 10, 100, 1_000, 10_000, 100_000]) {
      for (const latencyMs of [0, 1, 20, 200]) {
        for (const localSteps of [1, 30]) {
          const bytes = { fp32: 4e6, bf16: 2e6, int8: 1e6, int2: 27e4 };
          let sentAs: SentAs | null = next(null, null, 0, true, roomCodecs('auto', localSteps));
          const seen: string[] = [];
          for (let at = 1; at < 200; at += 1) {
            const wayMs = latencyMs + bytes[sentAs?.codec ?? 'fp32'] / bytesPerMs;
            const pace: Pace = { computeMs: 1_000, wayMs, waitMs: 5, applyMs: 5, last: new Map() };
            sentAs = nextSentAs(sentAs, { codecs: roomCodecs('auto', localSteps), pace, hasReceivers: true, step: step(at) });
            if (sentAs !== null && seen.at(-1) !== sentAs.codec) seen.push(sentAs.codec);
          }
          expect(new Set(seen).size, `${bytesPerMs} bytes/ms, ${latencyMs} ms: ${seen.join()}`).toBe(seen.length);
        }
      }
    }
  });

  it('takes two bits only with local steps, on links where eight take a third of the time', () => {
    expect(roomCodecs('int8', 30)).toEqual([]);
    const [before, codecs] = [started('int8'), roomCodecs('auto', 30)];
    expect(next(before, 290, 50, true, codecs)).toBe(before);
    expect(next(before, 310, 50, true, codecs)).toMatchObject({ codec: 'int2', why: 'slow' });
    expect(next(before, 900, 50)).toBe(before);
    expect(next(started('int2'), 30, 50, true, codecs)).toMatchObject({ codec: 'int2' });
    expect(next(started('int2'), 20, 50, true, codecs)).toMatchObject({ codec: 'int8', why: 'quick' });
  });

  it('goes with each assignment, and is the update’s too; everybody is told', () => {
    const bench = new CoordinatorBench({ leaseUntilMs: Infinity, codecs: roomCodecs('auto', 1) });
    expect(bench.state.work?.codec).toBe('fp32');
    bench.join('bob').finishStep({ ada: 200, bob: 400 });
    const [given] = bench.of('assign');
    expect(given?.header.codec).toBe('int8');
    const [own, bobs] = ['ada', 'bob'].map((id) => bench.assigned(id)[0]?.id ?? '');
    bench.contribute('bob').added(bobs ?? '').ownResult().added(own ?? '');
    expect(bench.of('commit')).toMatchObject([{ codec: 'int8' }]);
    bench.committed().passWith(1_000, 'bob');
    expect(bench.sentTo('bob').findLast((message) => message.type === 'peers')).toMatchObject({ sentAs: { codec: 'int8', why: 'start' } });
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
    expect(limitInWords({ ...pace, [part]: 100 }, { settings: { codec: 'fp32', localSteps: 1 }, workers })).toMatch(words);
  });

  it.each([
    ['bf16', 1, /would send less\.$/],
    ['int8', 1, /A room with local steps would send less often/],
    ['auto', 1, /A room with local steps would send less often/],
    ['auto', 30, /take most of a step\.$/],
  ] as const)('where the network limits a room in %s with %d local steps, says what would help', (codec, localSteps, words) => {
    expect(limitInWords({ ...pace, wayMs: 100 }, { settings: { codec, localSteps }, workers: 2 })).toMatch(words);
  });

  it('says in which codec the room sends, and why', () => {
    const settings = composeRun({ preset: 'repeated-pattern' }, 'abc'.repeat(100)).description.settings;
    const said = (sentAs: SentAs | null, codec: RunSettings['codec'] = 'auto'): string | null => sentAsInWords({ settings: { ...settings, codec }, sentAs });
    expect(said(null, 'int8')).toBe('8-bit numbers: a quarter of the bytes, as chosen when the room was made');
    expect(said(null)).toBeNull();
    expect(said({ codec: 'fp32', why: 'alone', wayShare: 0, since: step(0) })).toBe('32-bit numbers, exact – there is nobody to send to');
    expect(said({ codec: 'int8', why: 'slow', wayShare: 0.414, since: step(12) })).toBe('8-bit numbers: a quarter of the bytes – since step 12, when the network took 41 % of a step');
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
