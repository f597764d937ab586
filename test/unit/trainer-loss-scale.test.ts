import { expect, test } from 'vitest';
import { LossScale } from '../../src/trainer/loss-scale.ts';

test('the scale grows after two hundred jobs without overflow, up to a limit, and shrinks at once', () => {
  const scale = new LossScale();
  const first = scale.value;
  for (let job = 0; job < 199; job++) scale.succeeded();
  expect(scale.value).toBe(first);
  scale.succeeded();
  expect(scale.value).toBe(2 * first);
  expect(scale.shrink()).toBe(true);
  expect(scale.value).toBe(first / 2);
  for (let job = 0; job < 199; job++) scale.succeeded();
  scale.shrink();
  scale.succeeded();
  expect(scale.value, 'an overflow starts the count again').toBe(first / 8);
  for (let job = 0; job < 200 * 40; job++) scale.succeeded();
  expect(scale.value).toBe(2 ** 12);
});

test('it never falls below one, and says when there is nothing left', () => {
  const scale = new LossScale();
  while (scale.shrink()) expect(Number.isInteger(Math.log2(scale.value))).toBe(true);
  expect(scale.value).toBe(1);
  expect(scale.shrink()).toBe(false);
});
