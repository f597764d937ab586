/**
 * A simulated room: real machines and real (tiny) training over a seeded network in virtual time. One seed replays one
 * history exactly. Faults are injected by calling it; `faults.ts` makes plans of them.
 */
import type { HistoryPoint, PeerDevice } from '../../src/room/messages.ts';
import { VirtualClock } from './clock.ts';
import { CoordinatorHost } from './coordinator-host.ts';
import { SimulatedDirectory } from './directory.ts';
import { SimulatedGpu } from './gpu.ts';
import { Ledger } from './ledger.ts';
import { RoomLog, SimulationFailure } from './log.ts';
import { MemberHost } from './member-host.ts';
import type { Lie } from './member-host.ts';
import { SimulatedNetwork } from './network.ts';
import { Random } from './random.ts';
import type { TinyRun } from './tiny-run.ts';
import type { Tampering, World } from './world.ts';

export interface SimulationOptions {
  readonly seed: number;
  readonly run: TinyRun;
  readonly undisturbed: readonly number[];
  readonly tampering?: Tampering;
  readonly countsOnly?: boolean;
}

export interface LeaderSettings {
  readonly msPerMicrobatch?: number;
  readonly canCompute?: boolean;
  readonly startPaused?: boolean;
  readonly evalEvery?: number;
  readonly checkpointEverySteps?: number;
}

export interface MemberSettings {
  readonly msPerMicrobatch?: number;
  readonly wantsToWatch?: boolean;
  readonly lie?: Lie;
}

const defaultMsPerMicrobatch = 60;
/** Every machine says the same of itself, right or wrong: what counts is what is measured. */
const probeTokensPerSecond = 150;

function device(canCompute: boolean): PeerDevice {
  const problem = canCompute ? null : { code: 'no-webgpu', message: 'This browser has no WebGPU.' };
  return { name: 'simulated GPU', isSoftware: true, probeTokensPerSecond, problem };
}

export class Simulation {
  readonly world: World;
  readonly members = new Map<string, MemberHost>();
  readonly #memberSettings = new Map<string, MemberSettings>();
  #coordinator: CoordinatorHost | null = null;
  #leader: { readonly machine: string; readonly settings: LeaderSettings } | null = null;
  #addresses = 0;

  constructor(options: SimulationOptions) {
    const clock = new VirtualClock();
    const random = new Random(options.seed);
    const log = new RoomLog(clock, replayHint(options.seed));
    this.world = {
      clock,
      random,
      log,
      ledger: new Ledger(log, {
        microbatchesPerStep: options.run.source.microbatchesPerStep,
        undisturbed: options.undisturbed,
        countsOnly: options.countsOnly ?? false,
      }),
      network: new SimulatedNetwork(clock, random.fork()),
      directory: new SimulatedDirectory(),
      run: options.run,
      tampering: options.tampering ?? {},
      disk: null,
      newAddress: (machine) => `${machine}-${this.#addresses++}`,
    };
  }

  get coordinator(): CoordinatorHost {
    if (this.#coordinator === null) throw new Error('nobody leads');
    return this.#coordinator;
  }

  member(machine: string): MemberHost {
    const member = this.members.get(machine);
    if (member === undefined) throw new RangeError(`${machine} is not in the room`);
    return member;
  }

  async lead(machine: string, settings: LeaderSettings = {}): Promise<void> {
    this.#leader = { machine, settings };
    const gpu = new SimulatedGpu(this.world.clock, settings.msPerMicrobatch ?? defaultMsPerMicrobatch);
    this.#coordinator = await CoordinatorHost.start(this.world, machine, gpu, {
      device: device(settings.canCompute ?? true),
      startPaused: settings.startPaused ?? false,
      evalEvery: settings.evalEvery ?? 0,
      checkpointEverySteps: settings.checkpointEverySteps ?? 5,
    });
  }

  join(machine: string, settings: MemberSettings = {}): MemberHost {
    this.#memberSettings.set(machine, settings);
    const gpu = new SimulatedGpu(this.world.clock, settings.msPerMicrobatch ?? defaultMsPerMicrobatch);
    const options = { device: device(true), wantsToWatch: settings.wantsToWatch ?? false, lie: settings.lie ?? null };
    const member = new MemberHost(this.world, machine, gpu, options);
    this.members.set(machine, member);
    return member;
  }

  /** Closed for good. */
  crash(machine: string, isNoticed: boolean): void {
    this.world.log.note(machine, isNoticed ? 'closes its tab' : 'crashes without a word');
    this.member(machine).close(isNoticed);
    this.members.delete(machine);
  }

  /** A member's tab is closed and opened again: nothing of it survives. */
  reload(machine: string, isNoticed: boolean, afterMs: number): void {
    this.crash(machine, isNoticed);
    this.world.clock.after(afterMs, () => {
      this.join(machine, this.#memberSettings.get(machine));
    });
  }

  /** The leading tab is closed and opened again: the run goes on from the newest checkpoint under the next term. */
  reloadCoordinator(isNoticed: boolean, afterMs: number): void {
    const leader = this.#leader;
    if (leader === null || !this.coordinator.isOpen) return;
    this.world.log.note(leader.machine, 'reloads');
    this.coordinator.close(isNoticed);
    this.world.clock.after(afterMs, () => this.lead(leader.machine, leader.settings));
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
    return this.until(`step ${step}`, withinMs, () => this.coordinator.state.step >= step);
  }

  /** Everybody has finished and agrees on the whole history. */
  async untilFinished(withinMs: number): Promise<void> {
    const { world } = this;
    const { steps } = world.run.settings;
    await this.until(`${steps} steps committed`, withinMs, () => this.coordinator.isOpen && this.coordinator.state.phase === 'finished');
    const behind = () => [...this.members.values()].filter((member) => !this.#agrees(member)).map((member) => member.machine);
    await this.until(() => `${behind().join(', ')} at the same end as the coordinator`, withinMs, () => behind().length === 0);
    const { history } = this.coordinator.state;
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
    if (curve(view.history) !== curve(lead.history)) return false;
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

/** Everything in a history, whatever the order of its points' keys. */
function curve(history: readonly HistoryPoint[]): string {
  return history.map((point) => Object.entries(point).sort(([a], [b]) => (a < b ? -1 : 1)).join()).join('\n');
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

