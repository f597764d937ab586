/**
 * A simulated room: real machines and real (tiny) training over a seeded network in virtual time. One seed replays one
 * history exactly. Faults are injected by calling it; `faults.ts` makes plans of them.
 */
import { isDeepStrictEqual } from 'node:util';
import { handOffExpectedMs } from '../../src/room/limits.ts';
import type { HistoryPoint, PeerDevice, Step, Term } from '../../src/room/messages.ts';
import { fromStep, noRules } from '../../src/room/rules.ts';
import { VirtualClock } from './clock.ts';
import { CpuTrainer } from './cpu-trainer.ts';
import { SimulatedDirectory } from './directory.ts';
import { SimulatedGpu } from './gpu.ts';
import { LeadHost } from './lead-host.ts';
import type { ReignStart } from './lead-host.ts';
import { Ledger } from './ledger.ts';
import { RoomLog, SimulationFailure } from './log.ts';
import { MemberHost } from './member-host.ts';
import type { Lie } from './member-host.ts';
import { SimulatedNetwork } from './network.ts';
import { Random } from './random.ts';
import { Tab } from './tab.ts';
import type { Computer, Role } from './tab.ts';
import { ChangedRun } from './tiny-run.ts';
import type { TinyRun } from './tiny-run.ts';
import type { Tampering, World } from './world.ts';

export interface SimulationOptions {
  readonly seed: number;
  readonly run: TinyRun;
  readonly undisturbed: readonly number[];
  readonly tampering?: Tampering;
  readonly countsOnly?: boolean;
  /** Relative; default is what the order of sums makes. */
  readonly lossTolerance?: number;
  readonly evalEvery?: number;
  readonly checkpointEverySteps?: number;
  /** As in the coordinator's config. */
  readonly relaysFrom?: number | null;
  readonly piecesPerUpdate?: number;
}

export interface MachineSettings {
  readonly msPerMicrobatch?: number;
  readonly canCompute?: boolean;
  readonly wantsToWatch?: boolean;
  /** Default: whoever computes could lead. */
  readonly canSucceed?: boolean;
  readonly lie?: Lie;
}

export interface LeaderSettings extends MachineSettings {
  readonly startPaused?: boolean;
}

interface Machine {
  readonly computer: Computer;
  readonly settings: MachineSettings;
  readonly device: PeerDevice;
  tab: Tab | null;
}

/** DESIGN §2. */
const orderOfSumsTolerance = 1e-4;
const defaultMsPerMicrobatch = 60;
const restoreMs = 200;
/** Every machine says the same of itself, right or wrong: what counts is what is measured. */
const probeTokensPerSecond = 150;

function device(canCompute: boolean): PeerDevice {
  const problem = canCompute ? null : { code: 'no-webgpu', message: 'This browser has no WebGPU.' };
  return { name: 'simulated GPU', isSoftware: true, probeTokensPerSecond, problem };
}

export class Simulation {
  readonly world: World;
  readonly #machines = new Map<string, Machine>();
  readonly #evalEvery: number;
  readonly #checkpointEverySteps: number;
  readonly #relaysFrom: number | null;
  #addresses = 0;

  constructor(options: SimulationOptions) {
    const clock = new VirtualClock();
    const random = new Random(options.seed);
    const log = new RoomLog(clock, replayHint(options.seed));
    this.#evalEvery = options.evalEvery ?? 0;
    this.#checkpointEverySteps = options.checkpointEverySteps ?? 5;
    this.#relaysFrom = options.relaysFrom ?? null;
    this.world = {
      clock,
      random,
      log,
      ledger: new Ledger(log, {
        microbatchesPerStep: options.run.source.microbatchesPerStep,
        undisturbed: options.undisturbed,
        countsOnly: options.countsOnly ?? false,
        lossTolerance: options.lossTolerance ?? orderOfSumsTolerance,
        reigns: (term) => this.#roles().some((role) => role instanceof LeadHost && role.term === term),
      }),
      network: new SimulatedNetwork(clock, random.fork()),
      directory: new SimulatedDirectory(clock, random.fork()),
      run: options.run,
      tampering: options.tampering ?? {},
      piecesPerUpdate: options.piecesPerUpdate ?? 7,
      changedRun: new ChangedRun(options.run),
      declined: new Set(),
      newAddress: (machine) => `${machine}-${this.#addresses++}`,
    };
  }

