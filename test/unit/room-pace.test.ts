/** Where a step's time goes: what the coordinator measures, what it tells everybody, and what the page says of it. */
import { describe, expect, it } from 'vitest';
import { byCharacter } from '../../src/data/tokenized-text.ts';
import { limitInWords, sentAsInWords, SentSoFar, togetherInWords } from '../../src/app/step-words.ts';
import { nextSentAs, roomCodecs } from '../../src/room/codec-choice.ts';
import type { Circumstances, SentAs } from '../../src/room/codec-choice.ts';
import { Simulation } from '../room/simulator.ts';
import { inCodec, tinyRun } from '../room/tiny-run.ts';
import { composeRun } from '../../src/session/run.ts';
import type { RunSettings } from '../../src/session/types.ts';
import { noTimes, paceAfter, slowestOf, withWay } from '../../src/room/pace.ts';
import type { Pace, StepTimes } from '../../src/room/pace.ts';
import type { HistoryPoint } from '../../src/room/messages.ts';
import { CoordinatorBench, hashAt, peer, step } from '../room/bench.ts';

const ada = peer('ada');
const bob = peer('bob');

describe('the time of a step', () => {
  /** Began at 1000; all was counted at 1400, and its commit began at 1450. */
  const times = (last: typeof ada, computeMs: number): StepTimes => ({ computeMs: new Map([[last, computeMs]]), wayShares: [0.2], last, lastMs: 1_390, wholeMs: 1_400, commitMs: 1_450 });

  it('is the last worker’s computing and way, the wait, and the coordinator’s work', () => {
    expect(paceAfter(null, { times: times(bob, 300), beganAtMs: 1_000 }, ada, 1_500)).toEqual({ computeMs: 300, wayMs: 90, waitMs: 50, applyMs: 60, wayShare: 0.2, last: new Map([[bob, 1]]) });
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

  it('has the way of the median member, whoever is last', () => {
    let measured = noTimes;
    for (const [elapsedMs, computeMs] of [[100, 90], [200, 100], [400, 40]] as const) measured = withWay(measured, 1_000, computeMs, 1_000 + elapsedMs);
    expect(measured.wayShares.map((share) => Math.round(share * 100))).toEqual([10, 50, 90]);
    const pace = paceAfter(null, { times: { ...times(ada, 300), wayShares: measured.wayShares }, beganAtMs: 1_000 }, ada, 1_500);
    expect(pace).toMatchObject({ wayMs: 0, wayShare: 0.5 });
    expect(paceAfter(pace, { times: { ...times(ada, 300), wayShares: [] }, beganAtMs: 1_000 }, ada, 1_500)).toMatchObject({ wayShare: 0.5 });
    expect(withWay(noTimes, 1_000, 1e12, 1_100).wayShares, 'whatever it says').toEqual([0]);
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
  const next = (before: SentAs | null, wayShare: number | null, at: number, change: Partial<Circumstances> = {}): SentAs | null =>
    nextSentAs(before, { codecs: roomCodecs('auto', 1), wayShare, hasMembers: true, aloneSteps: 0, step: step(at), ...change });
  const started = (codec: SentAs['codec']): SentAs => ({ codec, why: 'start', wayShare: 0, since: step(0) });

  const nobody = { hasMembers: false, aloneSteps: 1 };

  it('is exact for whoever is alone, and begins with eight bits when somebody comes', () => {
    const alone = next(null, null, 0, nobody);
    expect(alone).toMatchObject({ codec: 'fp32', why: 'alone' });
    expect(next(alone, null, 1, nobody)).toBe(alone);
    expect(next(alone, 0, 7)).toEqual({ codec: 'int8', why: 'start', wayShare: 0, since: 7 });
  });

  it('stays when everybody is gone for a moment, as after a hand-off, and is exact again when they don’t come back', () => {
    const before: SentAs = { codec: 'int2', why: 'slow', wayShare: 0.4, since: step(3) };
    const codecs = roomCodecs('auto', 30);
    expect(next(before, null, 20, { ...nobody, codecs, aloneSteps: 9 })).toBe(before);
    expect(next(before, null, 20, { ...nobody, codecs, aloneSteps: 10 })).toMatchObject({ codec: 'fp32', why: 'alone' });
    expect(next(before, null, 20), 'of a run that has no such codec').toMatchObject({ codec: 'int8', why: 'start' });
  });

  it('is settled before it is changed', () => {
    const before = started('int8');
    expect(next(before, 0.001, 9)).toBe(before);
    expect(next(before, null, 50)).toBe(before);
    expect(next(before, 0.001, 10)).toMatchObject({ codec: 'fp32', why: 'quick', wayShare: 0.001, since: 10 });
  });

  it('is exact only where four times the bytes take next to nothing, and no longer than they do', () => {
    expect(next(started('int8'), 0.02, 50)).toEqual(started('int8'));
    expect(next(started('fp32'), 0.09, 50)).toEqual(started('fp32'));
    expect(next(started('fp32'), 0.11, 50)).toMatchObject({ codec: 'int8', why: 'slow', wayShare: 0.11 });
  });

  it('takes two bits only with local steps, on links where eight take a third of the time', () => {
    expect(roomCodecs('int8', 30)).toEqual([]);
    const [before, local] = [started('int8'), { codecs: roomCodecs('auto', 30) }];
    expect(next(before, 0.29, 50, local)).toBe(before);
    expect(next(before, 0.31, 50, local)).toMatchObject({ codec: 'int2', why: 'slow' });
    expect(next(before, 0.9, 50)).toBe(before);
    expect(next(started('int2'), 0.03, 50, local)).toMatchObject({ codec: 'int2' });
    expect(next(started('int2'), 0.02, 50, local)).toMatchObject({ codec: 'int8', why: 'quick' });
  });

  it.each([0.01, 0.1, 1, 10, 100, 1_000])('does not go back and forth in a room of two whose link carries %d MB/s', async (megabytes) => {
    const run = inCodec(tinyRun(1, 80, 6), 'auto');
    const room = new Simulation({ seed: 1, run, undisturbed: new Array<number>(80).fill(0), countsOnly: true, checkpointEverySteps: 0 });
    await room.lead('ada', { startPaused: true, msPerMicrobatch: 100 });
    room.join('bob', { msPerMicrobatch: 100 });
    await room.until('bob is ready', 60_000, () => room.coordinator.view.peers.some(({ name, state }) => name === 'bob' && state === 'ready'));
    room.world.network.capacity = { bytesPerMs: megabytes * 1_000, weigh: (_, bytes) => 100 * bytes };
    room.coordinator.dispatch({ type: 'command', command: 'resume' });
    const seen: string[] = [];
    for (let at = 1; at <= 80; at += 1) {
      await room.until(`step ${at}`, 600_000, () => room.coordinator.view.step >= at);
      const { codec = null } = room.coordinator.view.sentAs ?? {};
      if (codec !== null && seen.at(-1) !== codec) seen.push(codec);
    }
    expect(seen[0]).toBe('int8');
    expect(seen.length, seen.join()).toBeLessThanOrEqual(2);
  });

  it('goes with each assignment, and is the update’s too; everybody is told', () => {
    const bench = new CoordinatorBench({ leaseUntilMs: Infinity, codecs: roomCodecs('auto', 1) });
    expect(bench.state.sentAs?.codec).toBe('fp32');
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
    const settings = composeRun({ preset: 'repeated-pattern' }, byCharacter('abc'.repeat(100))).description.settings;
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
