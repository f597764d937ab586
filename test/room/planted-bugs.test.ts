import { expect, test } from 'vitest';
import type { CoordinatorEffect } from '../../src/room/machine.ts';
import type { PeerId, Step, Term } from '../../src/room/messages.ts';
import { noRules } from '../../src/room/rules.ts';
import { SimulationFailure } from './log.ts';
import { Orders } from './orders.ts';
import { hashOf } from './replica-exchange.ts';
import { Simulation } from './simulator.ts';
import { tinyRun, undisturbedLosses } from './tiny-run.ts';
import type { Tampering } from './world.ts';

/** A simulator that finds nothing proves nothing: each bug here stands between machine and world, and must be found. */
const steps = 16;
const seed = 5;

async function simulate(tampering: Tampering): Promise<void> {
  const run = tinyRun(seed, steps);
  const room = new Simulation({ seed, run, undisturbed: await undisturbedLosses(run), tampering });
  await room.lead('ada');
  room.join('bob');
  room.join('cid', { msPerMicrobatch: 120 });
  await room.untilStep(4);
  // What Bob computes now arrives after others have done it.
  room.world.network.block('bob', 'ada', 1_500);
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
    'pieces of a replica are put in the wrong places',
    () => ({ replica: (bytes) => Uint8Array.from([...new Uint8Array(bytes.slice(bytes.byteLength / 2)), ...new Uint8Array(bytes.slice(0, bytes.byteLength / 2))]).buffer }),
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

/** Ada leads, and Bob keeps her state. She vanishes, or is cut off, right after a commit; the room must go on without a loss. */
async function handOver(tampering: Tampering, how: 'vanishes' | 'is cut off' = 'vanishes'): Promise<void> {
  const run = tinyRun(seed, steps);
  let commits = 0;
  let room: Simulation | null = null;
  const watched: Tampering = {
    ...tampering,
    coordinatorEvents: (event) => {
      const events = tampering.coordinatorEvents?.(event) ?? [event];
      if (event.type === 'committed') commits += 1;
      if (commits === 8 && room?.leader?.machine === 'ada' && event.type === 'committed') {
        const { world } = room;
        const cut = room;
        world.clock.after(0, () => {
          if (how === 'vanishes') cut.crash('ada', false);
          else cut.cutOff('ada', 25_000);
        });
      }
      return events;
    },
  };
  room = new Simulation({ seed, run, undisturbed: await undisturbedLosses(run), tampering: watched, checkpointEverySteps: 100 });
  await room.lead('ada', { msPerMicrobatch: 150 });
  room.join('bob', { msPerMicrobatch: 150 });
  await room.until('Bob is ready', 10_000, () => room?.coordinator.view.peers.some(({ succession }) => succession === 'ready') ?? false);
  room.join('cid', { canSucceed: false });
  await room.until('Bob leads', 30_000, () => room?.leader?.machine === 'bob');
  await room.untilFinished(60_000);
  if (room.world.ledger.stepsRewound > 0) room.world.log.fail('announced steps were undone');
}

test.each(['vanishes', 'is cut off'] as const)('without a bug the room goes on when its coordinator %s', async (how) => {
  await handOver({}, how);
});

/** Tells the coordinator what a successor would say, before it has said it. */
function confirmingTooEarly(): Tampering {
  return {
    coordinatorEvents: (event) => {
      if (event.type !== 'committed') return [event];
      const step = (event.step + 1) as Step;
      const message = { type: 'applied', term: 1 as Term, step, hash: event.metrics.replicaHash } as const;
      return [event, { type: 'message', from: 'bob-1' as PeerId, message }];
    },
    // What it is told is not sent either: the coordinator dies with it.
    coordinatorEffects: (effects) => {
      const last = effects.some((effect) => effect.type === 'sendUpdate' && effect.step === 7);
      return last ? effects.filter((effect) => effect.type !== 'sendUpdate' && effect.type !== 'sendGradient') : effects;
    },
  };
}

test.each<[string, () => Tampering, 'vanishes' | 'is cut off', RegExp]>([
  ['a step is announced before the successor has it', confirmingTooEarly, 'vanishes', /leads from step 7, and 8 steps were announced|announced steps were undone/],
  [
    'a lost successor is not un-named before steps are announced without it',
    () => ({
      coordinatorEvents: (event) =>
        event.type === 'peerClosed' ? [event, { type: 'successorNamed', holderHash: null }, { type: 'lease', untilMs: Infinity }] : event.type === 'lease' ? [] : [event],
    }),
    'is cut off',
    /announced under term 1, and term 2 reigns|leads from step|announced after/,
  ],
  [
    'two peers lead under one term',
    () => ({ memberEvents: (event) => (event.type === 'leadRefused' || event.type === 'leadTaken' ? [{ type: 'leadTaken', term: 1 as Term }] : [event]) }),
    'vanishes',
    /two coordinators reign under term 1/,
  ],
  [
    'the successor leads from an older step than it has',
    () => ({
      memberEffects: (effects) =>
        effects.map((effect) =>
          effect.type === 'lead' && effect.reign !== null
            ? { ...effect, reign: { ...effect.reign, step: (effect.reign.step - 2) as Step, history: effect.reign.history.slice(0, -2) } }
            : effect,
        ),
    }),
    'vanishes',
    /leads from step/,
  ],
  [
    'the successor’s history lacks the step that was not announced',
    () => ({
      memberEffects: (effects) =>
        effects.map((effect) => (effect.type === 'lead' && effect.reign !== null ? { ...effect, reign: { ...effect.reign, history: effect.reign.history.slice(0, -1) } } : effect)),
    }),
    'vanishes',
    /with a history of/,
  ],
  [
    'the successor’s moments follow another gradient',
    () => ({
      memberEffects: (effects) =>
        effects.map((effect) =>
          effect.type === 'applyUpdate' && effect.followed !== null ? { ...effect, followed: { ...effect.followed, weightSum: effect.followed.weightSum * 40 } } : effect,
        ),
    }),
    'vanishes',
    /the loss of step/,
  ],
])('the simulator finds that %s', async (_what, tampering, how, message) => {
  const failure = await handOver(tampering(), how).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(SimulationFailure);
  expect((failure as SimulationFailure).message.split('\n')[0]).toMatch(message);
});

/** Cid, who made the room, wants another learning rate; when that is done, Ada, who leads, vanishes. */
async function orderAndLose(tampering: Tampering): Promise<void> {
  const run = tinyRun(seed, steps);
  const room = new Simulation({ seed, run, undisturbed: await undisturbedLosses(run), tampering, checkpointEverySteps: 100 });
  await room.lead('ada', { msPerMicrobatch: 150 });
  room.join('bob', { msPerMicrobatch: 150 });
  await room.until('Bob is ready', 10_000, () => room.coordinator.view.peers.some(({ succession }) => succession === 'ready'));
  room.join('cid', { canSucceed: false });
  const orders = new Orders(room, 'cid');
  orders.give({ kind: 'schedule', learningRate: 0.03 });
  await room.until('the order is answered', 10_000, () => orders.isIdle);
  room.crash('ada', false);
  await room.until('Bob leads', 30_000, () => room.leader?.machine === 'bob');
  await room.untilFinished(60_000);
  if (room.coordinator.view.history.every(({ change }) => change?.learningRate !== 0.03)) room.world.log.fail('the history says nothing of the change');
}

test('without a bug an order outlives the coordinator that carried it out', async () => {
  await orderAndLose({});
});

test.each<[string, () => Tampering, RegExp]>([
  [
    'a successor leads without what the owner was told is done',
    () => ({ memberEffects: (effects) => effects.map((effect) => (effect.type === 'lead' && effect.reign !== null ? { ...effect, reign: { ...effect.reign, rules: noRules } } : effect)) }),
    /leads with the rules of revision 0, and the owner was told that 1/,
  ],
  [
    'a change of the learning rate is said to hold, and does not',
    () => ({ coordinatorEffects: each((effect) => (effect.type === 'commit' ? [{ ...effect, changes: [] }] : [effect])) }),
    /the loss of step/,
  ],
  [
    'an order is in force before the successor keeps it',
    () => ({
      coordinatorEvents: (event) =>
        event.type === 'ownerCommand' ? [event, { type: 'message', from: 'bob-1' as PeerId, message: { type: 'kept', term: 1 as Term, revision: event.revision } }] : [event],
      coordinatorEffects: each((effect) => (effect.type === 'send' && effect.to === 'bob-1' && effect.message.type === 'rules' ? [] : [effect])),
    }),
    /leads with the rules of revision 0, and the owner was told that 1/,
  ],
])('the simulator finds that %s', async (_what, tampering, message) => {
  const failure = await orderAndLose(tampering()).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(SimulationFailure);
  expect((failure as SimulationFailure).message.split('\n')[0]).toMatch(message);
});

/** Five members feed each other; whoever is nearest to Ada forwards garbage. */
async function forwardGarbage(tampering: Tampering): Promise<void> {
  const run = tinyRun(seed, steps);
  const room = new Simulation({ seed, run, undisturbed: await undisturbedLosses(run), tampering, relaysFrom: 2 });
  await room.lead('ada');
  for (const name of ['bob', 'cid', 'dan', 'eve']) room.join(name);
  const relays = (): readonly string[] => [...room.coordinator.state.peers.values()].flatMap(({ feed }) => (feed?.isOpen === true ? [feed.from] : []));
  await room.until('somebody is fed', 10_000, () => relays().length > 0);
  for (const member of room.members.values()) if (relays().some((relay) => relay === member.view.self)) member.misrelay('garbage', 60_000);
  await room.untilFinished(60_000);
}

test('without a bug a room goes on whose members forward garbage', async () => {
  await forwardGarbage({});
});

test('the simulator finds that what members forward is not checked', async () => {
  // Of what it would be if it were right.
  const hash = (bytes: ArrayBuffer): string => hashOf(Uint8Array.from(new Uint8Array(bytes), (byte) => byte ^ 0xff).buffer);
  const failure = await forwardGarbage({ hash }).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(SimulationFailure);
  expect((failure as SimulationFailure).message.split('\n')[0]).toMatch(/differs from the coordinator|Error/);
});
