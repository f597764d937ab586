import { describe, expect, test } from 'vitest';
import { CoordinatorBench, hashAt, holderOf, MemberBench, peer, step, term } from '../room/bench.ts';
import type { CoordinatorBlob, HistoryPoint } from '../../src/room/messages.ts';

const gradientBytes = 100;

/** Ada leads; Bob could follow and has confirmed the present replica. */
function withBob(change: ConstructorParameters<typeof CoordinatorBench>[0] = {}): CoordinatorBench {
  return new CoordinatorBench(change).join('bob', { canSucceed: true });
}

/** Bob has everything, and the directory names him. */
function named(): CoordinatorBench {
  const room = withBob();
  room.from('bob', { type: 'warm', term: term(3), step: step(0) });
  return room.send({ type: 'successorNamed', holderHash: holderOf('bob') });
}

/** Everybody answers, and the step is committed here. */
function commit(room: CoordinatorBench): CoordinatorBench {
  return room.finishStep({ ada: 200, bob: 200 });
}

/** Every micro-batch of the step is added. */
function computed(room: CoordinatorBench): CoordinatorBench {
  room.ownResult();
  for (const { id, worker } of [...(room.state.work?.assignments.values() ?? [])]) {
    if (worker === 'bob' || worker === 'cid') room.contribute(worker, id);
  }
  for (const { id } of [...(room.state.work?.assignments.values() ?? [])]) room.added(id);
  return room;
}

