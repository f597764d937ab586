/** A simulated GPU: jobs one after another in virtual time. The real arithmetic is done in the moment a job ends. */
import type { VirtualClock } from './clock.ts';

interface Job {
  readonly label: string;
  readonly durationMs: number;
  readonly done: (isCancelled: boolean) => Promise<void>;
  isCancelled: boolean;
  isOver: boolean;
}

export class SimulatedGpu {
  /** Virtual time of one micro-batch, forward and backward. */
  msPerMicrobatch: number;
  readonly #clock: VirtualClock;
  #queue: Job[] = [];
  #running: Job | null = null;
  #stalledUntilMs = 0;
  #isSlow = false;

  constructor(clock: VirtualClock, msPerMicrobatch: number) {
    this.#clock = clock;
    this.msPerMicrobatch = msPerMicrobatch;
  }

  submit(label: string, durationMs: number, done: (isCancelled: boolean) => Promise<void>): void {
    this.#queue.push({ label, durationMs, done, isCancelled: false, isOver: false });
    this.#startNext();
  }

  /** Takes effect between micro-batches, not in turn. */
  cancel(label: string): void {
    const { msPerMicrobatch } = this;
    for (const job of this.#queue) if (job.label === label) job.isCancelled = true;
    const running = this.#running;
    if (running?.label !== label) return;
    running.isCancelled = true;
    this.#clock.after(msPerMicrobatch, () => this.#finish(running));
  }

  /** The driver hangs: nothing ends for so long, and then goes on. */
  stall(durationMs: number): void {
    this.#stalledUntilMs = Math.max(this.#stalledUntilMs, this.#clock.nowMs + durationMs);
  }

  /** Something else uses it for a while. Not more so when it is slow already: jobs that began then would outlast any patience. */
  slowDown(factor: number, durationMs: number): void {
    if (this.#isSlow) return;
    this.#isSlow = true;
    this.msPerMicrobatch *= factor;
    this.#clock.after(durationMs, () => {
      this.#isSlow = false;
      this.msPerMicrobatch /= factor;
    });
  }

  /** The device is lost: no job ever ends. */
  lose(): void {
    this.#queue = [];
    if (this.#running !== null) this.#running.isOver = true;
    this.#running = null;
  }

  #startNext(): void {
    if (this.#running !== null) return;
    const job = this.#queue.shift();
    if (job === undefined) return;
    this.#running = job;
    this.#clock.after(job.isCancelled ? 0 : job.durationMs, () => this.#finish(job));
  }

  async #finish(job: Job): Promise<void> {
    if (job.isOver) return;
    const leftMs = this.#stalledUntilMs - this.#clock.nowMs;
    if (leftMs > 0) {
      this.#clock.after(leftMs, () => this.#finish(job));
      return;
    }
    job.isOver = true;
    await job.done(job.isCancelled);
    if (this.#running === job) this.#running = null;
    this.#startNext();
  }
}
