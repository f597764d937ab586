/** What the room's owner commands, as both machines carry it out. That it is really the owner is not theirs to know. */
import { describe, expect, test } from 'vitest';
import type { OwnerCommand, RoomRules } from '../../src/room/rules.ts';
import { fromStep, noRules } from '../../src/room/rules.ts';
import { CoordinatorBench, holderOf, MemberBench, peer, step, term } from '../room/bench.ts';

/** Ada leads; Bob is her successor, named in the directory; Cid is there too. */
function room(): CoordinatorBench {
  const bench = new CoordinatorBench({ leaseUntilMs: Infinity }).join('bob', { canSucceed: true }).join('cid');
  bench.from('bob', { type: 'warm', term: term(3), step: step(0) });
  return bench.send({ type: 'successorNamed', holderHash: holderOf('bob') });
}

/** `order`: what tells it from every other; the same again is the same order. */
function order(bench: CoordinatorBench, command: OwnerCommand, revision = bench.state.rules.revision + 1, from = 'cid', id = JSON.stringify(command)): CoordinatorBench {
  return bench.send({ type: 'ownerCommand', from: peer(from), order: id, revision, command });
}

function keep(bench: CoordinatorBench, revision = 1): CoordinatorBench {
  return bench.from('bob', { type: 'kept', term: term(3), revision });
}

const rename: OwnerCommand = { kind: 'rename', title: 'Whales' };

describe('a command', () => {
  test('is told to the successor first, and is in force for everybody once that keeps it', () => {
    const bench = order(room(), rename);
    expect(bench.sentTo('bob')).toMatchObject([{ type: 'rules', rules: { revision: 1, title: 'Whales' }, areInForce: false }]);
    expect(bench.sentTo('cid')).toEqual([]);
    expect(bench.state.rules).toEqual(noRules);
    keep(bench);
    expect(bench.sentTo('cid')).toMatchObject([{ type: 'rules', rules: { revision: 1, title: 'Whales', latest: { by: 'cid' } }, areInForce: true }]);
    expect(bench.sentTo('bob'), 'who only kept them').toMatchObject([{ type: 'rules', areInForce: true }]);
    expect(bench.state.rules.title).toBe('Whales');
  });

  test('waits until a successor that was lost with it can lead no more', () => {
    const bench = order(room(), rename);
    bench.send({ type: 'peerClosed', peer: peer('bob'), reason: '' });
    expect(bench.state.rules).toEqual(noRules);
    bench.send({ type: 'successorNamed', holderHash: null });
    expect(bench.state.rules.title).toBe('Whales');
  });

  test('that comes again while it is on its way is not declined, and one that was overtaken is', () => {
    const bench = order(order(room(), rename), rename);
    expect(bench.sentTo('cid')).toEqual([]);
    keep(bench);
    order(bench, rename, 1);
    expect(bench.sentTo('cid')).toEqual([]);
    order(bench, { kind: 'rename', title: 'Ships' }, 1);
    expect(bench.sentTo('cid')).toMatchObject([{ type: 'declined', revision: 1, code: 'outdated' }]);
    expect(bench.state.rules.title).toBe('Whales');
  });

  test('of another tab under the same revision is told from it', () => {
    const bench = order(order(room(), rename), rename, 1, 'cid', 'of another tab');
    expect(bench.sentTo('cid')).toMatchObject([{ type: 'declined', revision: 1, code: 'outdated' }]);
    keep(bench);
    expect(bench.state.rules.orders).toEqual([JSON.stringify(rename)]);
  });

  test('of the owner who leads is answered without a message', () => {
    const bench = order(new CoordinatorBench(), { kind: 'remove', peer: peer('nobody') }, 1, 'ada');
    expect(bench.of('declined')).toMatchObject([{ revision: 1, code: 'impossible' }]);
    order(bench, rename, 2, 'ada');
    expect(bench.state.rules).toMatchObject({ revision: 2, title: 'Whales', latest: { by: 'Ada' } });
  });

  test('is kept by whoever is named as successor after it', () => {
    const bench = new CoordinatorBench({ leaseUntilMs: Infinity }).join('bob', { canSucceed: true });
    order(bench, rename, 1, 'ada');
    bench.from('bob', { type: 'warm', term: term(3), step: step(0) });
    expect(bench.of('nameSuccessor'), 'Bob may not have it yet').toEqual([]);
    keep(bench);
    expect(bench.of('nameSuccessor')).toHaveLength(1);
  });

  test.each<[string, OwnerCommand]>([
    ['an invisible name', { kind: 'rename', title: '\u200b' }],
    ['removing whoever leads', { kind: 'remove', peer: peer('ada') }],
    ['removing the owner’s own browser', { kind: 'remove', peer: peer('cid') }],
    ['removing somebody who is gone', { kind: 'remove', peer: peer('eve') }],
  ])('for %s is declined with a reason', (_what, command) => {
    const bench = order(room(), command);
    expect(bench.sentTo('cid')).toMatchObject([{ type: 'declined', code: 'impossible', reason: expect.stringMatching(/./) as unknown }]);
    expect(bench.state.proposed).toBeNull();
  });
});

