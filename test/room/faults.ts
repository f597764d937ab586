/**
 * Plans of trouble, drawn from the seed: who joins when, what breaks when, and how the network behaves meanwhile. Whoever
 * leads is as likely to be struck as anybody. After `faultsEndMs` everything is calm, whoever left comes back, and the room
 * must come to its end.
 */
import { calmNetwork } from './network.ts';
import { Random } from './random.ts';
import { awake } from '../../src/room/messages.ts';
import type { OwnerCommand } from '../../src/room/rules.ts';
import { LeadHost } from './lead-host.ts';
import { MemberHost } from './member-host.ts';
import { Orders } from './orders.ts';
import { Simulation } from './simulator.ts';
import type { SimulationOptions } from './simulator.ts';

export const faultsEndMs = 20_000;
/** From the end of the faults to the end of the run, everybody re-connected: virtual time. */
export const recoveryMs = 150_000;

const furtherTroubles = 0x5eed;
const relayTroubles = 0xfeed;
const names = ['ada', 'bob', 'cid', 'dan', 'eve', 'fay'];

export interface FaultsOptions extends SimulationOptions {
  /** The owner gives orders meanwhile. */
  readonly hasOrders: boolean;
  /** When the server is restarted, its disk is lost, too. */
  readonly forgets: boolean;
}

export async function simulateFaults(options: FaultsOptions): Promise<Simulation> {
  const choice = new Random(options.seed);
  const room = new Simulation({ ...options, evalEvery: choice.pick([0, 4]), checkpointEverySteps: choice.pick([1, 3, 7]) });
  const { world } = room;
  const faults = world.random.fork();
  world.network.faults = {
    leastDelayMs: 1,
    mostDelayMs: faults.pick([10, 60, 300]),
    bytesPerMs: faults.pick([50, 500, 5000]),
    duplicate: faults.pick([0, 0.02, 0.1]),
    corrupt: 0,
  };
  await room.lead('ada', { msPerMicrobatch: faults.between(60, 400) });
  const present = names.slice(0, 2 + faults.below(names.length - 1));
  present.slice(1).forEach((name, index) => {
    const settings = {
      msPerMicrobatch: faults.between(40, 600),
      wantsToWatch: index > 0 && faults.chance(0.1),
      canSucceed: index === 0 || faults.chance(0.8),
    };
    world.clock.after(faults.between(0, 12_000), () => void room.join(name, settings));
  });
  const troubles = 2 + faults.below(8);
  for (let count = 0; count < troubles; count += 1) {
    world.clock.after(faults.between(500, faultsEndMs - 500), () => {
      strike(room, faults, present, options.forgets);
    });
  }
  // Drawn apart, so that the troubles above are those that a seed has always had.
  const further = new Random(options.seed ^ furtherTroubles);
  for (let count = further.below(4); count > 0; count -= 1) {
    world.clock.after(further.between(500, faultsEndMs - 500), () => {
      disturb(room, further, present);
    });
  }
  const ofRelays = new Random(options.seed ^ relayTroubles);
  for (let count = options.relaysFrom == null ? 0 : ofRelays.below(5); count > 0; count -= 1) {
    world.clock.after(ofRelays.between(500, faultsEndMs - 500), () => {
      misrelay(room, ofRelays);
    });
  }
  const orders = options.hasOrders ? giveOrders(room, new Random(options.seed + ordersSeed)) : null;
  await room.pass(faultsEndMs);
  world.network.faults = calmNetwork;
  world.log.note('FAULT', 'no more of them');
  // Whoever could bring the room back does, should everybody have gone.
  for (const name of present) if (!room.isOpen(name) && room.savedStep(name) !== null) room.join(name);
  // Who is told nothing any more would change the run after its end.
  if (orders !== null) await room.until('the owner’s orders are answered', recoveryMs, () => orders.isIdle);
  await room.untilFinished(recoveryMs);
  return room;
}

/** Somebody rests for a while, or what it sends can't be understood. */
function disturb(room: Simulation, random: Random, names: readonly string[]): void {
  const { world } = room;
  const host = room.host(random.pick(names));
  const lastsMs = random.between(300, 9_000);
  const rest = random.pick(['hidden', 'frozen', 'throttled', 'battery'] as const);
  if (host === null) return;
  if (host instanceof MemberHost && random.chance(0.6)) {
    world.log.note('FAULT', `${host.machine} rests for ${(lastsMs / 1000).toFixed(1)} s`);
    host.dispatch({ type: 'presence', presence: { isHidden: true, rest } });
    return world.clock.after(lastsMs, () => {
      host.dispatch({ type: 'presence', presence: awake });
    });
  }
  world.log.note('FAULT', `what ${host.machine} sends is garbled for ${(lastsMs / 1000).toFixed(1)} s`);
  world.network.garble(host.machine, lastsMs);
}

