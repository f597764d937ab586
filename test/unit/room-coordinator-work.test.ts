import { describe, expect, test } from 'vitest';
import { brokenDevice, CoordinatorBench, goodDevice, hashAt, peer, step, term } from '../room/bench.ts';
import type { BlobRef } from '../../src/room/machine.ts';

/** Ada leads, Bob and Cid are ready; each has shown to be equally fast; a new step has just begun. */
function threeAtWork(change: ConstructorParameters<typeof CoordinatorBench>[0] = {}): CoordinatorBench {
  const room = new CoordinatorBench(change).join('bob').join('cid');
  room.finishStep({ ada: 600 });
  return room.finishStep({ ada: 200, bob: 200, cid: 200 });
}

describe('handing out', () => {
  test('equally fast peers get equal shares, and nobody anything twice', () => {
    const room = threeAtWork();
    expect(['ada', 'bob', 'cid'].map((id) => room.microbatchesOf(id))).toEqual([2, 2, 2]);
    const all = [...(room.state.work?.assignments.values() ?? [])].flatMap((assignment) => assignment.microbatches);
    expect(all.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('speed is measured from assignment to answer: a peer twice as fast gets twice the work', () => {
    const room = new CoordinatorBench().join('bob');
    room.finishStep({ ada: 600 });
    for (let count = 0; count < 5; count += 1) {
      room.finishStep({ ada: 200 * room.microbatchesOf('ada'), bob: 100 * room.microbatchesOf('bob') });
    }
    expect([room.microbatchesOf('ada'), room.microbatchesOf('bob')]).toEqual([2, 4]);
  });

  test('a slow peer still gets one, unless everybody would wait long for it', () => {
    const room = new CoordinatorBench().join('bob');
    room.finishStep({ ada: 600 });
    room.finishStep({ ada: 100 * room.microbatchesOf('ada'), bob: 600 * room.microbatchesOf('bob') });
    expect(room.microbatchesOf('bob')).toBe(1);
    for (let count = 0; count < 4; count += 1) {
      room.finishStep({ ada: 100 * room.microbatchesOf('ada'), bob: 5_000 * room.microbatchesOf('bob') });
    }
    expect(room.microbatchesOf('bob')).toBe(0);
  });

  test('a hopelessly slow peer is tried again now and then', () => {
    const room = new CoordinatorBench().join('bob');
    room.finishStep({ ada: 600 });
    const got: number[] = [];
    for (let count = 0; count < 40; count += 1) {
      got.push(room.microbatchesOf('bob'));
      room.finishStep({ ada: 50 * room.microbatchesOf('ada'), bob: 3_000 * room.microbatchesOf('bob') });
    }
    const later = got.slice(5);
    expect(later.filter((count) => count > 0).length).toBeGreaterThanOrEqual(2);
    expect(later.filter((count) => count > 0).length).toBeLessThanOrEqual(3);
  });

  test('with more peers than micro-batches, equals take turns', () => {
    const room = new CoordinatorBench({ microbatchesPerStep: 2, selfDevice: brokenDevice });
    const names = ['a', 'b', 'c', 'd'];
    for (const name of names) room.join(name);
    const worked = new Set<string>();
    for (let count = 0; count < 6; count += 1) {
      for (const name of names) if (room.microbatchesOf(name) > 0) worked.add(name);
      room.finishStep(Object.fromEntries(names.map((name) => [name, 100])));
    }
    expect([...worked].sort()).toEqual(names);
  });

  test('a newcomer that boasts of its speed gets no more than an equal share', () => {
    const room = new CoordinatorBench().join('bob', { device: { ...goodDevice, probeTokensPerSecond: 1e300 } });
    room.finishStep({ ada: 600 });
    expect(room.microbatchesOf('bob')).toBe(3);
  });

  test('the own device gets its next assignment only when the sums of the one before were added', () => {
    const room = threeAtWork();
    const first = room.state.own.running;
    room.send({ type: 'peerClosed', peer: peer('bob'), reason: '' }).send({ type: 'peerClosed', peer: peer('cid'), reason: '' });
    expect(room.assigned('ada').length).toBeGreaterThan(1);
    expect(room.of('computeOwn')).toEqual([]);
    room.ownResult();
    const types = room.effects.map((effect) => effect.type);
    expect(types.indexOf('addOwn')).toBeGreaterThanOrEqual(0);
    expect(types.indexOf('computeOwn')).toBeGreaterThan(types.indexOf('addOwn'));
    expect(room.state.own.running).not.toBe(first);
  });
});

describe('counting', () => {
  test('a step is committed when every micro-batch was added, with the sums of all', () => {
    const room = threeAtWork();
    const ids = ['bob', 'cid'].map((id) => room.assigned(id)[0]?.id ?? '');
    const own = room.state.own.running ?? '';
    room.contribute('bob', ids[0], { lossSum: 10 });
    expect(room.of('addBlob')).toHaveLength(1);
    room.added(ids[0] ?? '').ownResult({ lossSum: 20 }).added(own).contribute('cid', ids[1], { lossSum: 30 });
    expect(room.of('commit')).toEqual([]);
    room.added(ids[1] ?? '');
    expect(room.of('commit')).toEqual([{ type: 'commit', step: 2, lossSum: 60, weightSum: 54, encodeUpdate: true, encodeGradient: false, changes: [], codec: null }]);
    room.committed();
    expect(room.sentTo('bob')).toMatchObject([{ type: 'progress', point: { step: 2, loss: 60 / 54, tokens: 60, bytesUp: 200, bytesDown: 200 } }]);
    expect(['ada', 'bob', 'cid'].map((id) => room.row(id)?.microbatches)).toEqual([2, 2, 2]);
    expect(room.of('beginStep')).toEqual([{ type: 'beginStep', step: 3 }]);
  });

  test('alone, nobody needs the update encoded', () => {
    const room = new CoordinatorBench();
    room.ownResult().added('3.0.0');
    expect(room.of('commit')).toMatchObject([{ encodeUpdate: false }]);
  });

  test('the same contribution twice counts once', () => {
    const room = threeAtWork();
    const id = room.assigned('bob')[0]?.id;
    room.contribute('bob', id);
    expect(room.of('addBlob')).toHaveLength(1);
    room.contribute('bob', id);
    expect(room.of('addBlob')).toEqual([]);
    expect(room.of('discardBlob')).toHaveLength(1);
    room.added(id ?? '').contribute('bob', id);
    expect(room.of('addBlob')).toEqual([]);
    expect(room.of('discardBlob')).toHaveLength(1);
  });

  test.each([
    ['somebody else’s assignment', (room: CoordinatorBench) => room.contribute('cid', room.assigned('bob')[0]?.id)],
    ['an assignment that never was', (room: CoordinatorBench) => room.contribute('bob', '3.2.999')],
    ['a step that is done', (room: CoordinatorBench) => room.contribute('bob', room.assigned('bob')[0]?.id, { step: 1 })],
    ['another term', (room: CoordinatorBench) => room.contribute('bob', room.assigned('bob')[0]?.id, { term: 2 })],
    ['a stranger', (room: CoordinatorBench) => room.contribute('eve', room.assigned('bob')[0]?.id)],
  ])('a contribution for %s is discarded and changes nothing', (_what, contribute) => {
    const room = threeAtWork();
    const before = room.state.work;
    contribute(room);
    expect(room.of('discardBlob')).toHaveLength(1);
    expect(room.of('addBlob')).toEqual([]);
    expect(room.state.work).toEqual(before);
  });
});

describe('lateness', () => {
  test('late work goes to others, and what still comes is discarded without a word', () => {
    const room = threeAtWork();
    const late = room.assigned('bob')[0];
    room.contribute('cid').added('3.2.3');
    room.passWith(4_000, 'bob', 'cid');
    expect(room.sentTo('bob').filter((message) => message.type === 'cancel')).toMatchObject([{ assignment: late?.id }]);
    expect(room.row('bob')?.state).toBe('late');
    expect(room.microbatchesOf('bob')).toBe(0);
    const reassigned = [...room.assigned('ada'), ...room.assigned('cid')].flatMap((assignment) => assignment.microbatches);
    for (const microbatch of late?.microbatches ?? []) expect(reassigned).toContain(microbatch);
    room.contribute('bob', late?.id);
    expect(room.of('discardBlob')).toHaveLength(1);
    expect(room.sentTo('bob')).toEqual([]);
  });

  test('who was late is believed to be slower, and works again once it has applied that step’s update', () => {
    const room = threeAtWork();
    const before = room.state.peers.get(peer('bob'))?.work.speed.perSecond ?? 0;
    const answered = room.assigned('cid')[0]?.id ?? '';
    room.nowMs += 200;
    room.contribute('cid').added(answered).passWith(4_000, 'bob', 'cid');
    expect(room.state.peers.get(peer('bob'))?.work.speed.perSecond).toBeLessThanOrEqual(before / 2);
    for (const id of ['cid', 'ada', 'ada']) {
      for (const { id: assignment } of room.assigned(id)) {
        room.nowMs += 300;
        if (id === 'ada') room.ownResult();
        else room.contribute(id, assignment);
        room.added(assignment);
      }
    }
    room.committed();
    expect(room.microbatchesOf('bob')).toBe(0);
    room.applied('bob').applied('cid');
    expect(room.row('bob')?.state).toBe('ready');
    room.finishStep({ ada: 300, cid: 300 });
    expect(room.microbatchesOf('bob')).toBeGreaterThan(0);
  });

  test('when only the late peer is left, it gets its work again after a pause', () => {
    const room = new CoordinatorBench({ selfDevice: brokenDevice }).join('bob');
    room.passWith(8_000, 'bob');
    expect(room.row('bob')?.state).toBe('late');
    const tries = room.passWith(120_000, 'bob').filter((effect) => effect.type === 'assign');
    expect(tries.length).toBeGreaterThanOrEqual(2);
    expect(tries.length).toBeLessThanOrEqual(10);
  });
});

describe('refusals', () => {
  test('refused work is computed by another, the own device first, and two refusals make a watcher with the reason', () => {
    const room = threeAtWork();
    const { id = '', microbatches = [] } = room.assigned('bob')[0] ?? {};
    room.contribute('bob', id).send({ type: 'contributionRejected', assignment: id, reason: 'holds NaN at element 3' });
    expect(room.assigned('ada').flatMap((assignment) => assignment.microbatches)).toEqual(expect.arrayContaining([...microbatches]));
    expect(room.row('bob')?.role).toBe('member');
    room.contribute('cid').added(room.state.work?.assignments.keys().next().value ?? '');
    while (room.state.step === 2) {
      for (const { id: other, worker, phase } of [...(room.state.work?.assignments.values() ?? [])]) {
        if (phase === 'open' && worker === 'ada') room.ownResult();
        else if (phase === 'open') room.contribute(worker, other);
        room.added(other);
      }
      if (room.state.work?.isCommitting === true) room.committed();
    }
    const again = room.assigned('bob')[0]?.id ?? '';
    room.contribute('bob', again).send({ type: 'contributionRejected', assignment: again, reason: 'holds NaN at element 3' });
    expect(room.row('bob')).toMatchObject({ role: 'watcher', note: expect.stringContaining('holds NaN at element 3') as string });
    expect(room.microbatchesOf('bob')).toBe(0);
  });

  test.each([
    ['wrong loss weights', { weightSum: 1 }],
    ['a negative loss', { lossSum: -3 }],
  ])('%s are refused before the trainer sees the bytes', (_what, sums) => {
    const room = threeAtWork();
    room.contribute('bob', room.assigned('bob')[0]?.id, sums);
    expect(room.of('addBlob')).toEqual([]);
    expect(room.of('discardBlob')).toHaveLength(1);
    expect(room.microbatchesOf('ada')).toBe(4);
    expect(room.state.peers.get(peer('bob'))?.strikes).toBe(1);
  });

  test('work handed back goes to others, and comes back to that peer only after a pause', () => {
    const room = threeAtWork();
    const { id = '' } = room.assigned('bob')[0] ?? {};
    room.from('bob', { type: 'decline', term: term(3), assignment: id, code: 'failed', reason: '' });
    expect(room.microbatchesOf('bob')).toBe(0);
    expect(room.microbatchesOf('ada') + room.microbatchesOf('cid')).toBe(6);
    room.from('cid', { type: 'decline', term: term(3), assignment: id, code: 'failed', reason: '' });
    expect(room.microbatchesOf('ada') + room.microbatchesOf('cid')).toBe(6);
  });

  test('a loss that is not finite pauses the room with nothing advanced; resume tries the step again', () => {
    const room = threeAtWork();
    for (const id of ['bob', 'cid']) room.contribute(id).added(room.state.work ? [...room.state.work.assignments.values()].find((each) => each.phase === 'adding')?.id ?? '' : '');
    const own = room.state.own.running ?? '';
    room.ownResult({ lossSum: Number.NaN }).added(own);
    expect(room.of('commit')).toEqual([]);
    expect(room.state).toMatchObject({ phase: 'paused', step: 2, problem: { code: 'non-finite' } });
    expect(room.sentTo('bob')).toMatchObject([{ type: 'phase', phase: 'paused', problem: { code: 'non-finite' } }]);
    room.send({ type: 'command', command: 'resume' });
    expect(room.of('beginStep')).toEqual([{ type: 'beginStep', step: 2 }]);
    expect(room.state).toMatchObject({ phase: 'running', problem: null });
  });

  test('an update that was not applied pauses the room with nothing advanced', () => {
    const room = new CoordinatorBench();
    room.ownResult().added('3.0.0').committed({ applied: false });
    expect(room.state).toMatchObject({ phase: 'paused', step: 0, history: [], problem: { code: 'non-finite' } });
  });

  test('when every peer comes back with such numbers it is the run’s fault: the room pauses and no peer is blamed', () => {
    const room = new CoordinatorBench({ selfDevice: brokenDevice, microbatchesPerStep: 2 }).join('bob').join('cid');
    for (let count = 0; count < 4 && room.state.phase === 'running'; count += 1) {
      for (const id of ['bob', 'cid']) {
        for (const { id: assignment } of room.assigned(id)) {
          room.contribute(id, assignment).send({ type: 'contributionRejected', assignment, reason: 'not finite' });
        }
      }
    }
    expect(room.state.phase).toBe('paused');
    expect(room.state.problem?.code).toBe('non-finite');
    for (const id of ['bob', 'cid']) expect(room.state.peers.get(peer(id))).toMatchObject({ strikes: 0, stage: 'member' });
  });
});

describe('the room’s course', () => {
  test('a member can pause; the step under way is finished and saved, and no other begins', () => {
    const room = threeAtWork().from('bob', { type: 'command', term: term(3), command: 'pause' });
    expect(room.sentTo('cid')).toMatchObject([{ type: 'phase', phase: 'paused' }]);
    room.finishStep({ ada: 200, bob: 200, cid: 200 });
    expect(room.state.step).toBe(3);
    expect(room.of('checkpoint')).toEqual([{ type: 'checkpoint', step: 3, reason: 'paused' }]);
    expect(room.of('beginStep')).toEqual([]);
    room.from('cid', { type: 'command', term: term(3), command: 'resume' });
    expect(room.of('beginStep')).toHaveLength(1);
  });

  test('checkpoints come by steps and by time', () => {
    const bySteps = new CoordinatorBench({ checkpointEverySteps: 3 });
    const saved: number[] = [];
    for (let count = 0; count < 7; count += 1) saved.push(...bySteps.finishStep({ ada: 10 }).of('checkpoint').map((effect) => effect.step));
    expect(saved).toEqual([3, 6]);
    const byTime = new CoordinatorBench({ checkpointEveryMs: 1_000 });
    const times: number[] = [];
    for (let count = 0; count < 7; count += 1) times.push(...byTime.finishStep({ ada: 400 }).of('checkpoint').map((effect) => effect.step));
    expect(times).toEqual([3, 6]);
  });

  test('the last step ends the run: evaluated, saved, told to everybody; later steps never begin', () => {
    const room = new CoordinatorBench({ steps: 1, evalEvery: 10 }).hello('cid', { wantsToWatch: true });
    room.finishStep({ ada: 10 });
    const [own] = room.of('evaluateOwn');
    expect(own?.microbatches).toEqual([0, 1, 2]);
    expect(room.of('checkpoint')).toMatchObject([{ reason: 'finished' }]);
    expect(room.sentTo('cid')).toMatchObject([{ type: 'progress', phase: 'finished' }, { type: 'phase', phase: 'finished' }]);
    room.send({ type: 'evaluatedOwn', assignment: own?.assignment ?? '', lossSum: 27, weightSum: 18, failed: false });
    expect(room.sentTo('cid')).toEqual([{ type: 'validation', term: 3, step: 0, loss: 1.5 }]);
    expect(room.state.history).toMatchObject([{ step: 0, validationLoss: 1.5 }]);
    room.send({ type: 'command', command: 'resume' });
    expect(room.of('beginStep')).toEqual([]);
  });

  test('stopping tells everybody, saves and begins nothing more, also in the middle of a commit', () => {
    const idle = threeAtWork().send({ type: 'command', command: 'stop' });
    expect(idle.of('checkpoint')).toEqual([{ type: 'checkpoint', step: 2, reason: 'stopped' }]);
    expect(idle.sentTo('bob')).toMatchObject([{ type: 'cancel' }, { type: 'phase', phase: 'stopped' }]);
    expect(idle.pass(2_000).some((effect) => effect.type === 'assign' || effect.type === 'beginStep')).toBe(false);
    const committing = new CoordinatorBench();
    committing.ownResult().added('3.0.0').send({ type: 'command', command: 'stop' });
    expect(committing.of('checkpoint')).toEqual([]);
    committing.committed();
    expect(committing.of('checkpoint')).toEqual([{ type: 'checkpoint', step: 1, reason: 'stopped' }]);
    expect(committing.of('beginStep')).toEqual([]);
  });

  test('a coordinator that can’t compute waits for others, says so, and goes on when one is ready', () => {
    const room = new CoordinatorBench({ selfDevice: brokenDevice });
    room.pass(5_000);
    expect(room.state.step).toBe(0);
    expect(room.of('computeOwn')).toEqual([]);
    room.join('bob');
    expect(room.microbatchesOf('bob')).toBe(6);
  });

  test('when the own GPU is lost its work goes to others, and it works again when it is back', () => {
    const room = threeAtWork().send({ type: 'ownDevice', device: brokenDevice });
    expect(room.microbatchesOf('ada')).toBe(0);
    expect(room.microbatchesOf('bob') + room.microbatchesOf('cid')).toBe(6);
    expect(room.row('ada')).toMatchObject({ state: 'watching', note: 'This browser has no WebGPU.' });
    room.send({ type: 'ownDevice', device: goodDevice });
    room.finishStep({ bob: 300, cid: 300 });
    expect(room.microbatchesOf('ada')).toBeGreaterThan(0);
  });

  test('only those without weights of their own are sent samples', () => {
    const room = threeAtWork().hello('eve', { wantsToWatch: true }).send({ type: 'sampled', step: step(2), text: 'abc' });
    expect(room.of('send').map((effect) => effect.to)).toEqual(['eve']);
  });
});

test('nothing that a stranger sends has any effect', () => {
  const room = threeAtWork();
  const before = room.state;
  room.send({ type: 'peerOpened', peer: peer('eve') });
  const messages = [
    { type: 'ready', term: term(3), step: step(2), hash: hashAt(2) },
    { type: 'applied', term: term(3), step: step(2), hash: hashAt(2) },
    { type: 'decline', term: term(3), assignment: room.assigned('bob')[0]?.id ?? '', code: 'failed', reason: '' },
    { type: 'refetch', term: term(3) },
    { type: 'command', term: term(3), command: 'pause' },
    { type: 'leave', reason: '' },
  ] as const;
  for (const message of messages) room.from('eve', message).from('nobody', message);
  expect(room.state.work).toEqual(before.work);
  expect(room.state.phase).toBe('running');
  room.send({
    type: 'blob',
    from: peer('nobody'),
    ref: 'x' as BlobRef,
    bytes: 1,
    header: { kind: 'contribution', term: term(3), step: step(2), assignment: 'x', lossSum: 0, weightSum: 0, computeMs: 0, tokens: 0 },
  });
  expect(room.of('discardBlob')).toHaveLength(1);
});
