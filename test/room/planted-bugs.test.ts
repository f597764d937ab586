import { expect, test } from 'vitest';
import type { CoordinatorEffect } from '../../src/room/machine.ts';
import type { Step } from '../../src/room/messages.ts';
import { SimulationFailure } from './log.ts';
import { Simulation } from './simulator.ts';
import { tinyRun, undisturbedLosses } from './tiny-run.ts';
import type { Tampering } from './world.ts';

/** A simulator that finds nothing proves nothing: each bug here stands between machine and world, and must be found. */
const steps = 12;
const seed = 5;

async function simulate(tampering: Tampering): Promise<void> {
  const run = tinyRun(seed, steps);
  const room = new Simulation({ seed, run, undisturbed: await undisturbedLosses(run), tampering });
  await room.lead('ada');
  room.join('bob');
  room.join('cid', { msPerMicrobatch: 120 });
  await room.untilStep(4);
  // What Bob computes now arrives after others have done it.
  room.world.network.block('bob', 'ada', 4_500);
  await room.untilStep(8);
  room.crash('cid', false);
  room.join('dan');
  await room.untilFinished(60_000);
}

const each = (change: (effect: CoordinatorEffect) => readonly CoordinatorEffect[]) => (effects: readonly CoordinatorEffect[]) => effects.flatMap(change);

/** Drops an assignment that gives micro-batches out a second time. */
function withoutReassignment(): Tampering {
  const given = new Set<string>();
  return {
    coordinatorEffects: each((effect) => {
      if (effect.type !== 'assign' && effect.type !== 'computeOwn') return [effect];
      const { step, microbatches } = effect.type === 'assign' ? effect.header : effect;
      const isAgain = microbatches.some((index) => given.has(`${step}.${index}`));
      for (const index of microbatches) given.add(`${step}.${index}`);
      return isAgain ? [] : [effect];
    }),
  };
}

test('without a bug the same room finishes', async () => {
  await simulate({});
});

test.each<[string, () => Tampering, RegExp]>([
  [
    'a contribution that comes too late is added all the same',
    () => {
      let step = 0 as Step;
      return {
        coordinatorEffects: each((effect) => {
          if (effect.type === 'beginStep') step = effect.step;
          return effect.type === 'discardBlob' ? [{ type: 'addBlob', assignment: 'late', step, ref: effect.ref }] : [effect];
        }),
      };
    },
    /counted twice|gradients of step . were added/,
  ],
  ['the own result is added twice', () => ({ coordinatorEffects: each((effect) => (effect.type === 'addOwn' ? [effect, effect] : [effect])) }), /counted twice/],
  ['work that was lost is not given to anybody else', withoutReassignment, /not within .* steps committed|not within .* step 8/],
  ['a step is committed before everything was added', () => ({ coordinatorEffects: each((effect) => (effect.type === 'addBlob' ? [] : [effect])), coordinatorEvents: (event) => (event.type === 'blob' ? [event, { type: 'contributionAdded', assignment: event.header.assignment }] : [event]) }), /was lost/],
  ['a step is committed twice', () => ({ coordinatorEffects: each((effect) => (effect.type === 'commit' ? [effect, effect] : [effect])) }), /commit/],
  [
    'the loss is a mean over micro-batches instead of over their weight',
    () => ({ coordinatorEffects: each((effect) => (effect.type === 'commit' ? [{ ...effect, weightSum: effect.weightSum * 1.001 }] : [effect])) }),
    /the loss of step/,
  ],
  [
    'an update leaves a member with other weights than the step says',
    () => {
      let count = 0;
      return { memberEffects: (effects) => effects.map((effect) => (effect.type === 'applyUpdate' && ++count === 6 ? { ...effect, type: 'loadReplica' } : effect)) };
    },
    /differs from the coordinator/,
  ],
  [
    'a newcomer’s history ends a step early',
    () => ({ memberEvents: (event) => [event.type === 'historyRead' ? { ...event, points: event.points.slice(0, -1) } : event] }),
    /at the same end as the coordinator/,
  ],
  [
    'micro-batches are computed from the wrong rows',
    () => ({ memberEffects: (effects) => effects.map((effect) => (effect.type === 'compute' ? { ...effect, microbatches: effect.microbatches.map(() => 0) } : effect)) }),
    /the loss of step/,
  ],
])('the simulator finds that %s', async (_what, tampering, message) => {
  const failure = await simulate(tampering()).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(SimulationFailure);
  expect((failure as SimulationFailure).message.split('\n')[0]).toMatch(message);
});
