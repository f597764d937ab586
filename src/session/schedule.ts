/** The run's schedule as its owner has changed it: what holds now, and each change in words. Computes no learning rate. */
import { scheduleAt } from '../optim/schedule.ts';
import type { DatedChange } from '../room/rules.ts';
import type { RunSettings, ScheduleSettings } from './types.ts';

/** What holds at `step`. */
export function scheduleOf({ optimizer, steps }: RunSettings, changes: readonly DatedChange[], step: number): ScheduleSettings {
  const now = scheduleAt(optimizer, steps, changes, step);
  const { learningRate, minLearningRate } = now.settings;
  return { learningRate, minLearningRate, steps: now.steps };
}

/** "learning rate 0.0005 (was 0.001), 600 steps (was 300)" */
export function changeInWords(settings: RunSettings, changes: readonly DatedChange[], at: number): string {
  const change = changes[at];
  if (change === undefined) return '';
  const before = scheduleOf(settings, changes.slice(0, at), Infinity);
  const { learningRate, minLearningRate, steps } = change;
  const parts = [
    learningRate === undefined ? '' : `learning rate ${learningRate} (was ${before.learningRate})`,
    // One that only makes way for a lower learning rate says nothing new.
    minLearningRate === undefined || minLearningRate === learningRate ? '' : `its minimum ${minLearningRate} (was ${before.minLearningRate})`,
    steps === undefined ? '' : `${steps} steps (was ${before.steps})`,
  ];
  return parts.filter((part) => part !== '').join(', ');
}

/** For the chart, by the step from which it holds. */
export function changesInWords(settings: RunSettings, changes: readonly DatedChange[]): readonly { readonly step: number; readonly text: string }[] {
  return changes.map(({ step, by }, at) => ({ step, text: `From step ${step} on: ${changeInWords(settings, changes, at)}, by ${by}` }));
}
