/** The timeline of a simulation, and how it fails: with the story so far and the way to see it again. */
import type { VirtualClock } from './clock.ts';

export class SimulationFailure extends Error {
  override readonly name = 'SimulationFailure';
}

const shownLines = 80;

export class RoomLog {
  readonly #clock: VirtualClock;
  readonly #title: string;
  readonly #lines: string[] = [];

  constructor(clock: VirtualClock, title: string) {
    this.#clock = clock;
    this.#title = title;
  }

  note(who: string, what: string): void {
    this.#lines.push(`${(this.#clock.nowMs / 1000).toFixed(3).padStart(9)} s  ${who.padEnd(8)} ${what}`);
  }

  get lines(): readonly string[] {
    return this.#lines;
  }

  fail(what: string): never {
    this.note('LEDGER', what);
    const omitted = Math.max(0, this.#lines.length - shownLines);
    const start = omitted > 0 ? [`… ${omitted} lines before (ROOM_TIMELINE=all shows them)`] : [];
    const shown = process.env['ROOM_TIMELINE'] === 'all' ? this.#lines : [...start, ...this.#lines.slice(-shownLines)];
    throw new SimulationFailure(`${what}\n${this.#title}\n${shown.join('\n')}`);
  }
}
