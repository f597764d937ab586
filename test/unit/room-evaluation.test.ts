/** The validation loss: handed out, counted once, taken back, and what it means for the run. */
import { describe, expect, test } from 'vitest';
import { evaluationsWithoutGain, isBest } from '../../src/room/evaluation.ts';
import type { HistoryPoint } from '../../src/room/messages.ts';
import { CoordinatorBench, hashAt, MemberBench, peer, step, term } from './../room/bench.ts';

const weights = [7, 7, 4];

/** Ada leads, Bob and Cid hold the weights; the step was committed after which an evaluation is due. */
function threeEvaluating(change: ConstructorParameters<typeof CoordinatorBench>[0] = {}): CoordinatorBench {
  return new CoordinatorBench({ evalEvery: 1, ...change }).join('bob').join('cid').finishStep({ ada: 10, bob: 10, cid: 10 });
}

interface Part {
  readonly worker: string;
  readonly assignment: string;
  readonly microbatches: readonly number[];
}

function partsOf(room: CoordinatorBench): readonly Part[] {
  return [...(room.state.evaluation?.open.values() ?? [])];
}

/** A loss of `mean` for each scored position. */
function answer(room: CoordinatorBench, { worker, assignment, microbatches }: Part, mean: number): CoordinatorBench {
  const weightSum = microbatches.reduce((sum, index) => sum + (weights[index] ?? 0), 0);
  const sums = { assignment, lossSum: mean * weightSum, weightSum };
  if (worker === 'ada') return room.send({ type: 'evaluatedOwn', ...sums, failed: false });
  return room.send({ type: 'message', from: peer(worker), message: { type: 'evaluated', term: term(3), ...sums } });
}

const lastLoss = (room: CoordinatorBench): number | undefined => room.state.history.at(-1)?.validationLoss;

describe('an evaluation', () => {
  test('is shared by all that hold the weights, before the work of the next step, and its loss is weighted by what is scored', () => {
    const room = threeEvaluating();
    const given = room.effects.flatMap((effect) => (effect.type === 'evaluateOwn' || effect.type === 'assignEvaluation' || effect.type === 'assign' ? [effect.type] : []));
    expect(given.slice(0, 3).sort()).toEqual(['assignEvaluation', 'assignEvaluation', 'evaluateOwn']);
    expect(given.slice(3)).toContain('assign');
    const parts = partsOf(room);
    expect(parts.map(({ worker }) => worker).sort()).toEqual(['ada', 'bob', 'cid']);
    expect(parts.flatMap(({ microbatches }) => microbatches).sort((a, b) => a - b)).toEqual([0, 1, 2]);
    for (const part of parts) answer(room, part, 1 + (part.microbatches[0] ?? 0));
    expect(lastLoss(room)).toBeCloseTo((7 * 1 + 7 * 2 + 4 * 3) / 18, 12);
    expect(room.sentTo('bob')).toEqual([{ type: 'validation', term: 3, step: 0, loss: lastLoss(room) }]);
    expect(room.of('keepBest')).toEqual([{ type: 'keepBest', step: 0, loss: lastLoss(room) }]);
  });

  test('holds back the next commit until it is done, so that everybody evaluates the same weights', () => {
    const room = threeEvaluating();
    const [first, ...others] = partsOf(room);
    room.answerAll({ ada: 10, bob: 10, cid: 10 });
    expect(room.state.work).toMatchObject({ missing: 0, isCommitting: false });
    for (const part of others) answer(room, part, 1);
    expect(room.of('commit')).toEqual([]);
    if (first !== undefined) answer(room, first, 1);
    expect(room.of('commit')).toHaveLength(1);
  });

  test.each([
    ['is gone', (room: CoordinatorBench) => room.send({ type: 'peerClosed', peer: peer('bob'), reason: '' })],
    ['hands it back', (room: CoordinatorBench, assignment: string) => room.send({ type: 'message', from: peer('bob'), message: { type: 'decline', term: term(3), assignment, code: 'failed', reason: '' } })],
    ['claims another weight', (room: CoordinatorBench, assignment: string) => room.send({ type: 'message', from: peer('bob'), message: { type: 'evaluated', term: term(3), assignment, lossSum: 1, weightSum: 1 } })],
    ['claims a negative loss', (room: CoordinatorBench, assignment: string) => room.send({ type: 'message', from: peer('bob'), message: { type: 'evaluated', term: term(3), assignment, lossSum: -1, weightSum: 7 } })],
  ])('goes on without whoever %s: somebody else takes that part', (_what, happens) => {
    const room = threeEvaluating();
    const lost = partsOf(room).find(({ worker }) => worker === 'bob');
    for (const part of partsOf(room)) if (part !== lost) answer(room, part, 2);
    happens(room, lost?.assignment ?? '');
    const [again] = partsOf(room);
    expect(again?.microbatches).toEqual(lost?.microbatches);
    expect(again?.worker).not.toBe('bob');
    if (again !== undefined) answer(room, again, 2);
    expect(lastLoss(room)).toBe(2);
  });

  test('takes a part back from whoever is silent about it for too long, and a late answer counts for nothing', () => {
    const room = threeEvaluating();
    const late = partsOf(room).find(({ worker }) => worker === 'bob');
    for (const part of partsOf(room)) if (part !== late) answer(room, part, 2);
    for (let waited = 0; partsOf(room)[0] === late; waited += 1) {
      expect(waited).toBeLessThan(600);
      room.send({ type: 'message', from: peer('bob'), message: { type: 'pong', nonce: 1 } }).pass(250);
    }
    if (late !== undefined) answer(room, late, 50);
    const [again] = partsOf(room);
    if (again !== undefined) answer(room, again, 2);
    expect(lastLoss(room)).toBe(2);
  });

  test('is given up when nobody is left who has not tried, and training goes on', () => {
    const room = new CoordinatorBench({ evalEvery: 1 }).finishStep({ ada: 10 });
    const [own] = partsOf(room);
    room.send({ type: 'evaluatedOwn', assignment: own?.assignment ?? '', lossSum: 0, weightSum: 0, failed: true });
    expect(room.state.evaluation).toBeNull();
    room.finishStep({ ada: 10 });
    expect(room.state.step).toBe(2);
    expect(room.state.history[0]).not.toHaveProperty('validationLoss');
  });

  test('that a reign before did not finish is done again', () => {
    const point: HistoryPoint = { step: step(3), loss: 2, gradNorm: 1, lr: 0.1, ms: 1, tokens: 1, bytesDown: 0, bytesUp: 0 };
    const history = [0, 1, 2, 3].map((at) => ({ ...point, step: step(at) }));
    const start = { startStep: step(4), startHash: hashAt(4), evalEvery: 2 };
    expect(new CoordinatorBench({ ...start, history }).state.evaluation).toMatchObject({ step: 3 });
    const isKnown = [...history.slice(0, 3), { ...point, validationLoss: 2 }];
    expect(new CoordinatorBench({ ...start, history: isKnown }).state.evaluation).toBeNull();
    expect(new CoordinatorBench({ ...start, evalEvery: 3, history }).state.evaluation).toBeNull();
  });
});