describe('the coordinator', () => {
  test('appoints one of those who could lead, between two steps', () => {
    const room = new CoordinatorBench().join('bob').join('cid', { canSucceed: true });
    expect(room.of('appoint')).toEqual([{ type: 'appoint', to: 'cid', step: 0, unannounced: null }]);
    room.finishStep({ ada: 200, bob: 100, cid: 200 });
    expect(room.row('cid')).toMatchObject({ succession: 'warming' });
    expect(room.row('bob')).not.toHaveProperty('succession');
  });

  test('does not appoint another tab of its own browser, nor a watcher, nor whoever can’t', () => {
    const room = new CoordinatorBench();
    room.join('twin', { canSucceed: true, holderHash: holderOf('ada') }).join('eye', { canSucceed: true, wantsToWatch: true }).join('dan');
    expect(room.state.successor).toBeNull();
  });

  test('names its successor when it has everything, not before', () => {
    const room = withBob();
    expect(room.of('nameSuccessor')).toEqual([]);
    room.from('bob', { type: 'warm', term: term(3), step: step(0) });
    expect(room.of('nameSuccessor')).toEqual([{ type: 'nameSuccessor', holderHash: holderOf('bob') }]);
    expect(room.row('bob')).toMatchObject({ succession: 'warming' });
    room.send({ type: 'successorNamed', holderHash: holderOf('bob') });
    expect(room.row('bob')).toMatchObject({ succession: 'ready', lagSteps: 0 });
  });

  test('announces a step when the successor has confirmed it, and commits no other meanwhile', () => {
    const room = computed(named());
    expect(room.of('commit')).toMatchObject([{ step: 0, encodeGradient: true }]);
    room.committed({ gradientBytes });
    expect(room.effects.map(({ type }) => type).filter((type) => type.startsWith('send'))).toEqual(expect.arrayContaining(['sendGradient', 'sendUpdate']));
    expect(room.effects.findIndex(({ type }) => type === 'sendGradient')).toBeLessThan(room.effects.findIndex(({ type }) => type === 'sendUpdate'));
    expect(room.sentTo('bob').filter(({ type }) => type === 'progress')).toEqual([]);
    expect(room.state.history).toEqual([]);
    room.applied('bob');
    expect(room.sentTo('bob')).toMatchObject([{ type: 'progress', point: { step: 0 } }]);
    expect(room.state.history).toHaveLength(1);
  });

  test('un-names a successor that is lost before it announces without it', () => {
    const room = named();
    commit(room);
    room.send({ type: 'peerClosed', peer: peer('bob'), reason: '' });
    expect(room.of('nameSuccessor')).toEqual([{ type: 'nameSuccessor', holderHash: null }]);
    const before = room.state.history.length;
    finishAlone(room);
    expect(room.state.history).toHaveLength(before);
    expect(room.state.unannounced).not.toBeNull();
    room.send({ type: 'successorNamed', holderHash: null }).send({ type: 'lease', untilMs: Infinity });
    expect(room.state.history).toHaveLength(before + 1);
  });

  test('waits for nobody when its successor resigns, or says hello again', () => {
    for (const end of [
      (room: CoordinatorBench) => room.from('bob', { type: 'unable', term: term(3), reason: '' }),
      (room: CoordinatorBench) => room.from('bob', { type: 'leave', reason: '' }),
      (room: CoordinatorBench) => room.send({ type: 'peerClosed', peer: peer('bob'), reason: '' }).hello('bob'),
    ]) {
      const room = named();
      room.send({ type: 'lease', untilMs: Infinity });
      end(room);
      expect(room.state.fenced.size).toBe(0);
    }
  });

  test('of two that were lost, the one that comes back does not speak for the other', () => {
    const room = named();
    room.join('cid', { canSucceed: true });
    room.send({ type: 'peerClosed', peer: peer('bob'), reason: '' });
    room.from('cid', { type: 'warm', term: term(3), step: step(0) }).send({ type: 'peerClosed', peer: peer('cid'), reason: '' });
    expect([...room.state.fenced]).toEqual([holderOf('bob'), holderOf('cid')]);
    room.hello('cid');
    expect([...room.state.fenced]).toEqual([holderOf('bob')]);
    room.send({ type: 'successorNamed', holderHash: null });
    expect(room.state.fenced.size).toBe(0);
  });

  test('announces nothing once its lease is over, when somebody else could go on from an older state', () => {
    const room = new CoordinatorBench({ hasHeirs: true, leaseUntilMs: 2_000 });
    finishAlone(room);
    expect(room.state.history).toHaveLength(1);
    room.nowMs = 3_000;
    finishAlone(room);
    expect(room.state.history).toHaveLength(1);
    room.send({ type: 'lease', untilMs: 9_000 });
    expect(room.state.history).toHaveLength(2);
  });

  test('after a sleep believes in its successor only when its lease is renewed: another may lead meanwhile', () => {
    const room = named();
    room.send({ type: 'lease', untilMs: room.nowMs + 5_400 });
    commit(room);
    const before = room.state.history.length;
    expect(before).toBeGreaterThan(0);
    computed(room).committed({ gradientBytes });
    room.nowMs += 6_000;
    room.applied('bob');
    expect(room.state.history).toHaveLength(before);
    room.send({ type: 'lease', untilMs: room.nowMs + 5_400 });
    expect(room.state.history).toHaveLength(before + 1);
  });

  test('goes on alone without a directory when nobody else has anything', () => {
    const room = new CoordinatorBench({ hasHeirs: false, leaseUntilMs: 0 });
    finishAlone(room);
    expect(room.state.history).toHaveLength(1);
  });

  test('replaces a successor that confirms nothing', () => {
    const room = named();
    room.join('cid', { canSucceed: true });
    computed(room).committed({ gradientBytes });
    expect(room.state.unannounced).not.toBeNull();
    room.applied('cid').passWith(3_500, 'bob', 'cid');
    expect(room.state.successor?.peer).toBe('cid');
  });
});

function finishAlone(room: CoordinatorBench): void {
  for (let round = 0; round < 4 && room.of('commit').length === 0; round += 1) {
    room.ownResult();
    for (const { id, phase } of [...(room.state.work?.assignments.values() ?? [])]) if (phase === 'adding') room.added(id);
  }
  room.committed();
}

const pointOf = (at: number): HistoryPoint => ({ step: step(at), loss: 2, gradNorm: 1, lr: 1e-3, ms: 5, tokens: 10, bytesDown: 0, bytesUp: 0, replicaHash: hashAt(at + 1) });

