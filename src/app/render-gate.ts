/**
 * Lets a fast stream of states through at the pace a person can read: what matters at once passes at once, figures at
 * most every `intervalMs`, and nothing while the page is hidden. Not a place where training waits for anything.
 */

/** Four renders a second: figures stay readable and the main thread free. */
export const renderIntervalMs = 250;

export interface RenderGateOptions<T> {
  readonly show: (value: T) => void;
  /** True when `next` must not wait (a phase changed, a problem came up). */
  readonly isUrgent: (shown: T, next: T) => boolean;
  readonly isHidden: () => boolean;
  readonly nowMs: () => number;
  readonly later: (run: () => void, delayMs: number) => unknown;
}

export class RenderGate<T> {
  readonly #options: RenderGateOptions<T>;
  #latest: T;
  #shown: T;
  #shownAtMs: number;
  #scheduled = false;

  constructor(first: T, options: RenderGateOptions<T>) {
    this.#options = options;
    this.#latest = first;
    this.#shown = first;
    this.#shownAtMs = options.nowMs();
  }

  push(next: T): void {
    this.#latest = next;
    if (this.#options.isHidden()) return;
    if (this.#options.isUrgent(this.#shown, next)) {
      this.flush();
      return;
    }
    if (this.#scheduled) return;
    this.#scheduled = true;
    const waitMs = Math.max(0, this.#shownAtMs + renderIntervalMs - this.#options.nowMs());
    this.#options.later(() => {
      this.#scheduled = false;
      if (!this.#options.isHidden()) this.flush();
    }, waitMs);
  }

  /** Shows the newest value now; also called when the page becomes visible again. */
  flush(): void {
    if (this.#latest === this.#shown) return;
    this.#shown = this.#latest;
    this.#shownAtMs = this.#options.nowMs();
    this.#options.show(this.#latest);
  }
}
