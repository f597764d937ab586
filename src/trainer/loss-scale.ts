/**
 * By how much losses are scaled up so that their gradients survive in f16: as much as doesn't overflow (dynamic loss scaling;
 * Micikevicius et al., 2018). Powers of two, so that scaling down again changes no digit. Numbers only; the work that is done
 * again after an overflow is `gradients.ts`'s.
 */

/**
 * Losses here are sums over positions, so gradients at the logits are of the order of one and need little help: f16 holds
 * 6e-5 to 65,504 in full precision. The model of known-answer.ts has the same gradients at scales from 1 to 2^14, and overflows
 * at 2^15.
 */
const firstScale = 2 ** 6;
const largestScale = 2 ** 12;
const growthFactor = 2;
const shrinkFactor = 4;
/** Jobs without overflow before a larger scale is tried: rare enough that a job done twice costs nothing to speak of. */
const steadyJobs = 200;

export class LossScale {
  #value = firstScale;
  #steady = 0;

  get value(): number {
    return this.#value;
  }

  succeeded(): void {
    if (++this.#steady < steadyJobs) return;
    this.#steady = 0;
    this.#value = Math.min(this.#value * growthFactor, largestScale);
  }

  /** False when there is nothing left to take away. */
  shrink(): boolean {
    this.#steady = 0;
    if (this.#value === 1) return false;
    this.#value = Math.max(1, this.#value / shrinkFactor);
    return true;
  }
}
