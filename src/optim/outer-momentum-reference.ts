/** `OuterMomentum` in f64 on the CPU: the oracle of the GPU's, and the room's update in simulated rooms with local steps. */
import type { UpdateResult } from './adamw-rule.ts';
import type { OuterSettings } from './outer-momentum.ts';

export class OuterMomentumReference {
  readonly weights: Float64Array;
  /** Filled by whoever sums changes; `commit` leaves it as it is. */
  readonly gradientSum: Float64Array;
  readonly firstMoment: Float64Array;
  readonly #settings: OuterSettings;

  constructor(weights: Float64Array, settings: OuterSettings) {
    this.weights = weights;
    this.gradientSum = new Float64Array(weights.length);
    this.firstMoment = new Float64Array(weights.length);
    this.#settings = settings;
  }

  commit({ weightSum }: { readonly weightSum: number }): UpdateResult {
    const { outerLearningRate, outerMomentum } = this.#settings;
    const { weights, firstMoment, gradientSum } = this;
    const gradNorm = Math.sqrt(gradientSum.reduce((sum, change) => sum + (change / weightSum) ** 2, 0));
    if (!Number.isFinite(gradNorm)) return { gradNorm, applied: false };
    gradientSum.forEach((sum, i) => {
      const change = sum / weightSum;
      const first = outerMomentum * (firstMoment[i] ?? 0) + change;
      firstMoment[i] = first;
      weights[i] = (weights[i] ?? 0) - outerLearningRate * (change + outerMomentum * first);
    });
    return { gradNorm, applied: true };
  }
}
