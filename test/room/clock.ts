/** Virtual time: actions happen in the order of their times, and those of the same time in the order they were asked for. */
type Action = () => void | Promise<void>;

interface Entry {
  readonly atMs: number;
  readonly order: number;
  readonly action: Action;
}

export class VirtualClock {
  #nowMs = 0;
  #asked = 0;
  /** A binary heap, earliest first. */
  readonly #heap: Entry[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, action: Action): void {
    this.#push({ atMs: this.#nowMs + Math.max(0, delayMs), order: this.#asked++, action });
  }

  /** Runs one action after another until `isDone` or the given time, whichever comes first. Returns whether it was done. */
  async runUntil(limitMs: number, isDone: () => boolean): Promise<boolean> {
    while (!isDone()) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > limitMs) {
        this.#nowMs = limitMs;
        return isDone();
      }
      this.#pop();
      this.#nowMs = next.atMs;
      const running = next.action();
      if (running !== undefined) await running;
    }
    return true;
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Entry;
      if (isEarlier(above, entry)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Entry;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isEarlier(heap[child + 1] as Entry, heap[child] as Entry)) child += 1;
      if (isEarlier(last, heap[child] as Entry)) break;
      heap[at] = heap[child] as Entry;
      at = child;
    }
    heap[at] = last;
  }
}

function isEarlier(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
