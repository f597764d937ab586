/**
 * A run's history as columns, which is how charts want it. Grows in place: a new point costs its own columns, not a copy
 * of a hundred thousand. Knows nothing of drawing.
 */
import type { SessionState } from '../session/types.ts';

export type HistoryPoint = SessionState['history'][number];

const initialCapacity = 1024;

export class HistoryColumns {
  #source: readonly HistoryPoint[] = [];
  #steps = new Float64Array(initialCapacity);
  #loss = new Float64Array(initialCapacity);
  #gradNorm = new Float64Array(initialCapacity);
  #learningRate = new Float64Array(initialCapacity);
  #validation: (number | null)[] = [];

  /** True when something changed. Points are never mutated, so a changed point (a late validation loss) is a new object. */
  update(history: readonly HistoryPoint[]): boolean {
    const previous = this.#source;
    if (history === previous) return false;
    let same = 0;
    const shared = Math.min(previous.length, history.length);
    while (same < shared && previous[same] === history[same]) same++;
    this.#source = history;
    if (same === history.length && same === previous.length) return false;

    this.#reserve(history.length);
    this.#validation.length = same;
    for (let i = same; i < history.length; i++) {
      const point = history[i];
      if (point === undefined) continue;
      this.#steps[i] = point.step;
      this.#loss[i] = point.loss;
      this.#gradNorm[i] = point.gradNorm;
      this.#learningRate[i] = point.lr;
      this.#validation.push(point.validationLoss ?? null);
    }
    return true;
  }

  get length(): number {
    return this.#source.length;
  }
  get points(): readonly HistoryPoint[] {
    return this.#source;
  }
  get steps(): Float64Array {
    return this.#steps.subarray(0, this.length);
  }
  get loss(): Float64Array {
    return this.#loss.subarray(0, this.length);
  }
  get gradNorm(): Float64Array {
    return this.#gradNorm.subarray(0, this.length);
  }
  get learningRate(): Float64Array {
    return this.#learningRate.subarray(0, this.length);
  }
  /** null where the step was not validated. */
  get validation(): readonly (number | null)[] {
    return this.#validation;
  }

  #reserve(length: number): void {
    if (length <= this.#steps.length) return;
    const capacity = Math.max(length, this.#steps.length * 2);
    const grown = (column: Float64Array): Float64Array<ArrayBuffer> => {
      const copy = new Float64Array(capacity);
      copy.set(column);
      return copy;
    };
    this.#steps = grown(this.#steps);
    this.#loss = grown(this.#loss);
    this.#gradNorm = grown(this.#gradNorm);
    this.#learningRate = grown(this.#learningRate);
  }
}