  /** Whoever leads with the newest term. */
  get leader(): LeadHost | null {
    const leads = this.#roles().filter((role) => role instanceof LeadHost);
    return leads.reduce<LeadHost | null>((newest, lead) => (newest === null || lead.term > newest.term ? lead : newest), null);
  }

  get coordinator(): LeadHost {
    return this.leader ?? this.world.log.fail('nobody leads');
  }

  /** All that are members now. */
  get members(): ReadonlyMap<string, MemberHost> {
    return new Map(this.#roles().filter((role) => role instanceof MemberHost).map((member) => [member.machine, member]));
  }

  member(name: string): MemberHost {
    return this.members.get(name) ?? this.world.log.fail(`${name} is no member now`);
  }

  host(name: string): MemberHost | LeadHost | null {
    const role = this.#machines.get(name)?.tab?.role;
    return role instanceof MemberHost || role instanceof LeadHost ? role : null;
  }

  isOpen(name: string): boolean {
    return this.#machines.get(name)?.tab?.isOpen ?? false;
  }

  /** What this machine's browser has saved. */
  savedStep(name: string): number | null {
    return this.#machines.get(name)?.computer.disk?.step ?? null;
  }

  #roles(): Role[] {
    return [...this.#machines.values()].flatMap(({ tab }) => (tab?.isOpen === true && tab.role !== null ? [tab.role] : []));
  }

  /** Starts the room. */
  async lead(name: string, settings: LeaderSettings = {}): Promise<LeadHost> {
    const { world } = this;
    const machine = this.#machine(name, settings);
    const tab = this.#open(machine);
    const trainer = new CpuTrainer(world.run.settings, world.run.memo);
    const hash = await trainer.initialize();
    const facts = { room: 'room', term: 1, step: 0, savedAtMs: 0, startedAtMs: 0, loss: null, history: '[]' };
    machine.computer.disk = { ...facts, state: await trainer.masterState() };
    world.directory.apply(name, { type: 'create', coordinator: tab.address, holder: machine.computer.holder, term: 1, step: 0, isReclaim: false }, (outcome) => {
      if (outcome?.ok !== true) return world.log.fail('the room could not be made');
      const isPaused = settings.startPaused ?? false;
      this.#reign(machine, tab, { term: 1 as Term, after: 0, trainer, step: 0 as Step, hash, history: [], rules: noRules, isPaused, sentAs: null, kind: 'new', wasForgotten: false });
    });
    await this.until('the room is made', 1_000, () => this.leader !== null);
    return this.coordinator;
  }

  join(name: string, settings: MachineSettings = {}): MemberHost {
    const machine = this.#machine(name, settings);
    return this.#follow(machine, this.#open(machine));
  }

  #machine(name: string, settings: MachineSettings): Machine {
    const known = this.#machines.get(name);
    if (known !== undefined) return known;
    const computer = { name, holder: `holder-of-${name}`, disk: null, pieces: new Map<string, ArrayBuffer>(), rules: noRules };
    const machine: Machine = { computer, settings, device: device(settings.canCompute ?? true), tab: null };
    this.#machines.set(name, machine);
    return machine;
  }

