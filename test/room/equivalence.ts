/**
 * DESIGN §2: joins and departures change who computes, never what is computed. The ledger fails a simulation whose loss
 * differs by more than 1e-4 from the undisturbed run's at any step, or whose replicas differ at all. Two test files share
 * the seeds, so that they run on two cores.
 */
import { expect } from 'vitest';
import { Simulation } from './simulator.ts';
import { tinyRun, undisturbedLosses } from './tiny-run.ts';

const steps = 50;

/** Slow enough that ways are no matter beside computing, or steps would be planned without whoever isn't worth the wait. */
async function startWithThree(room: Simulation): Promise<void> {
  await room.lead('ada', { msPerMicrobatch: 500, startPaused: true });
  room.join('bob', { msPerMicrobatch: 400 });
  room.join('cid', { msPerMicrobatch: 200 });
  const isReady = () => room.coordinator.view.peers.filter((peer) => peer.state === 'ready').length === 3;
  await room.until('three ready peers', 10_000, isReady);
  room.coordinator.dispatch({ type: 'command', command: 'resume' });
}

async function byOne(room: Simulation): Promise<void> {
  await room.lead('ada');
  await room.untilFinished(120_000);
  expect([...room.world.ledger.countedBy.keys()]).toEqual(['ada']);
}

async function byThree(room: Simulation): Promise<void> {
  await startWithThree(room);
  await room.untilFinished(120_000);
  const { countedBy, comparedReplicas } = room.world.ledger;
  expect([...countedBy.keys()].sort()).toEqual(['ada', 'bob', 'cid']);
  expect(countedBy.get('bob')).toBeGreaterThanOrEqual(steps);
  expect(comparedReplicas).toBe(2 * (steps + 1));
}

async function byThreeWithChanges(room: Simulation, isNoticed: boolean): Promise<void> {
  await startWithThree(room);
  await room.untilStep(20);
  room.crash('bob', isNoticed);
  await room.untilStep(30);
  room.join('dan');
  await room.untilFinished(120_000);
  const { countedBy } = room.world.ledger;
  expect([...countedBy.keys()].sort()).toEqual(['ada', 'bob', 'cid', 'dan']);
}

/** 50 steps by one peer, by three, and by three of which one is closed at step 20 and another joins at step 30. */
export async function checkEquivalence(seed: number): Promise<void> {
  const run = tinyRun(seed, steps);
  const undisturbed = await undisturbedLosses(run);
  const scenarios = [byOne, byThree, (room: Simulation) => byThreeWithChanges(room, seed % 2 === 0)];
  for (const scenario of scenarios) {
    const room = new Simulation({ seed, run, undisturbed });
    await scenario(room);
    expect(room.world.ledger.losses.size).toBe(steps);
  }
  expect(undisturbed.at(-1)).toBeLessThan(undisturbed[0] ?? 0);
}
