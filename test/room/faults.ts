/**
 * Plans of trouble, drawn from the seed: who joins when, what breaks when, and how the network behaves meanwhile. After
 * `faultsEndMs` everything is calm, and the room must come to its end.
 */
import { calmNetwork } from './network.ts';
import type { Random } from './random.ts';
import { Simulation } from './simulator.ts';
import type { SimulationOptions } from './simulator.ts';

export const faultsEndMs = 20_000;
/** From the end of the faults to the end of the run, everybody re-connected: virtual time. */
export const recoveryMs = 150_000;

const memberNames = ['bob', 'cid', 'dan', 'eve', 'fay'];

export async function simulateFaults(options: SimulationOptions): Promise<Simulation> {
  const room = new Simulation(options);
  const { world } = room;
  const random = world.random.fork();
  world.network.faults = {
    leastDelayMs: 1,
    mostDelayMs: random.pick([10, 60, 300]),
    bytesPerMs: random.pick([50, 500, 5000]),
    duplicate: random.pick([0, 0.02, 0.1]),
    corrupt: 0,
  };
  const canCompute = random.chance(0.85);
  await room.lead('ada', {
    msPerMicrobatch: random.between(60, 400),
    canCompute,
    evalEvery: random.pick([0, 4]),
    checkpointEverySteps: random.pick([1, 3, 7]),
  });
  const names = memberNames.slice(0, 1 + random.below(memberNames.length));
  names.forEach((name, index) => {
    const settings = { msPerMicrobatch: random.between(40, 600), wantsToWatch: index > 0 && random.chance(0.1) };
    world.clock.after(random.between(0, 12_000), () => void room.join(name, settings));
  });
  const troubles = 2 + random.below(8);
  for (let count = 0; count < troubles; count += 1) {
    world.clock.after(random.between(500, faultsEndMs - 500), () => strike(room, random, names));
  }
  await room.pass(faultsEndMs);
  world.network.faults = calmNetwork;
  for (const member of room.members.values()) member.canLookUp = true;
  await room.untilFinished(recoveryMs);
  return room;
}

/** One thing goes wrong now. What lasts ends by itself within seconds. */
function strike(room: Simulation, random: Random, names: readonly string[]): void {
  const { world } = room;
  const present = names.filter((name) => room.members.has(name));
  if (present.length === 0) return;
  const name = random.pick(present);
  const member = room.member(name);
  const lastsMs = random.between(300, 9_000);
  const isNoticed = random.chance(0.5);
  const note = (what: string): void => {
    world.log.note('FAULT', `${what} ${name} for ${(lastsMs / 1000).toFixed(1)} s`);
  };
  switch (random.below(12)) {
    case 0:
      // The last member stays when the coordinator can't compute: somebody must.
      if (present.length > 1) room.crash(name, isNoticed);
      return;
    case 1:
      return room.reload(name, isNoticed, random.between(300, 3_000));
    case 2:
      note('freezes');
      return member.freeze(lastsMs);
    case 3:
      note('the GPU hangs of');
      return member.gpu.stall(lastsMs);
    case 4:
      note('a partition cuts off');
      world.network.block('ada', name, lastsMs);
      return world.network.block(name, 'ada', lastsMs);
    case 5:
      note('nothing reaches');
      return world.network.block('ada', name, lastsMs);
    case 6:
      note('nothing is heard of');
      return world.network.block(name, 'ada', lastsMs);
    case 7:
      note('the connection drops of');
      return world.network.drop('ada', name);
    case 8:
      note('eight times slower:');
      member.gpu.msPerMicrobatch *= 8;
      return world.clock.after(lastsMs, () => {
        member.gpu.msPerMicrobatch /= 8;
      });
    case 9:
      note('the GPU is lost of');
      return member.loseGpu(lastsMs);
    case 10:
      note('the leading tab freezes beside');
      return room.coordinator.freeze(lastsMs);
    default:
      member.canLookUp = random.chance(0.5);
      return room.reloadCoordinator(isNoticed, random.between(200, 4_000));
  }
}
