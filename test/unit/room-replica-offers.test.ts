/** How newcomers get the weights: what is announced to whom, and who is asked to help. */
import { describe, expect, test } from 'vitest';
import { CoordinatorBench, hashAt, MemberBench, replicaOffer, step, term } from '../room/bench.ts';

/** Bob works along; a step is done, and he has not confirmed its update. */
function afterStep(): CoordinatorBench {
  const room = new CoordinatorBench({ sharesReplica: true }).join('bob');
  for (const { id } of room.assigned('bob')) room.contribute('bob', id).added(id);
  for (const { id } of room.assigned('ada')) room.ownResult().added(id);
  return room.committed();
}

describe('a large replica', () => {
  test('is also to be had from members that hold the same weights, who are asked to keep a copy', () => {
    const room = new CoordinatorBench({ sharesReplica: true });
    room.join('bob').hello('cid');
    expect(room.sentTo('bob')).toContainEqual({ type: 'share', term: 3, step: 0 });
    room.ready('cid').hello('dan');
    expect(room.sentTo('cid')).toContainEqual({ type: 'share', term: 3, step: 0 });
    expect(room.of('offerReplica')).toEqual([{ type: 'offerReplica', to: 'dan', step: 0, sources: ['bob', 'cid'] }]);
  });

  test('is kept by three members at most, who are asked once for each step', () => {
    const room = new CoordinatorBench({ sharesReplica: true });
    for (const id of ['bob', 'cid', 'dan', 'eve']) room.join(id);
    const [{ sources } = { sources: [] }] = room.hello('fay').of('offerReplica');
    expect(sources).toHaveLength(3);
    expect(room.hello('gus').of('offerReplica')).toMatchObject([{ sources }]);
    expect(room.of('send').filter(({ message }) => message.type === 'share')).toEqual([]);
  });

  test('is announced only when somebody has confirmed the newest weights, or after two seconds', () => {
    const room = afterStep();
    const at = room.state.step;
    room.hello('cid');
    expect(room.of('offerReplica')).toEqual([]);
    room.from('bob', { type: 'applied', term: term(3), step: at, hash: hashAt(at) });
    expect(room.of('offerReplica')).toMatchObject([{ to: 'cid', step: at, sources: ['bob'] }]);
  });

  test('waits for nobody longer than that', () => {
    const room = afterStep().hello('cid');
    expect(room.passWith(2_500, 'bob', 'cid').filter(({ type }) => type === 'offerReplica')).toMatchObject([{ to: 'cid', sources: [] }]);
  });
});

test('a newcomer is not kept waiting by one step after another', () => {
  const room = afterStep().hello('cid');
  const offers: unknown[] = [];
  for (let count = 0; count < 4 && offers.length === 0; count += 1) {
    offers.push(...room.passWith(1_000, 'bob', 'cid').filter(({ type }) => type === 'offerReplica'));
    for (const { id, worker } of room.state.work?.assignments.values() ?? []) {
      if (worker === 'ada') room.ownResult();
      room.added(id);
    }
    room.committed();
    offers.push(...room.of('offerReplica'));
  }
  expect(offers).toHaveLength(1);
});

test('a small replica comes from the coordinator alone', () => {
  const room = new CoordinatorBench({ sharesReplica: false }).join('bob').hello('cid');
  expect(room.of('offerReplica')).toMatchObject([{ to: 'cid', sources: [] }]);
  expect(room.of('send').filter(({ message }) => message.type === 'share')).toEqual([]);
});

test('pieces go to whoever was told of that copy and has not confirmed it, and to nobody else', () => {
  const room = new CoordinatorBench().hello('bob');
  room.from('bob', { type: 'want', term: term(3), step: step(0), piece: 7 });
  expect(room.of('sendPiece')).toEqual([{ type: 'sendPiece', to: 'bob', step: 0, piece: 7 }]);
  room.from('bob', { type: 'want', term: term(3), step: step(1), piece: 7 });
  expect(room.of('sendPiece')).toEqual([]);
  expect(room.sentTo('bob')).toContainEqual({ type: 'missing', term: 3, step: 1, piece: 7 });
  room.ready('bob').from('bob', { type: 'want', term: term(3), step: step(0), piece: 7 });
  expect(room.of('sendPiece')).toEqual([]);
  room.hello('eye', { wantsToWatch: true }).from('eye', { type: 'want', term: term(3), step: step(0), piece: 7 });
  expect(room.of('sendPiece')).toEqual([]);
});

describe('a member asked to keep a copy', () => {
  const share = (at: number) => ({ type: 'share', term: term(3), step: step(at) }) as const;

  test('does so of the weights it holds', () => {
    expect(new MemberBench().join().message(share(5)).of('shareReplica')).toEqual([{ type: 'shareReplica', step: 5 }]);
  });

  test('does not of any others, nor while they change', () => {
    const member = new MemberBench().join();
    expect(member.message(share(4)).of('shareReplica')).toEqual([]);
    member.blob({ kind: 'update', term: term(3), step: step(5) });
    expect(member.message(share(5)).of('shareReplica')).toEqual([]);
    expect(member.message(share(6)).of('shareReplica')).toEqual([]);
  });
});

test('a replica that could not be fetched is asked for again', () => {
  const member = new MemberBench().connect().welcome().blob(replicaOffer(term(3), step(5), ['cid']));
  expect(member.of('loadReplica')).toMatchObject([{ step: 5, offer: { sources: ['cid'] } }]);
  expect(member.send({ type: 'replicaFailed', step: step(5), reason: 'nobody has it' }).sent).toEqual([{ type: 'refetch', term: 3 }]);
  expect(member.blob(replicaOffer(term(3), step(6))).of('loadReplica')).toMatchObject([{ step: 6 }]);
});
