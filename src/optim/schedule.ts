/** The learning rate of each step (DESIGN §5). */
import type { OptimizerSettings } from './types.ts';

export type Schedule = Pick<OptimizerSettings, 'learningRate' | 'minLearningRate' | 'warmupSteps' | 'schedule'>;

/** Other values than the run began with, from `step` on; what is left out stays as it was. */
export interface ScheduleChange {
  readonly step: number;
  readonly learningRate?: number;
  readonly minLearningRate?: number;
  readonly steps?: number;
}

/** What is in force at `step` of a run that began with `settings` and `steps`. Of several changes of one value the last one counts. */
export function scheduleAt<S extends Schedule>(settings: S, steps: number, changes: readonly ScheduleChange[], step: number): { readonly settings: S; readonly steps: number } {
  let now = { settings, steps };
  for (const change of changes) {
    if (change.step > step) continue;
    const { learningRate = now.settings.learningRate, minLearningRate = now.settings.minLearningRate } = change;
    now = { settings: { ...now.settings, learningRate, minLearningRate }, steps: change.steps ?? now.steps };
  }
  return now;
}

/** Learning rate of `step`, from 0, of a run of `steps`: linear warm-up, then the schedule down to the minimum. */
export function learningRateAt(settings: Schedule, step: number, steps: number): number {
  const { learningRate: peak, minLearningRate: least, warmupSteps, schedule } = settings;
  if (step < warmupSteps) return (peak * (step + 1)) / (warmupSteps + 1);
  if (schedule === 'constant' || steps <= warmupSteps) return peak;
  const progress = Math.min(1, (step - warmupSteps) / (steps - warmupSteps));
  const share = schedule === 'cosine' ? (1 + Math.cos(Math.PI * progress)) / 2 : 1 - progress;
  return least + share * (peak - least);
}

/** Of a step that is `localSteps` steps of each device, from 0: the same schedule, counted in those. `localStep` may lie between two. */
export function localLearningRateAt(settings: Schedule, step: number, steps: number, localSteps: number, localStep: number): number {
  return learningRateAt({ ...settings, warmupSteps: settings.warmupSteps * localSteps }, step * localSteps + localStep, steps * localSteps);
}
