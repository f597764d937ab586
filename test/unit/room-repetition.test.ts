/** Near a step's end: idle workers repeat what somebody is overdue with, and every micro-batch counts once whoever wins. */
import { describe, expect, test } from 'vitest';
import { CoordinatorBench, term } from '../room/bench.ts';

/** Everybody is as fast as everybody else. */
function evenStep(room: CoordinatorBench): void {
  const answerMs = ['ada', 'bob', 'cid'].map((id) => [id, 500 * room.microbatchesOf(id)]);
  room.finishStep(Object.fromEntries(answerMs) as Record<string, number>);
}

/** Ada and Bob have answered, Cid is overdue with two micro-batches, which Ada and Bob repeat. */
function overdue(): CoordinatorBench {
  const room = new CoordinatorBench().join('bob').join('cid');
  // A dozen steps tell how fast everybody is.
  for (let count = 0; count < 12; count += 1) evenStep(room);
  expect(room.microbatchesOf('cid')).toBe(2);
  room.nowMs += 1_000;
  const [own] = room.assigned('ada');
  room.ownResult().added(own?.id ?? '');
  const [bobs] = room.assigned('bob');
  room.contribute('bob').added(bobs?.id ?? '');
  return room;
}

function repeated(): CoordinatorBench {
  const room = overdue();
  room.passWith(1_000, 'bob', 'cid');
  return room;
}

const original = (room: CoordinatorBench) => room.assigned('cid')[0];

describe('work that is overdue', () => {
  test('is repeated by whoever is idle, not before half as long again as expected', () => {
    const room = overdue();
    room.passWith(500, 'bob', 'cid');
    expect([room.microbatchesOf('ada'), room.microbatchesOf('bob')]).toEqual([0, 0]);
    room.passWith(500, 'bob', 'cid');
    expect([room.microbatchesOf('ada'), room.microbatchesOf('bob')]).toEqual([1, 1]);
    expect([...room.assigned('ada'), ...room.assigned('bob')].flatMap(({ microbatches }) => microbatches)).toEqual(original(room)?.microbatches);
  });

  test('counts once when it comes after all: the repetitions are cancelled', () => {
    const room = repeated();
    const [bobs] = room.assigned('bob');
    const id = original(room)?.id ?? '';
    room.contribute('cid');
    expect(room.of('cancelOwn')).toHaveLength(1);
    expect(room.sentTo('bob')).toContainEqual({ type: 'cancel', term: 3, assignment: bobs?.id });
    expect(room.added(id).of('commit')).toMatchObject([{ weightSum: 6 * 9 }]);
    room.send({ type: 'blob', from: 'bob' as never, ref: 'late' as never, bytes: 1, header: { kind: 'contribution', term: term(3), step: room.state.step, assignment: bobs?.id ?? '', lossSum: 1, weightSum: 9, computeMs: 1, tokens: 1 } });
    expect(room.of('discardBlob')).toHaveLength(1);
  });

  test('counts once when a repetition is first: the original is cancelled, and what it still sends is discarded', () => {
    const room = repeated();
    const cids = original(room);
    const [bobs] = room.assigned('bob');
    room.contribute('bob');
    expect(room.sentTo('cid')).toContainEqual({ type: 'cancel', term: 3, assignment: cids?.id });
    expect(room.contribute('cid', cids?.id).of('discardBlob')).toHaveLength(1);
    room.added(bobs?.id ?? '');
    expect(room.of('commit')).toEqual([]);
    const [adas] = room.assigned('ada');
    expect(room.ownResult().added(adas?.id ?? '').of('commit')).toMatchObject([{ weightSum: 6 * 9 }]);
  });

  test('whose worker leaves is left to the repetitions', () => {
    const room = repeated();
    room.send({ type: 'peerClosed', peer: 'cid' as never, reason: '' });
    expect(room.state.work?.pool).toEqual([]);
    expect([room.microbatchesOf('ada'), room.microbatchesOf('bob')]).toEqual([1, 1]);
  });

  test('whose repetition is lost stays with its worker, and may be repeated again', () => {
    const room = repeated();
    room.send({ type: 'peerClosed', peer: 'bob' as never, reason: '' });
    expect(room.microbatchesOf('cid')).toBe(2);
    // Ada's half alone could not win.
    expect(room.of('cancelOwn')).toHaveLength(1);
    expect(room.state.work?.pool).toEqual([]);
    room.ownResult({ failed: true }).passWith(5_000, 'cid');
    expect(room.microbatchesOf('ada')).toBeGreaterThan(0);
  });

  test('makes its worker slower in the accounts, and is not held against it otherwise', () => {
    const room = repeated();
    const before = room.state.peers.get('cid' as never)?.work;
    room.contribute('bob');
    const after = room.state.peers.get('cid' as never)?.work;
    expect(after?.speed.perSecond).toBeLessThan(before?.speed.perSecond ?? 0);
    expect(after?.failures).toBe(0);
  });
});

test('nothing is repeated while work waits for somebody, or when everybody is in time', () => {
  const room = new CoordinatorBench().join('bob').join('cid');
  evenStep(room);
  const before = room.state.assignmentsMade;
  for (let count = 0; count < 4; count += 1) evenStep(room);
  // The step after them is given out too.
  expect(room.state.assignmentsMade - before).toBe(4 * 3);
});
