/** AdamW in f64 on the CPU: the oracle of the GPU's, and the optimizer of simulated rooms. */
import type { ParameterLayout } from '../engine/index.ts';
import { clipFactor, updateFactors } from './adamw-rule.ts';
import type { AdamWCommit, UpdateResult, AdamWSettings } from './adamw-rule.ts';

/** Weight decay applies to the leading `decayedElements`, and nothing outside of `trainedSpans` is looked at. */
type OptimizedLayout = Pick<ParameterLayout, 'decayedElements' | 'trainedSpans'>;

export class AdamWReference {
  readonly weights: Float64Array;
  /** Filled by whoever sums gradients; `commit` leaves it as it is. */
  readonly gradientSum: Float64Array;
  readonly firstMoment: Float64Array;
  readonly secondMoment: Float64Array;
  readonly #layout: OptimizedLayout;
  readonly #settings: AdamWSettings;

  constructor(weights: Float64Array, layout: OptimizedLayout, settings: AdamWSettings) {
    this.weights = weights;
    this.gradientSum = new Float64Array(weights.length);
    this.firstMoment = new Float64Array(weights.length);
    this.secondMoment = new Float64Array(weights.length);
    this.#layout = layout;
    this.#settings = settings;
  }

  commit(commit: AdamWCommit): UpdateResult {
    const { beta1, beta2, epsilon, gradientClip } = this.#settings;
    const { inverseWeightSum, decayFactor, stepSize, rootCorrection2 } = updateFactors(this.#settings, commit);
    const { weights, firstMoment, secondMoment } = this;
    const { decayedElements, trainedSpans } = this.#layout;
    const trained = trainedSpans.map(({ start, end }) => ({ start, sums: this.gradientSum.subarray(start, end) }));
    const squares = trained.reduce((total, { sums }) => total + sums.reduce((sum, gradient) => sum + (gradient * inverseWeightSum) ** 2, 0), 0);
    const gradNorm = Math.sqrt(squares);
    if (!Number.isFinite(gradNorm)) return { gradNorm, applied: false };
    const scale = inverseWeightSum * clipFactor(gradientClip, gradNorm);
    for (const { start, sums } of trained) {
      sums.forEach((sum, at) => {
        const i = start + at;
        const gradient = sum * scale;
        const first = beta1 * (firstMoment[i] ?? 0) + (1 - beta1) * gradient;
        const second = beta2 * (secondMoment[i] ?? 0) + (1 - beta2) * gradient * gradient;
        firstMoment[i] = first;
        secondMoment[i] = second;
        const kept = (weights[i] ?? 0) * (i < decayedElements ? decayFactor : 1);
        weights[i] = kept - (stepSize * first) / (Math.sqrt(second) / rootCorrection2 + epsilon);
      });
    }
    return { gradNorm, applied: true };
  }
}