/** Bob holds step 5 and was appointed there; every piece has come. */
function warmMember(): MemberBench {
  const member = new MemberBench().join();
  member.blob({ kind: 'appointment', term: term(3), step: step(5), masterBytes: 8, masterParts: ['firstMoments', 'secondMoments'], corpusBytes: 4, unannounced: null }, 0);
  expect(member.of('follow')).toEqual([{ type: 'follow', step: 5, masterBytes: 8, masterParts: ['firstMoments', 'secondMoments'], corpusBytes: 4 }]);
  member.blob({ kind: 'piece', term: term(3), since: step(5), step: step(5), part: 'corpus', offset: 0 }, 4);
  member.blob({ kind: 'piece', term: term(3), since: step(5), step: step(5), part: 'firstMoments', offset: 0 }, 8);
  member.blob({ kind: 'piece', term: term(3), since: step(5), step: step(5), part: 'secondMoments', offset: 0 }, 4);
  expect(member.of('completeSuccession')).toEqual([]);
  member.blob({ kind: 'piece', term: term(3), since: step(5), step: step(5), part: 'secondMoments', offset: 4 }, 4);
  expect(member.of('completeSuccession')).toEqual([{ type: 'completeSuccession', step: 5 }]);
  return member.send({ type: 'successionCompleted', step: step(5), problem: null });
}

const lease = { coordinator: peer('ada'), term: term(3), isHeld: false, hasSuccessor: true };

