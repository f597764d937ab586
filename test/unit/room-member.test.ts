import { describe, expect, test } from 'vitest';
import { brokenDevice, goodDevice, hashAt, MemberBench, peer, replicaOffer, step, term } from '../room/bench.ts';
import type { BlobRef } from '../../src/room/machine.ts';
import type { CoordinatorMessage } from '../../src/room/messages.ts';

const point = (at: number) => ({ step: step(at), loss: at + 0.5, gradNorm: 1, lr: 0.1, ms: 5, tokens: 10, bytesDown: 0, bytesUp: 0 });

describe('finding the room', () => {
  test('it looks the room up, connects, says hello, plans the run, loads the replica and reports it', () => {
    const member = new MemberBench();
    expect(member.of('lookUp')).toHaveLength(1);
    expect(member.found().of('connect')).toEqual([{ type: 'connect', coordinator: 'ada' }]);
    expect(member.send({ type: 'connected', coordinator: peer('ada') }).sent).toMatchObject([{ type: 'hello', name: 'Bob', replica: null }]);
    expect(member.welcome().of('prepare')).toEqual([{ type: 'prepare', run: '{}' }]);
    expect(member.of('describe')).toEqual([{ type: 'describe', run: '{}' }]);
    expect(member.view.connection).toBe('fetching');
    expect(member.blob(replicaOffer(term(3), step(5))).of('loadReplica')).toMatchObject([{ step: 5 }]);
    expect(member.send({ type: 'replicaLoaded', step: step(5), hash: hashAt(5) }).sent).toEqual([{ type: 'ready', term: 3, step: 5, hash: hashAt(5) }]);
    expect(member.view).toMatchObject({ connection: 'joined', role: 'member', replica: { step: 5 }, problem: null });
  });

  test('an empty room is looked for again and again, with pauses that grow from 0.3 to 5 seconds', () => {
    const member = new MemberBench();
    const pauses: number[] = [];
    for (let attempt = 0; attempt < 8; attempt += 1) {
      member.send({ type: 'directory', lead: null });
      const sinceMs = member.nowMs;
      while (member.pass(100).every((effect) => effect.type !== 'lookUp'));
      pauses.push(member.nowMs - sinceMs);
    }
    expect(member.view.problem?.code).toBe('room-empty');
    expect(pauses[0]).toBeGreaterThanOrEqual(200);
    expect(pauses[0]).toBeLessThanOrEqual(500);
    pauses.slice(1, 4).forEach((pause, index) => expect(pause).toBeGreaterThan(pauses[index] ?? 0));
    for (const pause of pauses.slice(5)) {
      expect(pause).toBeGreaterThanOrEqual(3_700);
      expect(pause).toBeLessThanOrEqual(6_400);
    }
  });

  test('members with other seeds come back at other moments, the same seed at the same', () => {
    const retryAt = (seed: number) => new MemberBench({ seed }).send({ type: 'directory', lead: null }).state.retryAtMs;
    expect(retryAt(1)).toBe(retryAt(1));
    expect(new Set([1, 2, 3, 4].map(retryAt)).size).toBe(4);
  });

  test.each([
    ['the directory can’t be reached', (member: MemberBench) => member.send({ type: 'directoryUnreachable' }), 'signalling-unreachable'],
    ['the lookup is never answered', (member: MemberBench) => (member.pass(15_200), member), 'signalling-unreachable'],
    [
      'connecting fails',
      (member: MemberBench) => member.found().send({ type: 'connectFailed', problem: { code: 'ice-failed', message: 'ICE failed' } }),
      'ice-failed',
    ],
    ['connecting never ends', (member: MemberBench) => (member.found().pass(30_200), member), 'coordinator-gone'],
    ['no welcome comes', (member: MemberBench) => (member.connect().pass(10_200), member), 'coordinator-gone'],
  ])('when %s it says so and tries again', (_what, fail, code) => {
    const member = fail(new MemberBench());
    expect(member.view).toMatchObject({ connection: 'finding', problem: { code } });
    expect(member.pass(1_000).some((effect) => effect.type === 'lookUp')).toBe(true);
  });

  test.each([
    ['a refusal', (member: MemberBench) => member.connect().message({ type: 'refused', code: 'version-mismatch', message: 'reload' })],
    ['a wrong key', (member: MemberBench) => member.found().send({ type: 'connectFailed', problem: { code: 'wrong-key', message: '' }, isFinal: true })],
  ])('%s is final', (_what, refuse) => {
    const member = refuse(new MemberBench());
    expect(member.view.connection).toBe('refused');
    expect(member.pass(60_000)).toEqual([]);
    expect(member.found('eve', 9).effects).toEqual([]);
  });

  test('a watcher joins without a replica, and is told what the run is', () => {
    const member = new MemberBench({ wantsToWatch: true }).connect().welcome({ replica: 'none' });
    expect(member.view).toMatchObject({ connection: 'joined', role: 'watcher' });
    expect(member.of('describe')).toHaveLength(1);
    expect(member.of('prepare')).toEqual([]);
  });
});

