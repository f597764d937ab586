/** AdamW in f64 on the CPU: the oracle of the GPU's, and the optimizer of simulated rooms. */
import { clipFactor, updateFactors } from './adamw-rule.ts';
import type { AdamWCommit, UpdateResult, AdamWSettings } from './adamw-rule.ts';

export class AdamWReference {
  readonly weights: Float64Array;
  /** Filled by whoever sums gradients; `commit` leaves it as it is. */
  readonly gradientSum: Float64Array;
  readonly firstMoment: Float64Array;
  readonly secondMoment: Float64Array;
  readonly #decayedElements: number;
  readonly #settings: AdamWSettings;

  /** Weight decay applies to the leading `decayedElements`. */
  constructor(weights: Float64Array, decayedElements: number, settings: AdamWSettings) {
    this.weights = weights;
    this.gradientSum = new Float64Array(weights.length);
    this.firstMoment = new Float64Array(weights.length);
    this.secondMoment = new Float64Array(weights.length);
    this.#decayedElements = decayedElements;
    this.#settings = settings;
  }

  commit(commit: AdamWCommit): UpdateResult {
    const { beta1, beta2, epsilon, gradientClip } = this.#settings;
    const { inverseWeightSum, decayFactor, stepSize, rootCorrection2 } = updateFactors(this.#settings, commit);
    const { weights, firstMoment, secondMoment } = this;
    const squares = this.gradientSum.reduce((sum, gradient) => sum + (gradient * inverseWeightSum) ** 2, 0);
    const gradNorm = Math.sqrt(squares);
    if (!Number.isFinite(gradNorm)) return { gradNorm, applied: false };
    const scale = inverseWeightSum * clipFactor(gradientClip, gradNorm);
    this.gradientSum.forEach((sum, i) => {
      const gradient = sum * scale;
      const first = beta1 * (firstMoment[i] ?? 0) + (1 - beta1) * gradient;
      const second = beta2 * (secondMoment[i] ?? 0) + (1 - beta2) * gradient * gradient;
      firstMoment[i] = first;
      secondMoment[i] = second;
      const kept = (weights[i] ?? 0) * (i < this.#decayedElements ? decayFactor : 1);
      weights[i] = kept - (stepSize * first) / (Math.sqrt(second) / rootCorrection2 + epsilon);
    });
    return { gradNorm, applied: true };
  }
}
