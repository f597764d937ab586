/** Peers that rest: what they do with their work, and what the room does without them. */
import { describe, expect, test } from 'vitest';
import { awake } from '../../src/room/messages.ts';
import type { Presence } from '../../src/room/messages.ts';
import { coordinatorView } from '../../src/room/coordinator.ts';
import { CoordinatorBench, MemberBench, holderOf, peer, step, term } from '../room/bench.ts';

const resting: Presence = { isHidden: true, rest: 'battery' };
const tell = (presence: Presence) => ({ type: 'presence', term: term(3), presence }) as const;

describe('a member that has to rest', () => {
  test('says so, and hands all its work back', () => {
    const member = new MemberBench().join().assignment('a').assignment('b');
    member.blob({ kind: 'update', term: term(3), step: step(5) }).assignment('c', 6);
    member.send({ type: 'presence', presence: resting });
    const [told, ...declined] = member.sent;
    expect(told).toEqual({ type: 'presence', term: 3, presence: resting });
    expect(declined).toEqual([{ type: 'decline', term: 3, assignment: 'c', code: 'resting', reason: 'it has to rest' }]);
  });

  test('stops what it computes', () => {
    const member = new MemberBench().join().assignment('a').assignment('b').send({ type: 'presence', presence: resting });
    expect(member.of('cancel')).toEqual([{ type: 'cancel', assignment: 'a' }]);
    expect(member.sent.filter(({ type }) => type === 'decline')).toMatchObject([{ assignment: 'a' }, { assignment: 'b' }]);
    expect(member.computed('a').of('sendContribution')).toEqual([]);
  });

  test('turns further work away, and keeps its weights up to date', () => {
    const member = new MemberBench().join().send({ type: 'presence', presence: resting });
    expect(member.assignment('d').sent).toMatchObject([{ type: 'decline', assignment: 'd', code: 'resting' }]);
    expect(member.blob({ kind: 'update', term: term(3), step: step(5) }).of('applyUpdate')).toHaveLength(1);
  });

  test('says it again when it comes back, and works as before', () => {
    const member = new MemberBench().join().send({ type: 'presence', presence: resting }).send({ type: 'presence', presence: awake });
    expect(member.sent).toEqual([{ type: 'presence', term: 3, presence: awake }]);
    expect(member.assignment('e').of('compute')).toHaveLength(1);
  });

  test('says so in its hello when it rested before it came', () => {
    const member = new MemberBench().send({ type: 'presence', presence: resting });
    expect(member.connect().sent).toMatchObject([{ type: 'hello', presence: resting }]);
  });
});

test('what changed between hello and welcome is told with the welcome', () => {
  const member = new MemberBench().connect().send({ type: 'presence', presence: resting });
  expect(member.sent).toEqual([]);
  expect(member.welcome().sent).toEqual([tell(resting)]);
});

test('work that comes back from somebody who does not rest is not given to it again at once', () => {
  const room = new CoordinatorBench().join('bob');
  room.finishStep({ ada: 1_000, bob: 1_000 });
  const [{ id } = { id: '' }] = room.assigned('bob');
  room.from('bob', { type: 'decline', term: term(3), assignment: id, code: 'resting', reason: '' });
  expect(room.microbatchesOf('bob')).toBe(0);
  expect(room.pass(500).filter(({ type }) => type === 'assign')).toEqual([]);
});

test('the names of those who have gone are few enough to be sent', () => {
  const room = new CoordinatorBench();
  for (let count = 0; count < 300; count += 1) room.join(`peer-${count}`).send({ type: 'peerClosed', peer: peer(`peer-${count}`), reason: '' });
  expect(coordinatorView(room.state).gone.length).toBeLessThan(64);
});

describe('a room', () => {
  test('gives no work to who rests, and holds nothing against it', () => {
    const room = new CoordinatorBench().join('bob');
    expect(room.finishStep({ ada: 1_000, bob: 1_000 }).microbatchesOf('bob')).toBeGreaterThan(0);
    room.from('bob', tell(resting));
    expect(room.microbatchesOf('bob')).toBe(0);
    expect(room.row('bob')).toMatchObject({ state: 'resting', rest: 'battery', isHidden: true });
    expect(room.finishStep({ ada: 1_000 }).microbatchesOf('bob')).toBe(0);
    room.from('bob', tell(awake)).finishStep({ ada: 1_000 });
    expect(room.microbatchesOf('bob')).toBeGreaterThan(0);
    expect(room.row('bob')).not.toHaveProperty('rest');
  });

  test('makes nobody its successor who rests', () => {
    const room = new CoordinatorBench();
    room.join('bob', { canSucceed: true, presence: resting });
    expect(room.state.successor).toBeNull();
    room.from('bob', tell(awake));
    expect(room.state.successor?.peer).toBe('bob');
  });

  test('tells two tabs of one browser apart from two people', () => {
    const room = new CoordinatorBench().join('bob').join('cid', { name: 'bob', holderHash: holderOf('bob') }).join('dan', { name: 'Ada', holderHash: holderOf('ada') });
    expect(['bob', 'cid', 'dan'].map((id) => room.row(id)?.twinOf)).toEqual([undefined, 'bob', 'Ada']);
  });
});

describe('the table of peers', () => {
  test('says of everybody how the coordinator reaches them, and follows only what people would notice', () => {
    const room = new CoordinatorBench().join('bob').join('cid');
    const way = (roundTripMs: number) => ({ type: 'ways', ways: [{ peer: peer('bob'), path: 'relayed', roundTripMs }] }) as const;
    room.send(way(40)).passWith(600, 'bob', 'cid');
    expect(room.row('bob')).toMatchObject({ path: 'relayed', roundTripMs: 40 });
    expect(room.row('cid')).not.toHaveProperty('path');
    room.send(way(44));
    expect(room.row('bob')).toMatchObject({ roundTripMs: 40 });
    room.send(way(80));
    expect(room.row('bob')).toMatchObject({ roundTripMs: 80 });
  });

  test('is followed by those who have gone, and why, until they are back or it is long ago', () => {
    const room = new CoordinatorBench().join('bob').join('cid').join('dan');
    room.send({ type: 'peerClosed', peer: peer('bob'), reason: 'the other side stopped answering' });
    room.from('cid', { type: 'leave', reason: '' }).send({ type: 'peerClosed', peer: peer('cid'), reason: 'closed' });
    const gone = [{ name: 'bob', reason: 'the other side stopped answering' }, { name: 'cid', reason: 'it left the room' }];
    expect(coordinatorView(room.state).gone).toEqual(gone);
    const told = room.passWith(600, 'dan').filter((effect) => effect.type === 'send' && effect.message.type === 'peers');
    expect(told.at(-1)).toMatchObject({ to: 'dan', message: { gone } });
    room.join('bob');
    expect(coordinatorView(room.state).gone).toEqual(gone.slice(1));
    room.passWith(31_000, 'bob', 'dan');
    expect(coordinatorView(room.state).gone).toEqual([]);
  });
});