describe('the history', () => {
  /** Welcomed at step 5 with the history of five steps on its way. */
  const late = () => new MemberBench({ wantsToWatch: true }).connect().welcome({ replica: 'none', historyPoints: 5 });
  const firstFive = [0, 1, 2, 3, 4].map(point);
  const progress = (at: number) => ({ type: 'progress', term: term(3), phase: 'running', point: point(at) }) as const;
  const header = { kind: 'history', term: term(3), checksum: '0123abcd' } as const;

  test('of a room that has done nothing yet is whole from the welcome on', () => {
    const member = new MemberBench().connect().welcome({ step: step(0), historyPoints: 0 }).message(progress(0));
    expect(member.view.history).toEqual([point(0)]);
  });

  test('is shown when it has come, with every step committed meanwhile, each once', () => {
    const member = late();
    for (const at of [5, 6, 6, 5, 7]) member.message(progress(at));
    expect(member.view).toMatchObject({ step: 8, history: [] });
    expect(member.blob(header).of('readHistory')).toEqual([{ type: 'readHistory', ref: 'ref-1', checksum: '0123abcd', points: 5, endStep: 5 }]);
    member.message(progress(8));
    member.send({ type: 'historyRead', ref: 'ref-1' as BlobRef, points: firstFive }).message(progress(9));
    expect(member.view.history).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(point));
  });

  test('waits for a welcome that it overtook', () => {
    const member = new MemberBench().connect().blob(header);
    expect(member.effects.filter((effect) => effect.type !== 'changed')).toEqual([]);
    expect(member.welcome({ historyPoints: 5 }).of('readHistory')).toHaveLength(1);
  });

  test('has the validation losses that overtook it, of steps in it and of later ones', () => {
    const member = late().message(progress(5));
    for (const [at, loss] of [[5, 1.5], [4, 1.25]] as const) member.message({ type: 'validation', term: term(3), step: step(at), loss });
    member.history(firstFive);
    expect(member.view.history).toEqual([...firstFive.slice(0, 4), { ...point(4), validationLoss: 1.25 }, { ...point(5), validationLoss: 1.5 }]);
  });

  test('comes once, for what was announced; anything else of the kind is let go', () => {
    const member = late();
    expect(member.blob({ ...header, term: term(4) }).of('discardBlob')).toHaveLength(1);
    member.blob(header);
    expect(member.blob(header).of('discardBlob')).toHaveLength(1);
    member.send({ type: 'historyRead', ref: 'ref-2' as BlobRef, points: firstFive });
    expect(member.blob(header).effects).toMatchObject([{ type: 'discardBlob' }]);
    expect(member.view.history).toEqual(firstFive);
    const early = new MemberBench().connect().blob(header);
    expect(early.blob(header).of('discardBlob')).toMatchObject([{ ref: 'ref-2' }]);
    expect(early.send({ type: 'disconnected', reason: '' }).of('discardBlob')).toMatchObject([{ ref: 'ref-1' }]);
  });

  test('of a connection that is gone is not taken for that of the next', () => {
    const member = late().blob(header).send({ type: 'disconnected', reason: '' });
    member.connect().welcome({ replica: 'none', step: step(2), historyPoints: 2 });
    member.send({ type: 'historyRead', ref: 'ref-1' as BlobRef, points: firstFive });
    expect(member.view.history).toEqual([]);
    expect(member.history(firstFive.slice(0, 2)).view.history).toEqual(firstFive.slice(0, 2));
  });

  test('that was known before is shown until the new one has come, as far as it can still be right', () => {
    const member = late().history(firstFive).message(progress(5)).send({ type: 'disconnected', reason: '' });
    member.connect().welcome({ replica: 'none', step: step(3), historyPoints: 3 });
    expect(member.view).toMatchObject({ step: 3, history: firstFive.slice(0, 3) });
  });

  test('does not grow by validation losses that somebody makes up', () => {
    const member = late();
    for (let count = 0; count < 1_000; count += 1) member.message({ type: 'validation', term: term(3), step: step(count % 5), loss: 1 });
    expect(member.state.room?.awaited?.validations.length).toBe(16);
  });

  test('reaches those who have no GPU, too', () => {
    const member = new MemberBench({ device: brokenDevice }).connect().welcome({ replica: 'none', historyPoints: 5 }).history(firstFive);
    expect(member.view.history).toEqual(firstFive);
  });
});