describe('a successor', () => {
  test('says when it has everything', () => {
    expect(warmMember().sent).toEqual([{ type: 'warm', term: 3, step: 5 }]);
  });

  test('keeps what it has when it is to rest while nobody leads', () => {
    const member = warmMember().send({ type: 'disconnected', reason: '' });
    member.send({ type: 'presence', presence: { isHidden: false, rest: 'battery' } });
    expect(member.state.succession?.stage).toBe('warm');
    member.pass(1_000);
    expect(member.send({ type: 'directory', lead: lease }).of('takeOver')).toMatchObject([{ claim: { isWarm: true } }]);
  });

  test('applies each update with the gradient that came before it', () => {
    const member = warmMember();
    member.blob({ kind: 'gradient', term: term(3), step: step(5), weightSum: 7, point: pointOf(5) });
    expect(member.effects).toEqual([]);
    member.blob({ kind: 'update', term: term(3), step: step(5) });
    expect(member.of('applyUpdate')).toMatchObject([{ step: 5, followed: { weightSum: 7 } }]);
  });

  test('resigns when a gradient is missing, and is a member like all others from then on', () => {
    const member = warmMember().blob({ kind: 'update', term: term(3), step: step(5) });
    expect(member.of('applyUpdate')).toMatchObject([{ followed: null }]);
    expect(member.sent).toMatchObject([{ type: 'unable' }]);
    expect(member.state.succession).toBeNull();
  });

  test('resigns at once when it can’t do with what is announced, though pieces are still on their way', () => {
    const member = new MemberBench().join();
    member.blob({ kind: 'appointment', term: term(3), step: step(5), masterBytes: 8, masterParts: ['firstMoments', 'secondMoments'], corpusBytes: 4, unannounced: null }, 0);
    member.send({ type: 'successionCompleted', step: step(5), problem: 'there is no memory for it' });
    expect(member.sent).toMatchObject([{ type: 'unable', reason: 'there is no memory for it' }]);
    expect(member.state.succession).toBeNull();
  });

  test('a piece of an earlier appointment is none of this one, and the same appointment twice is one', () => {
    const member = new MemberBench().join();
    const appointment: CoordinatorBlob = { kind: 'appointment', term: term(3), step: step(5), masterBytes: 8, masterParts: ['firstMoments', 'secondMoments'], corpusBytes: 4, unannounced: null };
    member.blob(appointment, 0).blob({ kind: 'piece', term: term(3), since: step(4), step: step(4), part: 'corpus', offset: 0 }, 4);
    expect(member.effects.map(({ type }) => type)).toEqual(['discardBlob']);
    member.blob(appointment, 0);
    expect(member.effects.map(({ type }) => type)).toEqual(['discardBlob']);
    member.blob({ kind: 'piece', term: term(3), since: step(5), step: step(5), part: 'corpus', offset: 0 }, 4);
    expect(member.of('keepPiece')).toMatchObject([{ part: 'corpus', offset: 0 }]);
  });

  test('a piece out of order, twice or past the announced size is thrown away', () => {
    const member = new MemberBench().join();
    member.blob({ kind: 'appointment', term: term(3), step: step(5), masterBytes: 8, masterParts: ['firstMoments', 'secondMoments'], corpusBytes: 4, unannounced: null }, 0);
    for (const [offset, bytes] of [[4, 4], [0, 12]] as const) {
      member.blob({ kind: 'piece', term: term(3), since: step(5), step: step(5), part: 'firstMoments', offset }, bytes);
      expect(member.effects.map(({ type }) => type)).toEqual(['discardBlob']);
    }
  });

  test('does not ask again at once when a directory that forgot its term refuses it', () => {
    const member = warmMember().send({ type: 'disconnected', reason: '' });
    const forgotten = { coordinator: peer('eve'), term: term(2), isHeld: true, hasSuccessor: false };
    member.pass(1_000);
    expect(member.send({ type: 'directory', lead: forgotten }).of('takeOver')).toHaveLength(1);
    expect(member.send({ type: 'leadRefused', lead: forgotten }).of('takeOver')).toEqual([]);
    expect(member.of('lookUp')).toEqual([]);
  });

  test('takes the lead when the lease is over, with the history and the step that was not announced', () => {
    const member = warmMember();
    member.blob({ kind: 'gradient', term: term(3), step: step(5), weightSum: 7, point: pointOf(5) });
    member.blob({ kind: 'update', term: term(3), step: step(5) }).send({ type: 'updateApplied', step: step(5), hash: hashAt(6) });
    member.send({ type: 'disconnected', reason: '' }).pass(1_000);
    member.send({ type: 'directory', lead: lease });
    expect(member.of('takeOver')).toEqual([{ type: 'takeOver', claim: { term: 3, step: 6, isForgotten: false, isWarm: true } }]);
    member.send({ type: 'leadTaken', term: term(4) });
    expect(member.of('lead')).toMatchObject([{ term: 4, reign: { step: 6, hash: hashAt(6), isPaused: false } }]);
    expect(member.of('lead')[0]?.reign?.history.map((point) => point.step)).toEqual([5]);
    expect(member.view.connection).toBe('leading');
  });

  test('waits while its coordinator’s lease holds, and connects again when that goes on', () => {
    const member = warmMember().send({ type: 'disconnected', reason: '' });
    member.pass(1_000);
    member.send({ type: 'directory', lead: { ...lease, isHeld: true } });
    expect(member.of('connect')).toEqual([]);
    member.nowMs += 2_400;
    member.pass(8_000);
    member.send({ type: 'directory', lead: { ...lease, isHeld: true } });
    expect(member.of('connect')).toHaveLength(1);
  });

  test('gives up what it has as soon as it says hello', () => {
    const member = warmMember().send({ type: 'disconnected', reason: '' });
    member.nowMs += 2_400;
    member.pass(9_000);
    member.connect();
    expect(member.of('endSuccession')).toHaveLength(1);
    expect(member.sent).toMatchObject([{ type: 'hello', holderHash: holderOf('bob') }]);
  });

  test('does not take over a room that was closed on purpose', () => {
    const member = warmMember().message({ type: 'phase', term: term(3), phase: 'stopped', problem: null });
    member.send({ type: 'disconnected', reason: '' }).pass(1_000);
    member.send({ type: 'directory', lead: lease });
    expect(member.of('takeOver')).toEqual([]);
  });
});

test('a page that is about to stand still does not bring a room back from what it saved', () => {
  const member = new MemberBench({ saved: { step: step(40), term: term(2) } }).send({ type: 'presence', presence: { isHidden: true, rest: 'hidden' } });
  expect(member.send({ type: 'directory', lead: { ...lease, hasSuccessor: false } }).of('takeOver')).toEqual([]);
});

