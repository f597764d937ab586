/** What a run with f16 activations needs beside its program, and whether this GPU may run one. The jobs are `gradients.ts`'s. */
import type { Engine, Program } from '../engine/index.ts';
import type { Precision } from '../model/decoder.ts';
import type { GradientScaler } from '../optim/index.ts';
import { computeKnownAnswer } from './device-check.ts';
import storedAnswer from './known-answer.json' with { type: 'json' };
import type { LossScale } from './loss-scale.ts';
import type { TrainerSettings } from './types.ts';

export interface MixedPrecision {
  readonly lossScale: LossScale;
  readonly scaler: GradientScaler;
  /** The same gradients with everything in f32, for jobs that f16 can't hold. */
  exactProgram(): Promise<Program>;
}

/** Mixed precision only where f16 gets the known answer right: peers of a room may then compute either way. */
export async function usablePrecision(engine: Engine, { precision = 'f32' }: TrainerSettings): Promise<Precision> {
  if (precision === 'f32' || !engine.profile.hasF16) return 'f32';
  const { wrong } = await computeKnownAnswer(engine, storedAnswer, 'mixed');
  return wrong === null ? 'mixed' : 'f32';
}