describe('weights and work', () => {
  test('updates are applied in order, one at a time, and each is reported', () => {
    const member = new MemberBench().join();
    expect(member.blob({ kind: 'update', term: term(3), step: step(5) }).of('applyUpdate')).toMatchObject([{ step: 5 }]);
    expect(member.blob({ kind: 'update', term: term(3), step: step(6) }).of('applyUpdate')).toEqual([]);
    member.send({ type: 'updateApplied', step: step(5), hash: hashAt(6) });
    expect(member.sent).toEqual([{ type: 'applied', term: 3, step: 6, hash: hashAt(6) }]);
    expect(member.of('applyUpdate')).toMatchObject([{ step: 6 }]);
  });

  test('an assignment that is there before its update waits for it', () => {
    const member = new MemberBench().join().blob({ kind: 'update', term: term(3), step: step(5) }).assignment('a', 6);
    expect(member.of('compute')).toEqual([]);
    member.send({ type: 'updateApplied', step: step(5), hash: hashAt(6) });
    expect(member.of('compute')).toMatchObject([{ assignment: 'a', step: 6, microbatches: [0, 1] }]);
  });

  test('the result is sent with its sums', () => {
    const member = new MemberBench().join().assignment('a').computed('a');
    expect(member.of('sendContribution')).toEqual([
      {
        type: 'sendContribution',
        header: { kind: 'contribution', term: 3, step: 5, assignment: 'a', lossSum: 4, weightSum: 2, computeMs: 5, tokens: 10 },
        codec: null,
      },
    ]);
    const asked = new MemberBench().join();
    asked.blob({ kind: 'assignment', term: term(3), step: step(5), assignment: 'b', microbatches: [0], codec: 'int8' }).computed('b');
    expect(asked.of('sendContribution')).toMatchObject([{ codec: 'int8' }]);
  });

  test('a second assignment is computed after the first one’s result was taken', () => {
    const member = new MemberBench().join().assignment('a').assignment('b');
    expect(member.of('compute')).toEqual([]);
    member.computed('a');
    expect(member.effects.map((effect) => effect.type)).toEqual(['sendContribution', 'compute']);
  });

  test('blobs that overtake the welcome wait for it', () => {
    const member = new MemberBench().connect().blob(replicaOffer(term(3), step(5)));
    expect(member.of('loadReplica')).toEqual([]);
    member.welcome();
    expect(member.effects.map((effect) => effect.type)).toEqual(expect.arrayContaining(['prepare', 'loadReplica']));
    expect(member.of('loadReplica')).toHaveLength(1);
  });

  test('an update with a gap before it is dropped, and the replica asked for, once', () => {
    const member = new MemberBench().join().blob({ kind: 'update', term: term(3), step: step(7) });
    expect(member.sent).toEqual([{ type: 'refetch', term: 3 }]);
    expect(member.of('discardBlob')).toHaveLength(1);
    expect(member.blob({ kind: 'update', term: term(3), step: step(8) }).sent).toEqual([]);
    expect(member.assignment('a', 9).sent).toMatchObject([{ type: 'decline', assignment: 'a', code: 'behind' }]);
    member.blob(replicaOffer(term(3), step(9))).send({ type: 'replicaLoaded', step: step(9), hash: hashAt(9) });
    expect(member.sent).toMatchObject([{ type: 'ready', step: 9 }]);
  });

  test('an update delivered twice is applied once', () => {
    const member = new MemberBench().join().blob({ kind: 'update', term: term(3), step: step(5) });
    member.send({ type: 'updateApplied', step: step(5), hash: hashAt(6) }).blob({ kind: 'update', term: term(3), step: step(5) });
    expect(member.of('applyUpdate')).toEqual([]);
    expect(member.of('discardBlob')).toHaveLength(1);
    expect(member.sent).toEqual([]);
  });

  test('weights that the trainer refuses are asked for again', () => {
    const member = new MemberBench().join().blob({ kind: 'update', term: term(3), step: step(5) });
    member.send({ type: 'replicaFailed', step: step(5), reason: 'damaged' });
    expect(member.sent).toEqual([{ type: 'refetch', term: 3 }]);
    expect(member.view.replica).toBeNull();
  });

  test('a step’s update ends work for that step', () => {
    const member = new MemberBench().join().assignment('a').assignment('b').blob({ kind: 'update', term: term(3), step: step(5) });
    expect(member.effects.map((effect) => effect.type)).toEqual(['cancel', 'discardBlob', 'applyUpdate']);
    expect(member.computed('a').of('sendContribution')).toEqual([]);
  });

  test('a cancelled assignment stops, or is never begun when the cancel comes first', () => {
    const member = new MemberBench().join().assignment('a').message({ type: 'cancel', term: term(3), assignment: 'a' });
    expect(member.of('cancel')).toEqual([{ type: 'cancel', assignment: 'a' }]);
    member.message({ type: 'cancel', term: term(3), assignment: 'b' }).assignment('b').assignment('c');
    expect(member.computed('a').of('sendContribution')).toEqual([]);
    expect(member.of('compute')).toMatchObject([{ assignment: 'c' }]);
  });

  test('a failed computation is handed back, and so is one whose loss is not finite', () => {
    const member = new MemberBench().join().assignment('a').computed('a', { failed: true });
    expect(member.sent).toMatchObject([{ type: 'decline', assignment: 'a', code: 'failed' }]);
    member.assignment('b').computed('b', { lossSum: Number.NaN });
    expect(member.sent).toMatchObject([{ type: 'decline', assignment: 'b', code: 'non-finite' }]);
  });

  test('a flood of blobs is held back at a bound, and work that does not fit is handed back', () => {
    const member = new MemberBench().join().blob({ kind: 'update', term: term(3), step: step(5) });
    for (let count = 0; count < 1_000; count += 1) member.blob({ kind: 'update', term: term(3), step: step(6 + count) });
    expect(member.state.blobs.length).toBe(320);
    expect(member.assignment('a', 6).sent).toMatchObject([{ type: 'decline', code: 'behind' }]);
  });

  test('a lost GPU hands everything back; when it works again the run is planned and the replica fetched anew', () => {
    const member = new MemberBench().join().assignment('a').assignment('b').send({ type: 'device', device: brokenDevice });
    expect(member.sent).toMatchObject([
      { type: 'decline', assignment: 'a', code: 'device' },
      { type: 'decline', assignment: 'b', code: 'device' },
    ]);
    expect(member.assignment('c').sent).toMatchObject([{ type: 'decline', assignment: 'c', code: 'device' }]);
    member.send({ type: 'device', device: goodDevice });
    expect(member.of('prepare')).toHaveLength(1);
    expect(member.sent).toEqual([{ type: 'refetch', term: 3 }]);
  });

  test('who joined with a broken GPU joins again when it works', () => {
    const member = new MemberBench({ device: brokenDevice }).connect().welcome({ replica: 'none' });
    member.send({ type: 'device', device: goodDevice });
    expect(member.effects.map((effect) => effect.type)).toEqual(expect.arrayContaining(['disconnect', 'lookUp']));
    member.connect();
    expect(member.sent).toMatchObject([{ type: 'hello', device: { problem: null } }]);
  });
});

