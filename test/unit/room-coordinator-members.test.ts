import { describe, expect, test } from 'vitest';
import { brokenDevice, CoordinatorBench, goodDevice, hashAt, peer, step, term } from '../room/bench.ts';

describe('greeting', () => {
  test('a peer that never says hello is closed after ten seconds', () => {
    const room = new CoordinatorBench().send({ type: 'peerOpened', peer: peer('bob') });
    expect(room.pass(9_900).some((effect) => effect.type === 'closePeer')).toBe(false);
    room.pass(600);
    expect(room.of('closePeer')).toMatchObject([{ reason: 'it connected but never said hello' }]);
    expect(room.row('bob')).toBeUndefined();
  });

  test('another protocol version is refused, and the channel closed a little later', () => {
    const room = new CoordinatorBench().hello('bob', { protocol: 99 });
    expect(room.sentTo('bob')).toMatchObject([{ type: 'refused', code: 'version-mismatch' }]);
    expect(room.of('closePeer')).toEqual([]);
    room.pass(2_500);
    expect(room.of('closePeer')).toHaveLength(1);
  });

  test('a newcomer is welcomed with the history and gets the replica of the current step', () => {
    const room = new CoordinatorBench();
    room.finishStep({ ada: 100 });
    room.hello('bob');
    expect(room.sentTo('bob')).toMatchObject([{ type: 'welcome', term: 3, step: 1, replica: 'coming', historyPoints: 1 }]);
    expect(room.of('sendHistory')).toMatchObject([{ to: 'bob', history: [{ step: 0, loss: 2 }] }]);
    expect(room.of('offerReplica')).toEqual([{ type: 'offerReplica', to: 'bob', step: 1, sources: [] }]);
    const order = room.effects.map((effect) => effect.type);
    expect(order.indexOf('sendHistory')).toBeLessThan(order.indexOf('offerReplica'));
  });

  test('there is no history to send before the first step', () => {
    const room = new CoordinatorBench().hello('bob');
    expect(room.sentTo('bob')).toMatchObject([{ type: 'welcome', historyPoints: 0 }]);
    expect(room.of('sendHistory')).toEqual([]);
  });

  test('names are cleaned and made distinct', () => {
    const room = new CoordinatorBench();
    room.hello('a', { name: '  Ada\u0000\u202e  Lovelace ' }).hello('b', { name: 'Ada Lovelace' }).hello('c', { name: ' \n ' }).hello('d', { name: 'Ada' });
    expect(['a', 'b', 'c', 'd'].map((id) => room.row(id)?.name)).toEqual(['Ada Lovelace', 'Ada Lovelace 2', 'Peer', 'Ada 2']);
  });

  test.each([
    ['by choice', { wantsToWatch: true }, undefined],
    ['for want of a GPU', { device: brokenDevice }, 'This browser has no WebGPU.'],
  ])('a watcher %s gets neither replica nor work', (_why, change, note) => {
    const room = new CoordinatorBench().hello('bob', change);
    expect(room.sentTo('bob')).toMatchObject([{ type: 'welcome', replica: 'none' }]);
    expect(room.of('offerReplica')).toEqual([]);
    room.ready('bob').from('bob', { type: 'refetch', term: term(3) });
    expect(room.of('offerReplica')).toEqual([]);
    room.finishStep({ ada: 100 });
    expect(room.microbatchesOf('bob')).toBe(0);
    expect(room.row('bob')).toMatchObject({ role: 'watcher', state: 'watching' });
    expect(room.row('bob')?.note).toBe(note);
  });

  test('who comes back with the current replica need not fetch it again', () => {
    const room = new CoordinatorBench();
    room.finishStep({ ada: 100 });
    room.hello('bob', { replica: { step: step(1), hash: hashAt(1) } });
    expect(room.sentTo('bob')).toMatchObject([{ type: 'welcome', replica: 'kept' }]);
    expect(room.of('offerReplica')).toEqual([]);
    room.ready('bob').finishStep({ ada: 100 });
    expect(room.microbatchesOf('bob')).toBeGreaterThan(0);
  });

  test('a replica with the right step and another hash is not kept', () => {
    const room = new CoordinatorBench().hello('bob', { replica: { step: step(0), hash: hashAt(77) } });
    expect(room.of('offerReplica')).toHaveLength(1);
  });
});

