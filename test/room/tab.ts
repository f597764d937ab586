/**
 * A simulated computer, and the tab open on it: its own clock, which runs a little wrong; a page that can freeze, be closed
 * or lose its network; and the role the page plays at the moment. What the role does is in the two hosts.
 */
import type { RoomRules } from '../../src/room/rules.ts';
import type { Checkpoint } from '../../src/checkpoint/types.ts';
import type { SimulatedGpu } from './gpu.ts';
import type { End, Handlers } from './network.ts';
import type { Random } from './random.ts';
import type { World } from './world.ts';

const tickIntervalMs = 250;
const worstClockDrift = 0.03;

/** What outlives a tab: the browser's storage. */
export interface Computer {
  readonly name: string;
  /** Its secret for leases. */
  readonly holder: string;
  /** Newest checkpoint saved in its IndexedDB. */
  disk: Checkpoint | null;
  /** Of the replica it fetched last, by their hashes. */
  readonly pieces: Map<string, ArrayBuffer>;
  /** Saved beside the run. */
  rules: RoomRules;
}

export interface Role {
  tick(): void;
  /** Somebody connects to this tab. */
  accept(end: End): Handlers;
  /** The tab is closed, or plays another role from now on. */
  end(): void;
}

const nobody: Handlers = { control: () => undefined, blob: () => undefined, closed: () => undefined };

export class Tab {
  readonly computer: Computer;
  readonly address: string;
  readonly gpu: SimulatedGpu;
  readonly world: World;
  readonly random: Random;
  readonly #clockOffsetMs: number;
  readonly #clockRate: number;
  #role: Role | null = null;
  #isOpen = true;
  #frozenUntilMs = 0;
  #waiting: (() => void)[] = [];

  constructor(world: World, computer: Computer, gpu: SimulatedGpu) {
    this.world = world;
    this.computer = computer;
    this.gpu = gpu;
    this.random = world.random.fork();
    this.address = world.newAddress(computer.name);
    this.#clockOffsetMs = this.random.between(0, 1e6);
    this.#clockRate = this.random.between(1 - worstClockDrift, 1 + worstClockDrift);
    world.network.listen({
      machine: computer.name,
      address: this.address,
      accept: (end) => {
        if (this.#role !== null) return this.#role.accept(end);
        end.close();
        return nobody;
      },
    });
    this.#tickLater();
  }

  get name(): string {
    return this.computer.name;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  get role(): Role | null {
    return this.#role;
  }

  play(role: Role): void {
    this.#role?.end();
    this.#role = role;
  }

  /** What this tab's clock shows. */
  nowMs(): number {
    return this.#clockOffsetMs + this.world.clock.nowMs * this.#clockRate;
  }

  /** Something happens in this tab: now, after it thaws, or never once it is closed. */
  enter(action: () => void): void {
    if (!this.#isOpen) return;
    if (this.world.clock.nowMs < this.#frozenUntilMs) this.#waiting.push(action);
    else action();
  }

  freeze(durationMs: number): void {
    this.#frozenUntilMs = Math.max(this.#frozenUntilMs, this.world.clock.nowMs + durationMs);
    this.world.clock.after(durationMs, () => {
      if (this.world.clock.nowMs < this.#frozenUntilMs) return;
      for (const action of this.#waiting.splice(0)) this.enter(action);
    });
  }

  /** The tab is closed or crashes. */
  close(isNoticed: boolean): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#waiting = [];
    this.gpu.lose();
    this.#role?.end();
    this.#role = null;
    this.world.network.vanish(this.address, isNoticed);
    this.world.directory.socketClosed(this.address);
  }

  #tickLater(): void {
    this.world.clock.after(tickIntervalMs / this.#clockRate, () => {
      if (!this.#isOpen) return;
      if (this.world.clock.nowMs >= this.#frozenUntilMs) this.#role?.tick();
      this.#tickLater();
    });
  }
}