describe('another schedule', () => {
  const alone = (steps = 3) => new CoordinatorBench({ steps, weightOfMicrobatch: () => 9 });
  const finish = (bench: CoordinatorBench) => bench.finishStep({ ada: 200 });

  test('holds from the next step on that is not begun, and its history says so', () => {
    const bench = order(finish(alone()), { kind: 'schedule', learningRate: 0.5 }, 1, 'ada');
    expect(bench.state.rules.changes).toEqual([{ step: 2, learningRate: 0.5, by: 'Ada' }]);
    finish(finish(bench));
    expect(bench.state.history.map(({ change }) => change)).toEqual([undefined, undefined, { learningRate: 0.5, by: 'Ada' }]);
  });

  test('is no part of a commit before it is in force, nor left out of one after', () => {
    const bench = room();
    bench.from('bob', { type: 'pong', nonce: 1 });
    order(bench, { kind: 'schedule', learningRate: 0.5 });
    const commitsOf = (from: CoordinatorBench) => from.of('commit').map(({ step, changes }) => ({ step, changes: changes.length }));
    const commits = [];
    for (const id of ['ada', 'bob', 'cid']) for (const { id: assignment } of bench.assigned(id)) {
      if (id === 'ada') bench.ownResult();
      else bench.contribute(id, assignment);
      commits.push(...commitsOf(bench.added(assignment)));
    }
    expect(commits, 'step 0 was begun before').toEqual([{ step: 0, changes: 0 }]);
    bench.committed().applied('bob').applied('cid');
    for (const id of ['ada', 'bob', 'cid']) for (const { id: assignment } of bench.assigned(id)) {
      if (id === 'ada') bench.ownResult();
      else bench.contribute(id, assignment);
      bench.added(assignment);
      expect(bench.of('commit'), 'Bob may not know of it').toEqual([]);
    }
    expect(commitsOf(keep(bench))).toEqual([{ step: 1, changes: 1 }]);
  });

  test('lets a finished run go on, and a running one end sooner', () => {
    const bench = finish(finish(finish(alone())));
    expect(bench.state.phase).toBe('finished');
    order(bench, { kind: 'schedule', steps: 5 }, 1, 'ada');
    expect(bench.state).toMatchObject({ phase: 'running', step: 3 });
    order(finish(bench), { kind: 'schedule', steps: 4 }, 2, 'ada');
    expect(bench.of('declined'), 'step 4 is begun').toMatchObject([{ code: 'impossible' }]);
    finish(bench);
    expect(bench.state).toMatchObject({ phase: 'finished', step: 5 });
  });

  test('that ends the run where it is finishes it at once', () => {
    const bench = finish(new CoordinatorBench({ steps: 9 })).send({ type: 'command', command: 'pause' });
    finish(bench);
    order(bench, { kind: 'schedule', steps: 2 }, 1, 'ada');
    expect(bench.state).toMatchObject({ phase: 'finished', step: 2 });
    expect(bench.of('checkpoint')).toMatchObject([{ reason: 'finished' }]);
  });

  test('changed twice before its step is begun is one change', () => {
    const bench = order(alone(), { kind: 'schedule', learningRate: 0.5 }, 1, 'ada');
    order(bench, { kind: 'schedule', steps: 8 }, 2, 'ada');
    expect(bench.state.rules.changes).toEqual([{ step: 1, learningRate: 0.5, steps: 8, by: 'Ada' }]);
    order(bench, { kind: 'schedule' }, 3, 'ada');
    expect(bench.of('declined')).toMatchObject([{ reason: 'Nothing was to be changed.' }]);
  });
});