describe('replicas and updates', () => {
  test('joining does not touch the running step, and later updates follow the replica in order', () => {
    const room = new CoordinatorBench();
    const before = room.state.work;
    room.hello('bob');
    expect(room.state.work).toBe(before);
    room.finishStep({ ada: 100 });
    expect(room.of('sendUpdate')).toEqual([{ type: 'sendUpdate', whole: ['bob'], forward: [], fed: [], step: 0 }]);
    expect(room.microbatchesOf('bob')).toBe(0);
    room.finishStep({ ada: 100 });
    expect(room.of('sendUpdate')).toEqual([{ type: 'sendUpdate', whole: ['bob'], forward: [], fed: [], step: 1 }]);
    room.ready('bob', 0).finishStep({ ada: 100 });
    expect(room.microbatchesOf('bob')).toBeGreaterThan(0);
  });

  test('a replica with a wrong hash is sent again; after the second the peer watches, and everybody sees why', () => {
    const room = new CoordinatorBench().hello('bob').hello('cid', { wantsToWatch: true });
    room.from('bob', { type: 'ready', term: term(3), step: step(0), hash: hashAt(9) });
    room.passWith(2_500, 'bob', 'cid');
    expect(room.of('offerReplica')).toHaveLength(1);
    room.from('bob', { type: 'ready', term: term(3), step: step(0), hash: hashAt(9) });
    expect(room.row('bob')).toMatchObject({ role: 'watcher', note: expect.stringContaining('differ') as string });
    expect(room.sentTo('cid')).toMatchObject([{ type: 'peers', peers: [{}, { id: 'bob', note: expect.stringContaining('differ') as string }, {}] }]);
  });

  test('an update that leads to another hash takes the work back and sends the replica again', () => {
    const room = new CoordinatorBench().join('bob').ownResult().added('3.0.0').committed();
    expect(room.microbatchesOf('bob')).toBeGreaterThan(0);
    room.nowMs += 2_100;
    room.from('bob', { type: 'applied', term: term(3), step: step(1), hash: hashAt(9) });
    expect(room.microbatchesOf('bob')).toBe(0);
    expect(room.microbatchesOf('ada')).toBe(6);
    expect(room.of('offerReplica')).toEqual([{ type: 'offerReplica', to: 'bob', step: 1, sources: [] }]);
  });

  test('no replica leaves while a commit runs', () => {
    const room = new CoordinatorBench();
    room.ownResult().added(room.state.work?.assignments.keys().next().value ?? '');
    expect(room.of('commit')).toHaveLength(1);
    room.hello('bob');
    expect(room.of('offerReplica')).toEqual([]);
    room.committed();
    expect(room.of('offerReplica')).toEqual([{ type: 'offerReplica', to: 'bob', step: 1, sources: [] }]);
  });

  test('weights that can’t be read for a newcomer are sent later; after the third time in a row it is refused', () => {
    const room = new CoordinatorBench().hello('bob');
    const fail = () => room.send({ type: 'weightsNotSent', peer: peer('bob'), reason: 'no memory' });
    for (const attempt of [2, 3]) {
      expect(fail().row('bob')?.state).toBe('joining');
      expect(room.passWith(2_500, 'bob').filter((effect) => effect.type === 'offerReplica'), `attempt ${attempt}`).toHaveLength(1);
    }
    expect(fail().sentTo('bob')).toMatchObject([{ type: 'refused', code: 'weights-unreadable', message: expect.stringContaining('no memory') as string }]);
    room.passWith(2_500, 'bob');
    expect(room.row('bob')).toBeUndefined();
  });

  test('weights that were read in between forgive the times before', () => {
    const room = new CoordinatorBench({ startPaused: true }).hello('bob');
    for (let count = 0; count < 4; count += 1) {
      room.send({ type: 'weightsNotSent', peer: peer('bob'), reason: '' });
      room.passWith(2_500, 'bob');
      room.ready('bob');
    }
    expect(room.row('bob')?.state).toBe('ready');
  });

  test('an update that can’t be sent takes the work back and makes a replica due', () => {
    const room = new CoordinatorBench().join('bob').ownResult().added('3.0.0').committed();
    expect(room.microbatchesOf('bob')).toBeGreaterThan(0);
    room.nowMs += 2_100;
    room.send({ type: 'weightsNotSent', peer: peer('bob'), reason: '' });
    expect(room.microbatchesOf('bob')).toBe(0);
    expect(room.of('offerReplica')).toEqual([{ type: 'offerReplica', to: 'bob', step: 1, sources: [] }]);
  });

  test('asking for the replica again and again sends it once in two seconds', () => {
    const room = new CoordinatorBench().join('bob');
    let replicas = 0;
    for (let time = 0; time < 10_000; time += 50) {
      room.nowMs += 50;
      replicas += room.from('bob', { type: 'refetch', term: term(3) }).of('offerReplica').length;
    }
    expect(replicas).toBeLessThanOrEqual(5);
    expect(replicas).toBeGreaterThanOrEqual(4);
  });

  test('a peer too slow for the updates gets no more of them, and a replica when it has caught up', () => {
    const room = new CoordinatorBench({ steps: 1000 }).join('bob', { device: { ...goodDevice, probeTokensPerSecond: 0 } });
    let lastSent = 0;
    for (let count = 0; count < 300; count += 1) {
      for (const { id } of room.assigned('bob')) room.from('bob', { type: 'decline', term: term(3), assignment: id, code: 'behind', reason: '' });
      const running = room.state.own.running;
      if (running !== null) room.ownResult().added(running);
      const next = room.state.own.running;
      if (next !== null) room.ownResult().added(next);
      room.committed();
      if (room.of('sendUpdate').length > 0) lastSent = room.state.step;
    }
    expect(room.state.step).toBe(300);
    expect(lastSent).toBe(256);
    room.nowMs += 2_100;
    room.from('bob', { type: 'applied', term: term(3), step: step(256), hash: hashAt(256) });
    expect(room.of('offerReplica')).toEqual([{ type: 'offerReplica', to: 'bob', step: 300, sources: [] }]);
  });
});

