/** Who gets a step's update from whom, and what happens when somebody does not get it. */
import { describe, expect, it } from 'vitest';
import { relayPauseMs } from '../../src/room/limits.ts';
import { CoordinatorBench, peer, step } from '../room/bench.ts';

const names = ['bob', 'cid', 'dan', 'eve', 'fay'];

/** All hold the weights; nobody may follow, so that nobody is set apart. */
function roomOf(...members: readonly string[]): CoordinatorBench {
  const room = new CoordinatorBench({ relaysFrom: 3, leaseUntilMs: Infinity });
  for (const name of members) room.join(name);
  room.passWith(500, ...members);
  return room;
}

/** Everybody who was told to be fed says that it is. */
function connected(room: CoordinatorBench): CoordinatorBench {
  for (const { id, feed } of room.state.peers.values()) if (feed !== null) room.from(id, { type: 'fed', term: room.state.config.term, from: feed.from });
  return room;
}

/** From each member to who feeds it. */
const feedsOf = ({ state }: CoordinatorBench) => Object.fromEntries([...state.peers.values()].map(({ id, feed }) => [id, feed?.from ?? null]));

/** Computed by the coordinator alone, as far as these tests care. */
function commitStep(room: CoordinatorBench): CoordinatorBench {
  for (const { id } of [...(room.state.work?.assignments.values() ?? [])].filter(({ worker }) => worker !== 'ada')) {
    const worker = room.state.work?.assignments.get(id)?.worker ?? '';
    room.contribute(worker, id).added(id);
  }
  const own = room.state.own.running ?? '';
  return room.ownResult().added(own).committed();
}

/** The one that members are fed by first. */
const rootOf = (room: CoordinatorBench): string => Object.entries(feedsOf(room)).find(([, from]) => from === null)?.[0] ?? '';

describe('updates through members', () => {
  it('come from the coordinator alone in a small room', () => {
    const room = roomOf('bob', 'cid');
    expect(feedsOf(room)).toEqual({ bob: null, cid: null });
    expect(commitStep(room).of('sendUpdate')).toEqual([{ type: 'sendUpdate', whole: ['bob', 'cid'], forward: [], fed: [], step: 0 }]);
  });

  it('go to one member, from it to two, and from those to the others', () => {
    const room = roomOf(...names);
    const feeds = feedsOf(room);
    const root = rootOf(room);
    const children = (of: string): string[] => names.filter((name) => feeds[name] === of);
    expect(names.filter((name) => feeds[name] === null)).toEqual([root]);
    expect(children(root)).toHaveLength(2);
    expect(children(root).flatMap(children)).toHaveLength(2);
  });

  it('go on to come from the coordinator until somebody says that another one feeds it', () => {
    const room = roomOf(...names);
    const [whole] = commitStep(room).of('sendUpdate');
    expect(whole).toMatchObject({ forward: [], fed: [] });
    expect(whole?.whole).toHaveLength(5);
    for (const name of names) room.applied(name);
    connected(room);
    const [update] = commitStep(room).of('sendUpdate');
    expect(update).toMatchObject({ whole: [], forward: [rootOf(room)] });
    expect(update?.fed).toHaveLength(4);
    expect(room.of('sendUpdate')).toHaveLength(1);
  });

  it('are told in the table of peers', () => {
    const room = connected(roomOf(...names));
    expect(room.row(rootOf(room))).toMatchObject({ forwardsTo: 2 });
  });

  it('go directly again to those whose relay is gone, rests, is silent or late', () => {
    for (const trouble of ['gone', 'rests', 'silent'] as const) {
      const room = connected(roomOf(...names));
      const root = rootOf(room);
      const orphans = names.filter((name) => feedsOf(room)[name] === root);
      if (trouble === 'gone') room.send({ type: 'peerClosed', peer: peer(root), reason: '' });
      if (trouble === 'rests') room.from(root, { type: 'presence', term: room.state.config.term, presence: { isHidden: true, rest: 'battery' } });
      const seen = room.passWith(trouble === 'silent' ? 4_000 : 500, ...names.filter((name) => name !== root));
      const told = seen.flatMap((effect) => (effect.type === 'send' && effect.message.type === 'feed' && effect.message.from === null ? [effect.to] : []));
      expect(told, trouble).toEqual(expect.arrayContaining(orphans));
      expect(Object.values(feedsOf(room)), trouble).not.toContain(root);
    }
  });

  it('are sent again, once, to whoever misses one', () => {
    const room = connected(roomOf(...names));
    const fed = commitStep(room).of('sendUpdate')[0]?.fed[0] ?? '';
    const missed = { type: 'missed', term: room.state.config.term, step: step(0), why: 'gone' } as const;
    expect(room.from(fed, missed).of('sendUpdate')).toEqual([{ type: 'sendUpdate', whole: [fed], forward: [], fed: [], step: 0 }]);
    expect(room.from(fed, missed).of('sendUpdate')).toEqual([]);
    expect(room.from(rootOf(room), { ...missed, step: step(7) }).of('sendUpdate'), 'of a step that nobody has').toEqual([]);
  });

  it('are not asked any more of a browser that forwarded something else, and for a while not of one that was late', () => {
    for (const why of ['wrong', 'late'] as const) {
      const room = connected(roomOf(...names));
      const root = rootOf(room);
      const child = names.find((name) => feedsOf(room)[name] === root) ?? '';
      room.from(child, { type: 'missed', term: room.state.config.term, step: step(0), why });
      room.passWith(1_000, ...names);
      expect(Object.values(feedsOf(room)), why).not.toContain(root);
      // Back under the same name and with the same browser.
      if (why === 'wrong') room.join(root);
      else room.passWith(relayPauseMs, ...names);
      for (const name of names.filter((each) => each !== root)) room.send({ type: 'peerClosed', peer: peer(name), reason: '' });
      for (const name of ['gus', 'hal', 'ida']) room.from(root, { type: 'pong', nonce: 1 }).join(name);
      for (const name of ['gus', 'hal', 'ida']) room.from(name, { type: 'presence', term: room.state.config.term, presence: { isHidden: true, rest: 'battery' } });
      room.passWith(1_000, root, 'gus', 'hal', 'ida');
      // Nobody else could.
      expect(Object.values(feedsOf(room)).includes(peer(root)), why).toBe(why === 'late');
    }
  });

  it('are never forwarded by the successor, whose steps are waited for, nor by one that is late', () => {
    const room = new CoordinatorBench({ relaysFrom: 3, leaseUntilMs: Infinity });
    for (const name of names) room.join(name, { canSucceed: name === 'bob' });
    room.passWith(500, ...names);
    expect(room.state.successor?.peer).toBe('bob');
    expect(feedsOf(room)['bob']).toBeNull();
    expect(Object.values(feedsOf(room))).not.toContain('bob');
    expect(commitStep(connected(room)).of('sendUpdate')).toMatchObject([{ whole: [] }, { whole: ['bob'], fed: [] }]);
  });
});
