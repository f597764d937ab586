/** What GPU and CPU optimizers share: the numbers of one update that do not depend on an element. */
import type { OptimizerSettings } from './types.ts';

export type AdamWSettings = Pick<OptimizerSettings, 'beta1' | 'beta2' | 'epsilon' | 'weightDecay' | 'gradientClip'>;

export interface AdamWCommit {
  readonly learningRate: number;
  /** Number of this update, from 1: what the bias corrections count. */
  readonly update: number;
  /** Total loss weight of the batch, which the gradient sum is divided by. */
  readonly weightSum: number;
}

export interface UpdateResult {
  /** Global norm of the mean gradient before clipping. */
  readonly gradNorm: number;
  /** False when a gradient was not finite: nothing was changed. */
  readonly applied: boolean;
}

export interface UpdateFactors {
  readonly inverseWeightSum: number;
  readonly decayFactor: number;
  readonly stepSize: number;
  readonly rootCorrection2: number;
}

export function updateFactors(settings: AdamWSettings, { learningRate, update, weightSum }: AdamWCommit): UpdateFactors {
  return {
    inverseWeightSum: 1 / weightSum,
    decayFactor: 1 - learningRate * settings.weightDecay,
    stepSize: learningRate / (1 - settings.beta1 ** update),
    rootCorrection2: Math.sqrt(1 - settings.beta2 ** update),
  };
}

/** As `clip_grad_norm_` of PyTorch. */
export function clipFactor(gradientClip: number, norm: number): number {
  return gradientClip > 0 ? Math.min(1, gradientClip / (norm + 1e-6)) : 1;
}