describe('the lead is handed over', () => {
  const handOver = (to: string): OwnerCommand => ({ kind: 'handOver', peer: peer(to) });

  test('between two steps, once the successor has everything', () => {
    const bench = keep(order(room(), handOver('bob')));
    expect(bench.of('handOver'), 'step 0 is under way').toEqual([]);
    bench.finishStep({ ada: 200, bob: 200, cid: 200 });
    expect(bench.state).toMatchObject({ isHandedOver: true, step: 1, work: null, unannounced: null });
    expect(bench.passWith(2_000, 'bob', 'cid'), 'nothing more is decided here').toEqual([]);
  });

  test('to another than the successor: that one is made it first, and the old one is no worse for it', () => {
    const bench = new CoordinatorBench({ leaseUntilMs: Infinity }).join('bob', { canSucceed: true }).join('cid', { canSucceed: true });
    bench.from('bob', { type: 'warm', term: term(3), step: step(0) }).send({ type: 'successorNamed', holderHash: holderOf('bob') });
    order(bench, handOver('cid'), 1, 'ada');
    expect(bench.of('appoint')).toMatchObject([{ to: 'cid' }]);
    expect(bench.sentTo('bob')).toContainEqual({ type: 'dismissed', term: 3 });
    expect(bench.state.peers.get(peer('bob'))?.failedSuccessions).toBe(0);
  });

  test('not to one that turns out not to be able to: its row says why', () => {
    const bench = new CoordinatorBench({ leaseUntilMs: Infinity }).join('bob', { canSucceed: true });
    order(bench, handOver('bob'), 1, 'ada');
    for (const reason of ['Its GPU was busy.', 'There is no memory for it.']) bench.from('bob', { type: 'unable', term: term(3), reason }).passWith(1_000, 'bob');
    expect(bench.state).toMatchObject({ heir: null, successor: null, isHandedOver: false });
    expect(bench.state.peers.get(peer('bob'))).toMatchObject({ stage: 'member', note: 'It was to lead, and could not: There is no memory for it.' });
    bench.passWith(1_000, 'bob');
    expect(bench.of('appoint'), 'not tried any more').toEqual([]);
  });

  test('not to a watcher, nor to whoever leads, and not any more to one that has gone', () => {
    const bench = room().join('eye', { wantsToWatch: true, canSucceed: true });
    for (const [revision, to] of ['eye', 'ada', 'cid', 'nobody'].entries()) {
      order(bench, handOver(to), revision + 1, 'ada');
      expect(bench.of('declined'), to).toMatchObject([{ code: 'impossible' }]);
    }
    order(bench, handOver('bob'), 5, 'ada').send({ type: 'peerClosed', peer: peer('bob'), reason: '' });
    bench.send({ type: 'successorNamed', holderHash: null });
    expect(bench.state).toMatchObject({ heir: null, isHandedOver: false });
    expect(bench.state.phase).toBe('running');
  });
});

describe('whoever is removed', () => {
  test('loses its work and its connection, and its browser is not let in again', () => {
    const bench = keep(order(room(), { kind: 'remove', peer: peer('bob') }, 1, 'ada'));
    expect(bench.state.rules.removed, 'Bob may still lead').toEqual([]);
    bench.send({ type: 'successorNamed', holderHash: null });
    expect(bench.sentTo('bob')).toMatchObject([{ type: 'rules', rules: { removed: [holderOf('bob')] } }]);
    expect(bench.assigned('bob')).toEqual([]);
    expect(bench.passWith(3_000, 'cid')).toContainEqual({ type: 'closePeer', peer: 'bob', reason: 'the owner has removed it' });
    bench.hello('again', { holderHash: holderOf('bob') });
    expect(bench.sentTo('again')).toMatchObject([{ type: 'refused', code: 'removed' }]);
  });

  test('is not appointed as successor meanwhile', () => {
    const bench = order(room(), { kind: 'remove', peer: peer('bob') }, 1, 'ada');
    bench.passWith(1_000, 'bob', 'cid');
    expect(bench.state.successor).toBeNull();
  });
});

