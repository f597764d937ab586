/** The learning rate of each step (DESIGN §5). */
import type { OptimizerSettings } from './types.ts';

export type Schedule = Pick<OptimizerSettings, 'learningRate' | 'minLearningRate' | 'warmupSteps' | 'schedule'>;

/** Learning rate of `step`, from 0, of a run of `steps`: linear warm-up, then the schedule down to the minimum. */
export function learningRateAt(settings: Schedule, step: number, steps: number): number {
  const { learningRate: peak, minLearningRate: least, warmupSteps, schedule } = settings;
  if (step < warmupSteps) return (peak * (step + 1)) / (warmupSteps + 1);
  if (schedule === 'constant' || steps <= warmupSteps) return peak;
  const progress = Math.min(1, (step - warmupSteps) / (steps - warmupSteps));
  const share = schedule === 'cosine' ? (1 + Math.cos(Math.PI * progress)) / 2 : 1 - progress;
  return least + share * (peak - least);
}
