import { expect, test } from 'vitest';
import type { CoordinatorEvent } from '../../src/room/machine.ts';
import type { PeerId } from '../../src/room/messages.ts';
import { Orders } from './orders.ts';
import { seeds, Simulation } from './simulator.ts';
import { tinyRun, undisturbedLosses } from './tiny-run.ts';

/** When whoever leads is gone: who leads next, from which step, and how soon. The ledger checks that nothing announced is lost. */
const steps = 40;

async function threeWithSuccessor(seed: number): Promise<{ readonly room: Simulation; readonly successor: string; readonly other: string }> {
  const run = tinyRun(seed, steps);
  const room = new Simulation({ seed, run, undisturbed: await undisturbedLosses(run) });
  await room.lead('ada', { msPerMicrobatch: 200 });
  room.join('bob', { msPerMicrobatch: 200 });
  room.join('cid', { msPerMicrobatch: 200 });
  const ready = () => room.coordinator.view.peers.find(({ succession }) => succession === 'ready')?.name;
  await room.until('a successor is ready', 10_000, () => ready() !== undefined);
  const successor = ready() ?? '';
  await room.untilStep(room.coordinator.view.step + 2 + (seed % 3));
  return { room, successor, other: successor === 'bob' ? 'cid' : 'bob' };
}

/** Resolves to the virtual time until the successor has committed a step, everybody being there. */
async function untilItLeads(room: Simulation, successor: string, other: string): Promise<number> {
  const { clock, ledger } = room.world;
  const sinceMs = clock.nowMs;
  const announced = ledger.announcedSteps;
  const goesOn = () => room.leader?.machine === successor && ledger.announcedSteps > announced && room.member(other).view.term === room.leader.term;
  await room.until(`${successor} leads and commits a step`, 20_000, goesOn);
  return clock.nowMs - sinceMs;
}

test('a coordinator that closes its tab is followed within two seconds, at the step where it was', async () => {
  for (const seed of seeds(10)) {
    const { room, successor, other } = await threeWithSuccessor(seed);
    const announced = room.world.ledger.announcedSteps;
    room.crash('ada', true);
    const sinceMs = room.world.clock.nowMs;
    await room.until(`${successor} leads`, 2_000, () => room.leader?.machine === successor);
    expect(room.coordinator.state.config.startStep).toBeGreaterThanOrEqual(announced);
    await untilItLeads(room, successor, other);
    expect(room.world.clock.nowMs - sinceMs).toBeLessThan(6_000);
    await room.untilFinished(60_000);
    expect(room.world.ledger.stepsRewound).toBe(0);
  }
});

test('a coordinator that vanishes is followed within ten seconds, with no announced step lost', async () => {
  for (const seed of seeds(10)) {
    const { room, successor, other } = await threeWithSuccessor(seed);
    room.crash('ada', false);
    expect(await untilItLeads(room, successor, other)).toBeLessThan(10_000);
    await room.untilFinished(60_000);
    expect(room.world.ledger).toMatchObject({ handOffs: 1, stepsRewound: 0 });
  }
});

test('the lead goes to whom the owner wants, not only to whoever was the successor; no step is computed twice, and who led is a member', async () => {
  for (const seed of seeds(10)) {
    const { room, other } = await threeWithSuccessor(seed);
    const orders = new Orders(room, 'ada');
    const committed: number[] = [];
    const { tampering } = room.world;
    Object.assign(tampering, { coordinatorEvents: (event: CoordinatorEvent) => (event.type === 'committed' ? (committed.push(event.step), [event]) : [event]) });
    const peer = room.coordinator.view.peers.find(({ name }) => name === other);
    orders.give({ kind: 'handOver', peer: peer?.id ?? ('nobody' as PeerId) });
    await room.until(`${other} leads`, 15_000, () => room.leader?.machine === other);
    await room.until('Ada is a member', 10_000, () => room.members.get('ada')?.view.connection === 'joined');
    await room.untilFinished(60_000);
    expect(room.leader?.machine).toBe(other);
    expect(new Set(committed).size, 'steps committed once').toBe(committed.length);
    expect(room.world.ledger).toMatchObject({ handOffs: 1, stepsRewound: 0 });
  }
});