test('a renewed key goes to everybody who is in the room, and to those who come later', () => {
  const keys = { current: 'n'.repeat(32), former: 'o'.repeat(32) };
  const bench = keep(order(room(), { kind: 'renewKey', key: keys.current, former: keys.former }));
  expect(bench.sentTo('cid')).toMatchObject([{ type: 'rules', rules: { keys } }]);
  expect(bench.hello('dan').sentTo('dan')).toMatchObject([{ type: 'welcome', rules: { keys } }]);
});

test('a room is closed only when the step that is committed is announced, so that it is saved', () => {
  const bench = room();
  for (const { id, worker } of bench.state.work?.assignments.values() ?? []) (worker === 'ada' ? bench.ownResult() : bench.contribute(worker, id)).added(id);
  bench.committed();
  expect(bench.state.unannounced).not.toBeNull();
  keep(order(bench, { kind: 'close' }));
  expect(bench.state.rules.isClosed).toBe(true);
  expect([bench.of('closeRoom'), bench.state.work]).toEqual([[], null]);
  bench.applied('bob').pass(250);
  expect(bench.of('checkpoint')).toMatchObject([{ step: 1, reason: 'stopped' }]);
  expect(bench.of('closeRoom')).toHaveLength(1);
});

test('a title that normalizing makes longer than a title may be is cut', () => {
  const bench = keep(order(room(), { kind: 'rename', title: '\u0958'.repeat(120) }));
  expect(bench.state.rules.title?.length).toBeLessThanOrEqual(120);
});

test('a key that is renewed again follows the one that the room has, whatever the order says', () => {
  const key = (letter: string) => letter.repeat(20);
  const bench = keep(order(room(), { kind: 'renewKey', key: key('b'), former: key('a') }));
  keep(order(bench, { kind: 'renewKey', key: key('c'), former: key('a') }), 2);
  expect(bench.state.rules.keys).toEqual({ current: key('c'), former: key('b') });
});

test('a closed room is saved, given up, and led by nobody', () => {
  const bench = keep(order(room(), { kind: 'close' }));
  expect(bench.state.phase).toBe('stopped');
  expect(bench.of('closeRoom')).toHaveLength(1);
  expect(bench.of('checkpoint')).toMatchObject([{ reason: 'stopped' }]);
  order(bench, rename, 9);
  expect(bench.sentTo('cid')).toMatchObject([{ type: 'declined', code: 'impossible' }]);
});

