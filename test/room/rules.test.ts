import { expect, test } from 'vitest';
import { calmNetwork } from './network.ts';
import { seeds, Simulation } from './simulator.ts';
import type { SimulationOptions } from './simulator.ts';
import { tinyRun, undisturbedLosses, undisturbedValidations } from './tiny-run.ts';

const steps = 16;

async function simulation(seed: number, microbatchesPerStep = 4, change: Partial<SimulationOptions> = {}): Promise<Simulation> {
  const run = tinyRun(seed, steps, microbatchesPerStep);
  return new Simulation({ seed, run, undisturbed: await undisturbedLosses(run), ...change });
}

test('a peer that vanishes in the middle of a step delays the room by less than five seconds', async () => {
  for (const seed of seeds(8)) {
    const room = await simulation(seed);
    await room.lead('ada', { msPerMicrobatch: 200 });
    room.join('bob', { msPerMicrobatch: 200 });
    await room.untilStep(8);
    const isWorking = () => room.coordinator.view.peers.some((peer) => peer.name === 'bob' && peer.state === 'computing');
    await room.until('bob is computing', 5_000, isWorking);
    const { step } = room.coordinator.state;
    room.crash('bob', false);
    await room.until('the step is committed without him', 5_000, () => room.coordinator.state.step > step);
    await room.untilFinished(30_000);
  }
});

test('within five steps a peer twice as fast does twice the work', async () => {
  for (const seed of seeds(8)) {
    const room = await simulation(seed, 6);
    await room.lead('ada', { msPerMicrobatch: 400, startPaused: true });
    room.join('bob', { msPerMicrobatch: 200 });
    await room.until('both are ready', 5_000, () => room.coordinator.view.peers.filter((peer) => peer.state === 'ready').length === 2);
    room.coordinator.dispatch({ type: 'command', command: 'resume' });
    await room.untilStep(6);
    expect(room.coordinator.view.peers.map((peer) => peer.microbatches)).toEqual([2, 4]);
    await room.untilFinished(30_000);
  }
});

test('a peer whose GPU hangs loses its work to others, and does its share again later', async () => {
  for (const seed of seeds(5)) {
    const room = await simulation(seed);
    await room.lead('ada', { msPerMicrobatch: 200 });
    const bob = room.join('bob', { msPerMicrobatch: 200 });
    await room.untilStep(4);
    const before = room.world.ledger.countedBy.get('bob') ?? 0;
    bob.gpu.stall(12_000);
    await room.untilStep(8, 9_000);
    expect(room.world.ledger.countedBy.get('bob') ?? 0).toBeLessThanOrEqual(before + 4);
    await room.untilFinished(60_000);
  }
});

test('a lone coordinator that reloads leads again within five seconds, and repeats no more than since its checkpoint', async () => {
  for (const seed of seeds(8)) {
    const room = await simulation(seed, 4, { checkpointEverySteps: 3 });
    await room.lead('ada');
    room.join('bob', { canSucceed: false });
    room.join('cid', { wantsToWatch: true });
    await room.untilStep(8);
    const { step } = room.coordinator.state;
    room.reload('ada', seed % 2 === 0, 1_000);
    const everybodyIsBack = () =>
      (room.leader?.view.step ?? 0) > step && [...room.members.values()].every((member) => member.view.connection === 'joined' && member.view.term === 2);
    await room.until('everybody is back and past the step of the reload', 10_000, everybodyIsBack);
    expect(room.coordinator.machine).toBe('ada');
    expect(room.coordinator.state.config.startStep).toBeGreaterThan(step - 4);
    await room.untilFinished(60_000);
  }
});

test('whoever joins late has the whole history, point for point, though steps were committed and evaluated while it was on its way', async () => {
  for (const seed of seeds(8)) {
    const run = tinyRun(seed, 60);
    const room = new Simulation({ seed, run, undisturbed: await undisturbedLosses(run), evalEvery: 1 });
    await room.lead('ada');
    await room.untilStep(40);
    room.world.network.faults = { ...calmNetwork, bytesPerMs: 0.5, duplicate: 0.2 };
    const guests = [room.join('bob'), room.join('cid', { wantsToWatch: true })];
    const isOnItsWay = () => guests.every(({ state }) => (state.room?.awaited?.since.length ?? 0) >= 3);
    await room.until('three steps are committed while the history is on its way', 20_000, isOnItsWay);
    room.world.network.faults = calmNetwork;
    await room.untilFinished(60_000);
    for (const { view } of guests) expect(view.history).toEqual(room.coordinator.view.history);
  }
});

test('the validation loss is that of a run alone, though its parts are computed by several and one of them goes', async () => {
  for (const seed of seeds(4)) {
    const run = tinyRun(seed, 12);
    const room = new Simulation({ seed, run, undisturbed: await undisturbedLosses(run), evalEvery: 1 });
    await room.lead('ada');
    room.join('bob');
    room.join('cid');
    await room.untilStep(6);
    room.crash('cid', true);
    await room.untilFinished(60_000);
    await room.until('the last weights are evaluated', 10_000, () => room.coordinator.view.history.at(-1)?.validationLoss !== undefined);
    const expected = await undisturbedValidations(run);
    for (const { step, validationLoss } of room.coordinator.view.history) expect(validationLoss).toBeCloseTo(expected[step] ?? Number.NaN, 4);
  }
});

test('a room whose coordinator can’t compute trains on its members, and waits while there are none', async () => {
  const room = await simulation(1);
  await room.lead('ada', { canCompute: false });
  await room.pass(5_000);
  expect(room.coordinator.view).toMatchObject({ step: 0, isWaitingForWorkers: true });
  room.join('bob');
  await room.untilFinished(30_000);
  expect([...room.world.ledger.countedBy.keys()]).toEqual(['bob']);
});
