/** A simulated computer with one tab on it: its own clock, which runs a little wrong, and a tab that can freeze or be closed. */
import type { Random } from './random.ts';
import type { SimulatedGpu } from './gpu.ts';
import type { World } from './world.ts';

const tickIntervalMs = 250;
const worstClockDrift = 0.03;

export abstract class MachineHost {
  readonly machine: string;
  readonly address: string;
  readonly gpu: SimulatedGpu;
  protected readonly world: World;
  protected readonly random: Random;
  readonly #clockOffsetMs: number;
  readonly #clockRate: number;
  #isOpen = true;
  #frozenUntilMs = 0;
  #waiting: (() => void)[] = [];

  protected constructor(world: World, machine: string, gpu: SimulatedGpu) {
    this.world = world;
    this.machine = machine;
    this.gpu = gpu;
    this.random = world.random.fork();
    this.address = world.newAddress(machine);
    this.#clockOffsetMs = this.random.between(0, 1e6);
    this.#clockRate = this.random.between(1 - worstClockDrift, 1 + worstClockDrift);
    this.#tickLater();
  }

  protected abstract tick(): void;

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** What this tab's clock shows. */
  protected nowMs(): number {
    return this.#clockOffsetMs + this.world.clock.nowMs * this.#clockRate;
  }

  /** Something happens in this tab: now, after it thaws, or never once it is closed. */
  protected enter(action: () => void): void {
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
    this.world.network.vanish(this.address, isNoticed);
  }

  #tickLater(): void {
    this.world.clock.after(tickIntervalMs / this.#clockRate, () => {
      if (!this.#isOpen) return;
      if (this.world.clock.nowMs >= this.#frozenUntilMs) this.tick();
      this.#tickLater();
    });
  }
}