describe('a member', () => {
  const rules = (change: Partial<RoomRules>): RoomRules => ({ ...noRules, revision: 4, latest: { kind: 'close', by: 'Ada', about: '' }, ...change });

  test('keeps newer rules, says so, and leads with them', () => {
    const bench = new MemberBench().join().message({ type: 'rules', term: term(3), rules: rules({ title: 'Whales' }), areInForce: true });
    expect(bench.sent).toEqual([{ type: 'kept', term: 3, revision: 4 }]);
    bench.message({ type: 'rules', term: term(3), rules: rules({ title: 'Old', revision: 3 }), areInForce: true });
    expect(bench.view.rules.title).toBe('Whales');
  });

  test('that only keeps what is not in force yet says so, and does not act on it', () => {
    const bench = new MemberBench().join();
    bench.message({ type: 'rules', term: term(3), rules: rules({ title: 'Whales', isClosed: true }), areInForce: false });
    expect(bench.view).toMatchObject({ connection: 'joined', rules: { title: 'Whales' }, areRulesInForce: false });
    expect(bench.sent).toEqual([{ type: 'kept', term: 3, revision: 4 }]);
    bench.message({ type: 'rules', term: term(3), rules: rules({ title: 'Whales', isClosed: true }), areInForce: true });
    expect(bench.view).toMatchObject({ connection: 'refused', areRulesInForce: true });
  });

  test('that joins late finds changes of the schedule in the history', () => {
    const point = (at: number) => ({ step: step(at), loss: 1, gradNorm: 1, lr: 1, ms: 1, tokens: 1, bytesDown: 0, bytesUp: 0 });
    const changed = rules({ changes: [{ step: step(1), steps: 200, by: 'Ada' }] });
    const bench = new MemberBench().connect().welcome({ historyPoints: 3, rules: changed }).history([0, 1, 2].map(point));
    expect(bench.view.history[1]).toEqual({ ...point(1), change: { steps: 200, by: 'Ada' } });
    expect(bench.view.steps).toBe(200);
  });

  test('that is removed goes, and does not come back', () => {
    const bench = new MemberBench({ saved: { step: step(4), term: term(2) } }).join();
    bench.message({ type: 'rules', term: term(3), rules: rules({ removed: [holderOf('bob')] }), areInForce: true });
    expect(bench.view).toMatchObject({ connection: 'refused', problem: { code: 'removed' } });
    expect(bench.pass(60_000)).toEqual([]);
  });

  test('of a room that is closed says by whom, and does not lead it', () => {
    const bench = new MemberBench({ saved: { step: step(4), term: term(2) } }).join().message({ type: 'rules', term: term(3), rules: rules({ isClosed: true }), areInForce: true });
    expect(bench.view).toMatchObject({ connection: 'refused', problem: { code: 'room-closed', message: 'Ada closed the room.' } });
    expect(bench.pass(60_000)).toEqual([]);
  });

  test('that is the owner’s sends its commands while it is in the room', () => {
    const signed = { revision: 1, command: '{}', signature: 'x'.repeat(86) };
    expect(new MemberBench().connect().send({ type: 'ownerCommand', signed }).sent).toEqual([]);
    expect(new MemberBench().join().send({ type: 'ownerCommand', signed }).sent).toEqual([{ type: 'owner', term: 3, ...signed }]);
  });
});

test('a browser whose steps are older than the rules takes up what it missed from where it begins', () => {
  const changes = [
    { step: step(2), learningRate: 0.2, by: 'Ada' },
    { step: step(4), learningRate: 0.4, by: 'Ada' },
    { step: step(5), steps: 50, by: 'Eve' },
    { step: step(7), learningRate: 0.7, by: 'Ada' },
  ];
  const point = (at: number) => ({ step: at, ...(at === 2 && { change: { learningRate: 0.2, by: 'Ada' } }) });
  const rules = { ...noRules, revision: 4, changes };
  const history = [0, 1, 2, 3, 4, 5].map(point);
  const [first, , , last] = changes;
  expect(fromStep(rules, history, step(6)).changes).toEqual([first, { step: 6, learningRate: 0.4, steps: 50, by: 'Eve' }, last]);
  expect(fromStep(rules, history, step(7)).changes).toEqual([first, { step: 7, learningRate: 0.7, steps: 50, by: 'Ada' }]);
  expect(fromStep(rules, history, step(4)), 'those that are still to come stay').toBe(rules);
});

test('a browser whose steps were made under orders that the rules have lost says so, and follows the rules from where it begins', () => {
  // Ada's order was carried out on a branch that nobody else had; elsewhere the run was made anew, and others came.
  const lost = { learningRate: 0.1, minLearningRate: 0.01, by: 'Ada' };
  const history = [0, 1, 2, 3].map((at) => ({ step: at, ...(at === 2 && { change: lost }) }));
  const changes = [{ step: step(2), learningRate: 0.3, by: 'Ada' }, { step: step(3), learningRate: 0.5, by: 'Ada' }, { step: step(9), steps: 40, by: 'Ada' }];
  expect(fromStep({ ...noRules, revision: 3, changes }, history, step(4)).changes).toEqual([{ ...lost, step: 2 }, { step: 4, learningRate: 0.5, by: 'Ada' }, changes[2]]);
  expect(fromStep(noRules, history, step(4)).changes, 'the page shows what its history says').toEqual([{ ...lost, step: 2 }]);
});
