/**
 * The real room directory behind a simulated way to it: answers take time, and don't come while the server is down or the
 * machine is cut off.
 */
import { createHash } from 'node:crypto';
import { defaultLimits, Directory } from '../../signaling/directory.ts';
import type { Command, KeptRoom, Lease, Outcome } from '../../signaling/directory.ts';
import type { VirtualClock } from './clock.ts';
import type { Random } from './random.ts';

const room = 'simulated-room';
const token = 'token of the simulated room';
const leastDelayMs = 3;
const mostDelayMs = 60;
/** What a request waits before it is given up. */
const timeoutMs = 2_000;
/** The server notices a closed socket. */
const socketDelayMs = 20;

export class SimulatedDirectory {
  readonly #clock: VirtualClock;
  readonly #random: Random;
  /** The server's disk. */
  readonly #kept = new Map<string, KeptRoom>();
  #directory: Directory;
  #isDown = false;
  readonly #cutOff = new Set<string>();
  #named: string | null = null;
  #lastTakeOverWasNamed = false;

  constructor(clock: VirtualClock, random: Random) {
    this.#clock = clock;
    this.#random = random;
    this.#directory = this.#start();
  }

  set isDown(isDown: boolean) {
    this.#isDown = isDown;
  }

  /** What was in its memory is gone; `forgets`: what was on its disk, too. */
  restart(forgets: boolean): void {
    if (forgets) this.#kept.clear();
    this.#directory = this.#start();
  }

  #start(): Directory {
    const directory = new Directory(defaultLimits, {
      keep: (id, kept) => void this.#kept.set(id, kept),
      drop: (id) => void this.#kept.delete(id),
    });
    for (const [id, kept] of this.#kept) directory.restore(id, kept, 0, this.#clock.nowMs);
    return directory;
  }

  /** This machine can't reach it. */
  cutOff(machine: string, isCutOff: boolean): void {
    if (isCutOff) this.#cutOff.add(machine);
    else this.#cutOff.delete(machine);
  }

  /** `done` gets undefined when there was no answer. */
  lookUp(machine: string, done: (lease: Lease | null | undefined) => void): void {
    this.#ask(machine, () => this.#directory.lookUp(room, this.#clock.nowMs), done);
  }

  apply(machine: string, command: Command, done: (outcome: Outcome | undefined) => void): void {
    this.#ask(machine, () => this.#applied(machine, command), done);
  }

  /** Whether whoever took the lead last was the one named in the lease before. */
  get lastTakeOverWasNamed(): boolean {
    return this.#lastTakeOverWasNamed;
  }

  #applied(machine: string, command: Command): Outcome {
    const outcome = this.#directory.apply(room, token, machine, command, this.#clock.nowMs);
    if (!outcome.ok) return outcome;
    if (command.type === 'renew') this.#named = command.successorHash;
    if (command.type === 'create' || command.type === 'takeOver') {
      this.#lastTakeOverWasNamed = command.type === 'takeOver' && command.isWarm && this.#named === holderHashOf(command.holder);
      if (command.type === 'takeOver') this.#named = null;
    }
    return outcome;
  }

  socketClosed(address: string): void {
    this.#clock.after(socketDelayMs, () => {
      if (!this.#isDown) this.#directory.socketClosed(address, this.#clock.nowMs);
    });
  }

  /** A request that is lost is noticed late; one whose answer is lost was carried out. */
  #ask<T>(machine: string, work: () => T, done: (answer: T | undefined) => void): void {
    const isReachable = (): boolean => !this.#isDown && !this.#cutOff.has(machine);
    const delay = (): number => this.#random.between(leastDelayMs, mostDelayMs);
    const lost = (): void => {
      this.#clock.after(timeoutMs, () => {
        done(undefined);
      });
    };
    this.#clock.after(delay(), () => {
      if (!isReachable()) return lost();
      const answer = work();
      this.#clock.after(delay(), () => {
        if (isReachable()) done(answer);
        else lost();
      });
    });
  }
}

/** As `directory-client.ts` makes it. */
export function holderHashOf(holder: string): string {
  return createHash('sha256').update(holder).digest('base64url');
}