  #open(machine: Machine): Tab {
    const gpu = new SimulatedGpu(this.world.clock, machine.settings.msPerMicrobatch ?? defaultMsPerMicrobatch);
    machine.tab = new Tab(this.world, machine.computer, gpu);
    return machine.tab;
  }

  /** `yields`: it does not ask for the lead for a while. */
  #follow(machine: Machine, tab: Tab, yields = false): MemberHost {
    const { wantsToWatch = false, lie = null, canSucceed = true } = machine.settings;
    const member = new MemberHost(tab, {
      device: machine.device,
      wantsToWatch,
      canSucceed,
      yields,
      lie,
      leads: (granted, warm) => {
        if (warm !== null) {
          const { step, hash, history, rules, isPaused, sentAs } = warm.reign;
          this.#reign(machine, tab, { ...granted, after: member.view.term, trainer: warm.trainer, step, hash, history, rules, isPaused, sentAs, kind: this.world.directory.lastTakeOverWasNamed ? 'warm' : 'cold' });
        } else {
          this.#restore(machine, tab, granted);
        }
      },
    });
    tab.play(member);
    return member;
  }

  #restore(machine: Machine, tab: Tab, granted: Pick<ReignStart, 'term' | 'wasForgotten'>): void {
    const { world } = this;
    const { disk } = machine.computer;
    if (disk === null) return world.log.fail(`${machine.computer.name} leads, and has nothing saved`);
    tab.gpu.submit('restore', restoreMs, async () => {
      const trainer = new CpuTrainer(world.run.settings, world.run.memo);
      const hash = await trainer.restore(disk.state);
      const history = JSON.parse(disk.history) as HistoryPoint[];
      this.#reign(machine, tab, { ...granted, after: disk.term, trainer, step: disk.step as Step, hash, history, rules: fromStep(machine.computer.rules, history, disk.step as Step), isPaused: false, sentAs: null, kind: 'cold' });
    });
  }

  #reign(machine: Machine, tab: Tab, start: ReignStart): LeadHost {
    const lead = new LeadHost(
      tab,
      {
        device: machine.device,
        evalEvery: this.#evalEvery,
        checkpointEverySteps: this.#checkpointEverySteps,
        relaysFrom: this.#relaysFrom,
        deposed: () => void this.#follow(machine, tab),
        handedOver: () => {
          const saved = machine.computer.disk;
          const member = this.#follow(machine, tab, true);
          if (saved === null) return;
          // Should nobody take over after all.
          this.world.clock.after(handOffExpectedMs, () => {
            if (member.isOpen) tab.enter(() => member.dispatch({ type: 'saved', saved: { step: saved.step as Step, term: saved.term as Term } }));
          });
        },
      },
      start,
    );
    tab.play(lead);
    return lead;
  }

  /** Closed for good. */
  crash(name: string, isNoticed: boolean): void {
    const machine = this.#machines.get(name);
    if (machine?.tab?.isOpen !== true) return;
    this.world.log.note(name, isNoticed ? 'closes its tab' : 'crashes without a word');
    const { role } = machine.tab;
    if (isNoticed && role instanceof LeadHost) role.release();
    if (isNoticed && role instanceof MemberHost) role.dispatch({ type: 'command', command: 'leave' });
    machine.tab.close(isNoticed);
  }

  /** A tab is closed and opened again: nothing of it survives but what it saved. */
  reload(name: string, isNoticed: boolean, afterMs: number): void {
    this.crash(name, isNoticed);
    this.world.clock.after(afterMs, () => {
      if (!this.isOpen(name)) this.join(name);
    });
  }

  /** The leader's GPU is lost: it hands the lead over, and goes on as a member once its GPU is back. */
  loseLeadersGpu(downMs: number): void {
    const { leader } = this;
    const machine = leader === null ? undefined : this.#machines.get(leader.machine);
    const tab = machine?.tab;
    if (leader === null || machine === undefined || tab == null) return;
    this.world.log.note(leader.machine, 'loses its GPU while it leads');
    tab.gpu.lose();
    tab.enter(() => {
      if (!leader.isOpen) return;
      leader.release();
      this.#follow(machine, tab).loseGpu(downMs);
    });
  }

  /** This machine loses its network: every peer, and the server. */
  cutOff(name: string, durationMs: number): void {
    const { network, directory, clock } = this.world;
    for (const other of this.#machines.keys()) {
      if (other === name) continue;
      network.block(name, other, durationMs);
      network.block(other, name, durationMs);
    }
    directory.cutOff(name, true);
    clock.after(durationMs, () => {
      directory.cutOff(name, false);
    });
  }

  /** Runs until the condition holds; fails the simulation if it does not within the virtual time given. */
  async until(what: string | (() => string), withinMs: number, condition: () => boolean): Promise<void> {
    const { clock, log } = this.world;
    if (await this.#running(clock.nowMs + withinMs, condition)) return;
    log.fail(`not within ${withinMs / 1000} s: ${typeof what === 'string' ? what : what()}`);
  }

  async pass(durationMs: number): Promise<void> {
    await this.#running(this.world.clock.nowMs + durationMs, () => false);
  }

  untilStep(step: number, withinMs = 120_000): Promise<void> {
    return this.until(`step ${step}`, withinMs, () => (this.leader?.view.step ?? 0) >= step);
  }

  /** Everybody has finished and agrees on the whole history. */
  async untilFinished(withinMs: number): Promise<void> {
    const { world } = this;
    await this.until('all steps committed', withinMs, () => this.leader?.state.phase === 'finished');
    // Somebody else may have taken the lead meanwhile, from a step before the last.
    const behind = () => this.leader?.state.phase !== 'finished' ? ['the leader'] : [...this.members.values()].filter((member) => !this.#agrees(member)).map((member) => member.machine);
    await this.until(() => `${behind().join(', ')} at the same end as the coordinator`, withinMs, () => behind().length === 0);
    const { history } = this.coordinator.state;
    const { steps } = this.coordinator.view;
    history.forEach((point, index) => {
      if (point.step !== index) world.log.fail(`the history has step ${point.step} at place ${index}`);
    });
    if (history.length !== steps) world.log.fail(`the history has ${history.length} points`);
    for (const member of this.members.values()) {
      if (member.unusedBlobs > 0) world.log.fail(`${member.machine} holds ${member.unusedBlobs} blobs that nobody wants`);
    }
    if (this.coordinator.unusedBlobs > 0) world.log.fail('the coordinator holds blobs that nobody wants');
  }

  #agrees(member: MemberHost): boolean {
    const lead = this.coordinator.view;
    const { view } = member;
    if (view.term !== lead.term || view.phase !== 'finished' || view.connection !== 'joined') return false;
    if (!isSameCurve(view.history, lead.history)) return false;
    const isMember = view.role === 'member';
    return !isMember || (view.replica?.step === lead.step && view.replica.hash === lead.history.at(-1)?.replicaHash);
  }

  async #running(limitMs: number, condition: () => boolean): Promise<boolean> {
    try {
      return await this.world.clock.runUntil(limitMs, condition);
    } catch (error) {
      if (error instanceof SimulationFailure) throw error;
      return this.world.log.fail(error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
  }
}

function isSameCurve(a: readonly HistoryPoint[], b: readonly HistoryPoint[]): boolean {
  return a.length === b.length && a.every((point, at) => isSamePoint(point, b[at]));
}

/** In everything that either says. */
function isSamePoint(a: HistoryPoint, b: HistoryPoint | undefined): boolean {
  if (a === b) return true;
  const keys = Object.keys(a) as (keyof HistoryPoint)[];
  const isSame = (key: keyof HistoryPoint): boolean => a[key] === b?.[key] || (key === 'change' && isDeepStrictEqual(a.change, b?.change));
  return b !== undefined && keys.length === Object.keys(b).length && keys.every(isSame);
}

function replayHint(seed: number): string {
  return `seed ${seed}; replay it alone: ROOM_SEED=${seed} npx vitest run --project room <this file>`;
}

/** For tests that simulate hundreds of rooms: a limit that a busy machine keeps too. */
export const longTestMs = 600_000;

/** Seeds of a test: all of a range, or the one that `ROOM_SEED` names. */
export function seeds(count: number): readonly number[] {
  const chosen = process.env['ROOM_SEED'];
  return chosen === undefined ? Array.from({ length: count }, (_, index) => index) : [Number(chosen)];
}