describe('the coordinator goes and comes', () => {
  test('after a dropped connection it comes back with the replica it kept', () => {
    const member = new MemberBench().join().assignment('a').send({ type: 'disconnected', reason: '' });
    expect(member.of('cancel')).toHaveLength(1);
    expect(member.view).toMatchObject({ connection: 'finding', problem: { code: 'coordinator-gone' }, wasWelcomed: true });
    member.connect('ada-2', 4);
    expect(member.sent).toMatchObject([{ type: 'hello', replica: { step: 5, hash: hashAt(5) } }]);
    member.welcome({ term: term(4), replica: 'kept' });
    expect(member.sent).toEqual([{ type: 'ready', term: 4, step: 5, hash: hashAt(5) }]);
    expect(member.of('prepare')).toEqual([]);
    expect(member.of('describe')).toEqual([]);
  });

  test('while an update of the old connection is being applied, it does not claim to hold a replica', () => {
    const member = new MemberBench().join().blob({ kind: 'update', term: term(3), step: step(5) }).send({ type: 'disconnected', reason: '' });
    member.connect();
    expect(member.sent).toMatchObject([{ type: 'hello', replica: null }]);
    expect(member.welcome().blob(replicaOffer(term(3), step(6))).of('loadReplica')).toEqual([]);
    member.send({ type: 'updateApplied', step: step(5), hash: hashAt(6) });
    expect(member.sent).toEqual([]);
    expect(member.of('loadReplica')).toMatchObject([{ step: 6 }]);
  });

  test('the history is rolled back to what the new coordinator has', () => {
    const member = new MemberBench().join();
    for (const at of [5, 6, 7]) member.message({ type: 'progress', term: term(3), phase: 'running', point: point(at) });
    expect(member.view).toMatchObject({ step: 8, history: [{ step: 5 }, { step: 6 }, { step: 7 }] });
    member.send({ type: 'disconnected', reason: '' }).connect('ada-2', 4).welcome({ term: term(4), step: step(6), historyPoints: 1 });
    expect(member.view).toMatchObject({ step: 6, history: [{ step: 5, loss: 5.5 }] });
    const again = { ...point(5), loss: 7 };
    expect(member.history([again], 4).view).toMatchObject({ step: 6, history: [again] });
  });

  test('an older reign than the one it knows is not joined', () => {
    const member = new MemberBench().join().send({ type: 'disconnected', reason: '' });
    expect(member.found('old', 2).of('connect')).toEqual([]);
    expect(member.view.connection).toBe('finding');
    member.connect().welcome({ term: term(2) });
    expect(member.of('disconnect')).toHaveLength(1);
  });

  test('messages and blobs of another term are ignored', () => {
    const member = new MemberBench().join();
    const before = member.view;
    member.message({ type: 'progress', term: term(2), phase: 'stopped', point: point(9) });
    member.message({ type: 'phase', term: term(4), phase: 'stopped', problem: null });
    member.blob(replicaOffer(term(2), step(1)));
    expect(member.of('discardBlob')).toHaveLength(1);
    expect(member.view).toEqual(before);
  });

  test('a newer reign is followed at once, also while the old connection still stands', () => {
    const member = new MemberBench().join().found('ada-2', 4);
    expect(member.effects.map((effect) => effect.type)).toEqual(expect.arrayContaining(['disconnect', 'connect']));
    expect(new MemberBench().join().found('ada', 3).effects).toEqual([]);
  });

  test('a silent coordinator makes it ask the directory, and after eight seconds start over', () => {
    const member = new MemberBench().join();
    expect(member.pass(2_900)).toEqual([]);
    expect(member.pass(400).map((effect) => effect.type)).toEqual(expect.arrayContaining(['lookUp', 'problem']));
    expect(member.view).toMatchObject({ connection: 'joined', problem: { code: 'coordinator-gone' } });
    member.message({ type: 'ping', nonce: 7 });
    expect(member.sent).toEqual([{ type: 'pong', nonce: 7 }]);
    expect(member.view.problem).toBeNull();
    expect(member.pass(8_200).some((effect) => effect.type === 'disconnect')).toBe(true);
    expect(member.view.connection).toBe('finding');
  });

  test('a member that itself slept does not blame the coordinator', () => {
    const member = new MemberBench().join();
    member.nowMs += 600_000;
    expect(member.send({ type: 'tick' }).effects).toEqual([]);
  });

  test('a stopped room is said to be closed, not broken', () => {
    const member = new MemberBench().join().message({ type: 'phase', term: term(3), phase: 'stopped', problem: null });
    expect(member.send({ type: 'disconnected', reason: '' }).view.problem?.code).toBe('room-stopped');
  });

  test('leaving hands unfinished work back, then says goodbye, and is final', () => {
    const member = new MemberBench().join().assignment('a').assignment('b').send({ type: 'command', command: 'leave' });
    expect(member.sent).toMatchObject([
      { type: 'decline', assignment: 'a', code: 'leaving' },
      { type: 'decline', assignment: 'b', code: 'leaving' },
      { type: 'leave' },
    ]);
    expect(member.effects.at(-1)?.type).toBe('changed');
    expect(member.of('disconnect')).toHaveLength(1);
    expect(member.pass(60_000)).toEqual([]);
    expect(member.view.connection).toBe('left');
  });
});