test('a coordinator that was frozen comes back as a member', async () => {
  for (const seed of seeds(10)) {
    const { room, successor, other } = await threeWithSuccessor(seed);
    room.host('ada')?.freeze(30_000);
    expect(await untilItLeads(room, successor, other)).toBeLessThan(10_000);
    await room.until('Ada is a member', 40_000, () => room.members.get('ada')?.view.term === room.leader?.term);
    await room.untilFinished(60_000);
    expect(room.world.ledger).toMatchObject({ handOffs: 1, stepsRewound: 0 });
  }
});

test('a coordinator that was cut off comes back as a member, and has announced nothing meanwhile', async () => {
  for (const seed of seeds(10)) {
    const { room, successor, other } = await threeWithSuccessor(seed);
    room.cutOff('ada', 30_000);
    expect(await untilItLeads(room, successor, other)).toBeLessThan(12_000);
    await room.until('Ada is a member', 60_000, () => room.members.get('ada')?.view.term === room.leader?.term);
    await room.untilFinished(60_000);
    expect(room.world.ledger).toMatchObject({ handOffs: 1, stepsRewound: 0 });
  }
});

test('while the directory is down the room trains on, and a hand-off waits for it', async () => {
  for (const seed of seeds(5)) {
    const { room, successor } = await threeWithSuccessor(seed);
    room.world.directory.isDown = true;
    const { step } = room.coordinator.view;
    await room.pass(12_000);
    expect(room.coordinator.view.step).toBeGreaterThan(step + 10);
    room.crash('ada', false);
    await room.pass(10_000);
    expect(room.leader).toBeNull();
    room.world.directory.isDown = false;
    await room.until(`${successor} leads`, 10_000, () => room.leader?.machine === successor);
    await room.untilFinished(60_000);
    expect(room.world.ledger).toMatchObject({ handOffs: 1, stepsRewound: 0 });
  }
});

test('when everybody has left, the room comes back at the newest step that anybody who returns has', async () => {
  for (const seed of seeds(8)) {
    const { room, successor, other } = await threeWithSuccessor(seed);
    await room.until('both have saved', 20_000, () => (room.savedStep('ada') ?? 0) > 5 && (room.savedStep(successor) ?? 0) > 5);
    for (const name of seed % 2 === 0 ? ['ada', successor, other] : [successor, 'ada', other]) room.crash(name, seed % 3 > 0);
    await room.pass(3_000);
    const saved = [room.savedStep('ada') ?? 0, room.savedStep(successor) ?? 0];
    room.join(other);
    await room.pass(2_000);
    expect(room.leader).toBeNull();
    room.join('ada');
    room.join(successor);
    await room.until('somebody leads', 90_000, () => room.leader !== null);
    if (room.coordinator.state.config.startStep !== Math.max(...saved)) room.world.log.fail(JSON.stringify(saved));
    expect(room.coordinator.state.config.startStep).toBe(Math.max(...saved));
    await room.untilFinished(60_000);
  }
});

test('the lead goes from peer to peer, and the run comes to its end', async () => {
  for (const seed of seeds(5)) {
    const { room } = await threeWithSuccessor(seed);
    for (let leads = 0; leads < 4; leads += 1) {
      const name = room.coordinator.machine;
      const before = room.coordinator.term;
      await room.until('a successor is ready', 20_000, () => room.coordinator.view.peers.some(({ succession }) => succession === 'ready'));
      room.reload(name, leads % 2 === 0, 500);
      await room.until('somebody else leads', 15_000, () => room.leader !== null && room.leader.term > before);
      expect(room.coordinator.machine).not.toBe(name);
    }
    await room.untilFinished(60_000);
    expect(room.world.ledger).toMatchObject({ handOffs: 4, stepsRewound: 0 });
  }
});