describe('silence and goodbyes', () => {
  test('a silent peer loses its work within three seconds and its place after twenty', () => {
    const room = new CoordinatorBench().join('bob').finishStep({ ada: 100 });
    expect(room.microbatchesOf('bob')).toBeGreaterThan(0);
    room.pass(2_700);
    expect(room.row('bob')?.state).toBe('computing');
    room.pass(300);
    expect(room.row('bob')?.state).toBe('silent');
    expect(room.microbatchesOf('ada')).toBe(6);
    expect(room.pass(16_500).some((effect) => effect.type === 'closePeer')).toBe(false);
    room.pass(1_000);
    expect(room.of('closePeer')).toMatchObject([{ reason: 'nothing was heard from it for too long' }]);
  });

  test('any sign of life ends the silence', () => {
    const room = new CoordinatorBench().join('bob');
    room.pass(5_000);
    expect(room.row('bob')?.state).toBe('silent');
    room.from('bob', { type: 'pong', nonce: 1 });
    expect(room.row('bob')?.state).toBe('ready');
  });

  test('everybody is pinged every second', () => {
    const room = new CoordinatorBench().join('bob').hello('cid', { wantsToWatch: true });
    room.passWith(10_000, 'bob', 'cid');
    for (const id of ['bob', 'cid']) expect(room.sentTo(id).filter((message) => message.type === 'ping')).toHaveLength(10);
  });

  test('a coordinator that itself slept blames nobody for it', () => {
    const room = new CoordinatorBench().join('bob').finishStep({ ada: 100 });
    const work = room.microbatchesOf('bob');
    room.nowMs += 60_000;
    room.send({ type: 'tick' });
    expect(room.row('bob')?.state).toBe('computing');
    expect(room.microbatchesOf('bob')).toBe(work);
    room.pass(4_000);
    expect(room.row('bob')?.state).toBe('silent');
  });

  test('a closed connection gives its work to others at once', () => {
    const room = new CoordinatorBench().join('bob').join('cid').finishStep({ ada: 100 });
    const lost = room.microbatchesOf('bob');
    room.send({ type: 'peerClosed', peer: peer('bob'), reason: 'gone' });
    expect(lost).toBeGreaterThan(0);
    expect(room.microbatchesOf('ada') + room.microbatchesOf('cid')).toBe(6);
    expect(room.sentTo('bob')).toEqual([]);
  });

  test('a leaving peer hands its work back before it goes', () => {
    const room = new CoordinatorBench().join('bob').finishStep({ ada: 100 });
    const [assignment] = room.assigned('bob');
    room.from('bob', { type: 'decline', term: term(3), assignment: assignment?.id ?? '', code: 'leaving', reason: 'bye' });
    expect(room.microbatchesOf('ada') + room.microbatchesOf('bob')).toBe(6);
    room.from('bob', { type: 'leave', reason: 'bye' });
    expect(room.microbatchesOf('ada')).toBe(6);
    expect(room.row('bob')?.state).toBe('leaving');
    room.pass(2_500);
    expect(room.row('bob')).toBeUndefined();
  });

  test('the table of peers is sent at most twice a second', () => {
    const room = new CoordinatorBench({ steps: 1000 }).hello('cid', { wantsToWatch: true });
    let tables = 0;
    for (let time = 0; time < 5_000; time += 50) {
      room.nowMs += 50;
      const running = room.state.own.running ?? '';
      tables += room.ownResult().sentTo('cid').filter((message) => message.type === 'peers').length;
      tables += room.added(running).sentTo('cid').filter((message) => message.type === 'peers').length;
      tables += room.committed().sentTo('cid').filter((message) => message.type === 'peers').length;
    }
    expect(tables).toBeGreaterThanOrEqual(8);
    expect(tables).toBeLessThanOrEqual(10);
  });
});
