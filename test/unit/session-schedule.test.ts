/** A schedule that the owner has changed, as pages show it. */
import { expect, it } from 'vitest';
import { byCharacter } from '../../src/data/tokenized-text.ts';
import type { Step } from '../../src/room/messages.ts';
import type { DatedChange } from '../../src/room/rules.ts';
import { changesInWords, scheduleOf } from '../../src/session/schedule.ts';
import { composeRun } from '../../src/session/run.ts';

const { settings } = composeRun({ preset: 'own-text', contextLength: 8, steps: 300, optimizer: { learningRate: 0.001, minLearningRate: 0.0001 } }, byCharacter('abcdefgh'.repeat(20))).description;
const changes: readonly DatedChange[] = [
  { step: 120 as Step, learningRate: 0.0005, by: 'Ada' },
  { step: 200 as Step, steps: 600, minLearningRate: 0, by: 'Ada' },
  { step: 250 as Step, learningRate: 0.0002, minLearningRate: 0.0002, by: 'Ada' },
];

it('is told change by change, each with what was before', () => {
  expect(changesInWords(settings, changes).map(({ text }) => text)).toEqual([
    'From step 120 on: learning rate 0.0005 (was 0.001), by Ada',
    'From step 200 on: its minimum 0 (was 0.0001), 600 steps (was 300), by Ada',
    'From step 250 on: learning rate 0.0002 (was 0.0005), by Ada',
  ]);
});

it('holds what was said last, and before the first change what the run began with', () => {
  expect(scheduleOf(settings, changes, 119)).toEqual({ learningRate: 0.001, minLearningRate: 0.0001, steps: 300 });
  expect(scheduleOf(settings, changes, 200)).toEqual({ learningRate: 0.0005, minLearningRate: 0, steps: 600 });
  expect(scheduleOf(settings, changes, Infinity)).toEqual({ learningRate: 0.0002, minLearningRate: 0.0002, steps: 600 });
});
