import { describe, expect, test } from 'vitest';
import { learningRateAt, scheduleAt } from '../../src/optim/index.ts';

const settings = { learningRate: 1, minLearningRate: 0.1, warmupSteps: 4, schedule: 'cosine' } as const;

describe('learning rate', () => {
  test('warms up to just below its peak, then falls to its minimum at the end', () => {
    const rates = [0, 1, 2, 3].map((step) => learningRateAt(settings, step, 20));
    expect(rates).toEqual([0.2, 0.4, 0.6, 0.8]);
    expect(learningRateAt(settings, 4, 20)).toBe(1);
    expect(learningRateAt(settings, 12, 20)).toBeCloseTo(0.55, 12);
    expect(learningRateAt(settings, 20, 20)).toBeCloseTo(0.1, 12);
  });

  test('falls in a straight line, or stays, when told to', () => {
    expect(learningRateAt({ ...settings, schedule: 'linear' }, 8, 20)).toBeCloseTo(0.775, 12);
    expect(learningRateAt({ ...settings, schedule: 'constant' }, 19, 20)).toBe(1);
  });

  test('is a number even when warm-up fills the whole run', () => {
    expect(learningRateAt({ ...settings, warmupSteps: 20 }, 20, 20)).toBe(1);
    expect(learningRateAt({ ...settings, warmupSteps: 0 }, 0, 1)).toBe(1);
  });

  test('follows a change from its step on, and is as it was before', () => {
    const changes = [
      { step: 8, learningRate: 0.5 },
      { step: 12, minLearningRate: 0, steps: 28 },
    ];
    const at = (step: number) => {
      const now = scheduleAt(settings, 20, changes, step);
      return learningRateAt(now.settings, step, now.steps);
    };
    expect(at(7)).toBe(learningRateAt(settings, 7, 20));
    expect(at(8)).toBe(learningRateAt({ ...settings, learningRate: 0.5 }, 8, 20));
    expect(at(12)).toBe(learningRateAt({ ...settings, learningRate: 0.5, minLearningRate: 0 }, 12, 28));
    expect(at(28)).toBeCloseTo(0, 12);
  });
});