describe('a run with patience', () => {
  /** Steps of a room of one, each with its validation loss. */
  function play(losses: readonly number[], room = new CoordinatorBench({ evalEvery: 1, patience: 2 })): CoordinatorBench {
    for (const loss of losses) {
      room.finishStep({ ada: 10 });
      const [own] = partsOf(room);
      if (own !== undefined) answer(room, own, loss);
    }
    return room;
  }

  test('pauses and saves after as many evaluations without a lower loss, and says so', () => {
    const room = play([3, 2, 2.5, 2.2]);
    expect(room.state).toMatchObject({ phase: 'paused', problem: { code: 'no-improvement', message: expect.stringContaining('2.0000') as unknown } });
    expect(room.of('checkpoint')).toMatchObject([{ reason: 'paused', step: 4 }]);
    expect(room.of('commit')).toEqual([]);
  });

  test('goes on when it is resumed, for as many evaluations again', () => {
    const room = play([2, 3, 3]);
    // What the device was at for the next step is given up.
    room.ownResult({ failed: true }).send({ type: 'command', command: 'resume' });
    expect(play([3], room).state.phase).toBe('running');
    expect(play([3], room).state.phase).toBe('paused');
  });

  test('is patient as long as the loss falls now and then', () => {
    expect(play([3, 4, 2, 3, 1, 2]).state.phase).toBe('running');
  });
});

test('gains are counted from the best on, and only since the run was resumed', () => {
  const history = [3, 2, 4, 5, 6].map((validationLoss, at) => ({ step: step(at), validationLoss }) as HistoryPoint);
  expect(evaluationsWithoutGain(history, step(0))).toBe(3);
  expect(evaluationsWithoutGain(history, step(4))).toBe(1);
  expect(isBest(history, step(1), 2)).toBe(true);
  expect(isBest(history, step(2), 4)).toBe(false);
});

describe('a member', () => {
  test('evaluates in its turn with the weights that are meant, and says what they come to', () => {
    const member = new MemberBench().join();
    member.blob({ kind: 'evaluation', term: term(3), step: step(5), assignment: 'e', microbatches: [4, 5] });
    expect(member.of('evaluate')).toMatchObject([{ assignment: 'e', microbatches: 2 }]);
    member.assignment('a');
    expect(member.of('compute')).toEqual([]);
    member.send({ type: 'evaluated', assignment: 'e', lossSum: 3, weightSum: 2, failed: false });
    expect(member.sent).toEqual([{ type: 'evaluated', term: 3, assignment: 'e', lossSum: 3, weightSum: 2 }]);
    expect(member.state.computing).toMatchObject({ assignment: 'a' });
  });

  test('does not evaluate other weights than are meant', () => {
    const member = new MemberBench().join();
    member.blob({ kind: 'evaluation', term: term(3), step: step(6), assignment: 'e', microbatches: [0] });
    expect(member.sent).toMatchObject([{ type: 'decline', assignment: 'e', code: 'behind' }, { type: 'refetch' }]);
    member.blob({ kind: 'evaluation', term: term(3), step: step(4), assignment: 'f', microbatches: [0] });
    expect(member.of('evaluate')).toEqual([]);
  });

  test('hands an evaluation back when it comes to nothing', () => {
    const member = new MemberBench().join();
    member.blob({ kind: 'evaluation', term: term(3), step: step(5), assignment: 'e', microbatches: [0] });
    member.send({ type: 'evaluated', assignment: 'e', lossSum: Number.NaN, weightSum: 2, failed: false });
    expect(member.sent).toMatchObject([{ type: 'decline', assignment: 'e', code: 'non-finite' }]);
  });
});