test('a save that is reported late does not hide a newer one', () => {
  const member = new MemberBench({ saved: { step: step(40), term: term(2) } });
  member.send({ type: 'saved', saved: { step: step(12), term: term(2) } });
  expect(member.state.saved?.step).toBe(40);
  member.send({ type: 'saved', saved: { step: step(12), term: term(3) } });
  expect(member.state.saved?.step).toBe(12);
});

describe('whoever has saved the run', () => {
  const saved = { step: step(40), term: term(2) };

  test('brings an empty room back from there', () => {
    const member = new MemberBench({ saved }).send({ type: 'directory', lead: lease });
    expect(member.of('takeOver')).toEqual([{ type: 'takeOver', claim: { term: 3, step: 40, isForgotten: false, isWarm: false } }]);
    expect(member.send({ type: 'leadTaken', term: term(4) }).of('lead')).toEqual([{ type: 'lead', term: 4, reign: null }]);
  });

  test('waits a while for the coordinator of a room that the directory does not know, and takes a term far above', () => {
    const member = new MemberBench({ saved }).send({ type: 'directory', lead: null });
    expect(member.of('takeOver')).toEqual([]);
    for (let waited = 0; waited < 7_000 && member.of('takeOver').length === 0; waited += 1_000) {
      member.pass(1_000);
      member.send({ type: 'directory', lead: null });
    }
    expect(member.of('takeOver')).toMatchObject([{ claim: { isForgotten: true, step: 40 } }]);
    expect(member.of('takeOver')[0]?.claim.term).toBeGreaterThan(1_000);
  });

  test('waits anew when the directory could not be asked meanwhile: its coordinator could not either', () => {
    const member = new MemberBench({ saved }).send({ type: 'directory', lead: null });
    member.pass(1_000);
    member.send({ type: 'directoryUnreachable' });
    for (let waited = 0; waited < 7_000; waited += 2_000) {
      member.pass(2_000);
      member.send({ type: 'directoryUnreachable' });
    }
    expect(member.send({ type: 'directory', lead: null }).of('takeOver')).toEqual([]);
    // Asked often from now on, so that what comes in between is not missed.
    for (let waited = 0; waited < 5_000; waited += 1_000) {
      expect(member.pass(1_000).some(({ type }) => type === 'lookUp')).toBe(true);
      expect(member.send({ type: 'directory', lead: null }).of('takeOver')).toEqual([]);
    }
    member.pass(1_000);
    expect(member.send({ type: 'directory', lead: null }).of('takeOver')).toHaveLength(1);
  });

  test('asks again when others come first, and joins whoever leads by then', () => {
    const member = new MemberBench({ saved }).send({ type: 'directory', lead: lease }).send({ type: 'leadRefused', lead: null });
    expect(member.view.connection).toBe('finding');
    member.pass(2_000);
    expect(member.of('lookUp').length).toBeGreaterThan(0);
    member.send({ type: 'directory', lead: { ...lease, term: term(4), isHeld: true } });
    expect(member.of('connect')).toHaveLength(1);
  });

  test('follows a leader of an older term only when the newer one does not come forward', () => {
    const member = new MemberBench().join().send({ type: 'disconnected', reason: '' });
    const older = { ...lease, term: term(2), isHeld: true };
    member.pass(1_000);
    expect(member.send({ type: 'directory', lead: older }).of('connect')).toEqual([]);
    for (let waited = 0; waited < 20_000 && member.of('connect').length === 0; waited += 2_000) {
      member.pass(2_000);
      member.send({ type: 'directory', lead: older });
      if (waited < 8_000) expect(member.of('connect')).toEqual([]);
    }
    expect(member.of('connect')).toHaveLength(1);
  });

  test('only watches when it wants to', () => {
    const member = new MemberBench({ saved, wantsToWatch: true }).send({ type: 'directory', lead: lease });
    expect(member.of('takeOver')).toEqual([]);
  });
});