/** Whoever forwards updates does it wrongly for a while, or is gone, or stands still. */
function misrelay(room: Simulation, random: Random): void {
  const { world, leader } = room;
  const relays = [...new Set([...(leader?.state.peers.values() ?? [])].flatMap(({ feed }) => (feed?.isOpen === true ? [feed.from] : [])))];
  const lastsMs = random.between(300, 9_000);
  const how = random.pick(['garbage', 'silence', 'late', 'freeze', 'reload'] as const);
  const relay = relays.length === 0 ? null : random.pick(relays);
  const host = [...room.members.values()].find(({ view }) => view.self === relay);
  if (host === undefined) return;
  world.log.note('FAULT', `${host.machine}, which forwards updates: ${how} for ${(lastsMs / 1000).toFixed(1)} s`);
  if (how === 'reload') return room.reload(host.machine, random.chance(0.5), lastsMs);
  if (how === 'freeze') return host.freeze(lastsMs);
  host.misrelay(how, lastsMs);
}

/** Drawn apart from everything else, so that a seed's troubles are the same with and without orders. */
const ordersSeed = 77_000_000;

/** Ada made the room, and may be anybody's member by the time that she wants something. */
function giveOrders(room: Simulation, random: Random): Orders {
  const orders = new Orders(room, 'ada');
  const count = 1 + random.below(4);
  for (let given = 0; given < count; given += 1) {
    room.world.clock.after(random.between(500, faultsEndMs), () => {
      orders.give(anyOrder(room, random));
    });
  }
  return orders;
}

function anyOrder(room: Simulation, random: Random): OwnerCommand {
  switch (random.below(6)) {
    case 0:
      return { kind: 'rename', title: `Room ${random.below(1000)}` };
    case 1:
      return { kind: 'schedule', steps: random.pick([18, 22, 26, 30]) };
    case 2:
    case 3: {
      const peers = room.leader?.view.peers.filter(({ role }) => role === 'member') ?? [];
      return peers.length === 0 ? { kind: 'rename', title: 'Alone' } : { kind: 'handOver', peer: random.pick(peers).id };
    }
    default:
      return { kind: 'schedule', learningRate: random.between(0.001, 0.05), ...(random.chance(0.5) && { minLearningRate: 0.0005 }) };
  }
}

/** One thing goes wrong now. What lasts ends by itself within seconds. */
function strike(room: Simulation, random: Random, names: readonly string[], forgets: boolean): void {
  const { world, leader } = room;
  const present = names.filter((name) => room.isOpen(name));
  if (present.length === 0) return;
  // Half of all trouble is the leader's.
  const name = leader !== null && random.chance(0.5) ? leader.machine : random.pick(present);
  const other = random.pick(names.filter((each) => each !== name));
  const host = room.host(name);
  const lastsMs = random.between(300, 9_000);
  const isNoticed = random.chance(0.5);
  const note = (what: string): void => {
    world.log.note('FAULT', `${what} ${name} for ${(lastsMs / 1000).toFixed(1)} s`);
  };
  switch (random.below(14)) {
    case 0:
      // Somebody stays who has something to go on from.
      if (present.length > 2) room.crash(name, isNoticed);
      return;
    case 1:
    case 2:
      return room.reload(name, isNoticed, random.between(300, 6_000));
    case 3:
      note('freezes');
      return host?.freeze(random.chance(0.3) ? 3 * lastsMs : lastsMs);
    case 4:
      note('the GPU hangs of');
      return host?.gpu.stall(lastsMs);
    case 5:
      note(`a partition from ${other} cuts off`);
      world.network.block(other, name, lastsMs);
      return world.network.block(name, other, lastsMs);
    case 6:
      note(`nothing from ${other} reaches`);
      return world.network.block(other, name, lastsMs);
    case 7:
      note(`nothing is heard by ${other} of`);
      return world.network.block(name, other, lastsMs);
    case 8:
      note('no network for');
      return room.cutOff(name, random.chance(0.3) ? 3 * lastsMs : lastsMs);
    case 9:
      note(`the connection with ${other} drops of`);
      return world.network.drop(name, other);
    case 10:
      note('eight times slower:');
      return host?.gpu.slowDown(8, lastsMs);
    case 11:
      note('the GPU is lost of');
      if (host instanceof LeadHost) return room.loseLeadersGpu(lastsMs);
      // A page whose GPU goes while it takes the lead over begins anew, like a reloaded one.
      if (host?.state.phase === 'leading') return room.reload(name, false, lastsMs);
      return host?.loseGpu(lastsMs);
    case 12:
      note('the directory is down, beside');
      world.directory.isDown = true;
      return world.clock.after(lastsMs, () => {
        world.directory.isDown = false;
      });
    default:
      note(`the directory restarts${forgets ? ' and has forgotten everything' : ''}, beside`);
      return world.directory.restart(forgets);
  }
}