test('pause and resume are passed on to the coordinator', () => {
  const member = new MemberBench().join();
  expect(member.send({ type: 'command', command: 'pause' }).sent).toEqual([{ type: 'command', term: 3, command: 'pause' }]);
  expect(member.send({ type: 'command', command: 'resume' }).sent).toEqual([{ type: 'command', term: 3, command: 'resume' }]);
});

test('the room as the coordinator describes it is what the page sees', () => {
  const row = { id: peer('bob'), name: 'Bob', role: 'watcher', device: '', isSoftware: false, tokensPerSecond: 0, microbatches: 0, state: 'watching', note: 'why' } as const;
  const messages: CoordinatorMessage[] = [
    { type: 'progress', term: term(3), phase: 'running', point: point(5) },
    { type: 'progress', term: term(3), phase: 'paused', point: point(5) },
    { type: 'validation', term: term(3), step: step(5), loss: 2 },
    { type: 'phase', term: term(3), phase: 'paused', problem: { code: 'non-finite', message: 'm' } },
    { type: 'peers', term: term(3), peers: [row] },
    { type: 'sample', term: term(3), step: step(5), text: 'abc' },
  ];
  const member = new MemberBench().join();
  for (const message of messages) member.message(message);
  expect(member.view).toMatchObject({
    step: 6,
    phase: 'paused',
    problem: { code: 'non-finite' },
    history: [{ step: 5, loss: 5.5, validationLoss: 2 }],
    peers: [row],
    role: 'watcher',
    sample: { text: 'abc' },
  });
});
