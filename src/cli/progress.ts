/**
 * How far a long piece of work is, for every command: on a terminal one line with a bar that is written over, otherwise a line
 * of JSON now and then. It knows no commands: what else there is to say comes with each call.
 */

export interface Work {
  /** Names the work in the lines of JSON. */
  readonly task: string;
  /** What is counted, in the plural. */
  readonly unit: string;
  /** Null where nobody knows how much there is. */
  readonly total: number | null;
  /** A line of its own, before the bar. */
  readonly title?: string;
}

/** One piece of work at a time. */
export interface Progress {
  begin(work: Work): void;
  /** `done` counts from the beginning. `words` are for the terminal's line, `facts` for the JSON's. */
  advance(done: number, words?: readonly string[], facts?: Readonly<Record<string, unknown>>): void;
  /** Whether it is done or has failed; without a `begin` before it, nothing. */
  end(): void;
}

/** Where progress is written to: stderr. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export function progressOn(stream: ProgressStream, nowMs: () => number = () => performance.now()): Progress {
  return stream.isTTY === true ? new TerminalProgress(stream, nowMs) : new JsonProgress(stream, nowMs);
}

const barColumns = 24;
/** Weight of the newest pace in the time that is left. */
const smoothing = 0.1;

class TerminalProgress implements Progress {
  readonly #stream: ProgressStream;
  readonly #nowMs: () => number;
  #work: Work | null = null;
  #isBegun = false;
  #last = { done: 0, atMs: 0 };
  #msPerUnit: number | null = null;

  constructor(stream: ProgressStream, nowMs: () => number) {
    this.#stream = stream;
    this.#nowMs = nowMs;
  }

  begin(work: Work): void {
    this.#work = work;
    this.#isBegun = false;
    this.#msPerUnit = null;
    this.#last = { done: 0, atMs: this.#nowMs() };
    if (work.title !== undefined) this.#stream.write(`${work.title}\n`);
  }

  advance(done: number, words: readonly string[] = []): void {
    const work = this.#work;
    if (work === null) return;
    this.#isBegun = true;
    const parts = [`${barOf(work, done)}${countOf(work, done)}`, ...words, ...this.#left(work, done)];
    // \x1b[K clears what a longer line left behind.
    this.#stream.write(`\r${parts.join('  ')}\x1b[K`);
  }

  end(): void {
    if (this.#isBegun) this.#stream.write('\n');
    this.#work = null;
    this.#isBegun = false;
  }

  #left({ total }: Work, done: number): readonly string[] {
    const atMs = this.#nowMs();
    const { done: before, atMs: beforeMs } = this.#last;
    if (done > before) {
      const pace = (atMs - beforeMs) / (done - before);
      this.#msPerUnit = this.#msPerUnit === null ? pace : this.#msPerUnit + smoothing * (pace - this.#msPerUnit);
      this.#last = { done, atMs };
    }
    if (total === null || this.#msPerUnit === null) return [];
    const seconds = Math.max(0, Math.round(((total - done) * this.#msPerUnit) / 1000));
    return [`${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')} left`];
  }
}

function barOf({ total }: Work, done: number): string {
  if (total === null) return '';
  const full = total > 0 ? Math.min(barColumns, Math.floor((done / total) * barColumns)) : barColumns;
  return `[${'='.repeat(full)}${' '.repeat(barColumns - full)}] `;
}

function countOf({ unit, total }: Work, done: number): string {
  const count = done.toLocaleString('en');
  return total === null ? `${count} ${unit}` : `${count} of ${total.toLocaleString('en')} ${unit}`;
}

/** Enough to follow, too little to fill a log. */
const jsonPeriodMs = 1_000;

class JsonProgress implements Progress {
  readonly #stream: ProgressStream;
  readonly #nowMs: () => number;
  #work: Work | null = null;
  #writtenMs = -Infinity;
  /** Told and not written yet. */
  #waiting: string | null = null;

  constructor(stream: ProgressStream, nowMs: () => number) {
    this.#stream = stream;
    this.#nowMs = nowMs;
  }

  begin(work: Work): void {
    this.#work = work;
    this.#waiting = null;
    this.#writtenMs = -Infinity;
  }

  advance(done: number, _words: readonly string[] = [], facts: Readonly<Record<string, unknown>> = {}): void {
    if (this.#work === null) return;
    const { task, unit, total } = this.#work;
    this.#waiting = JSON.stringify({ task, done, total, unit, ...facts });
    if (this.#nowMs() - this.#writtenMs >= jsonPeriodMs) this.#write();
  }

  end(): void {
    this.#write();
    this.#work = null;
  }

  #write(): void {
    if (this.#waiting === null) return;
    this.#stream.write(`${this.#waiting}\n`);
    this.#waiting = null;
    this.#writtenMs = this.#nowMs();
  }
}
