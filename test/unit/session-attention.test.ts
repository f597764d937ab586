import { describe, expect, it, test } from 'vitest';
import { TickWatch, presenceOf } from '../../src/session/attention.ts';
import type { Circumstances } from '../../src/session/attention.ts';

const fine: Circumstances = { isHidden: false, isFrozen: false, isThrottled: false, isHandheld: false, battery: null };

test.each<[string, Partial<Circumstances>, ReturnType<typeof presenceOf>]>([
  ['in front', {}, { isHidden: false, rest: null }],
  ['in the background of a computer works on', { isHidden: true }, { isHidden: true, rest: null }],
  ['in the background of a phone rests', { isHidden: true, isHandheld: true }, { isHidden: true, rest: 'hidden' }],
  ['that is about to be frozen rests', { isHidden: true, isFrozen: true }, { isHidden: true, rest: 'frozen' }],
  ['that is held back in the background rests', { isHidden: true, isThrottled: true }, { isHidden: true, rest: 'throttled' }],
  ['in front that is held up is only busy', { isThrottled: true }, { isHidden: false, rest: null }],
  ['with little power left rests', { battery: { level: 0.1, isCharging: false } }, { isHidden: false, rest: 'battery' }],
  ['that charges works', { battery: { level: 0.1, isCharging: true } }, { isHidden: false, rest: null }],
  ['with power enough works', { battery: { level: 0.5, isCharging: false } }, { isHidden: false, rest: null }],
])('a page %s', (_which, change, expected) => {
  expect(presenceOf({ ...fine, ...change })).toEqual(expected);
});

describe('a tab', () => {
  const ticks = (watch: TickWatch, gapsMs: readonly number[]): boolean => {
    let nowMs = 0;
    return gapsMs.map((gapMs) => watch.tick((nowMs += gapMs))).at(-1) ?? false;
  };
  const steady = Array.from({ length: 20 }, () => 250);

  it('is throttled when its clock is held up again and again', () => {
    expect(ticks(new TickWatch(), [...steady, 3_000, 3_000])).toBe(false);
    expect(ticks(new TickWatch(), [...steady, 3_000, 250, 3_000, 250, 3_000])).toBe(true);
  });

  it('is not throttled any more when its clock runs evenly for half a minute', () => {
    expect(ticks(new TickWatch(), [3_000, 3_000, 3_000, 3_000, ...Array.from({ length: 130 }, () => 250)])).toBe(false);
  });

  it('was asleep, and is not throttled, after one long gap', () => {
    expect(ticks(new TickWatch(), [...steady, 3_000, 3_000, 3_600_000, 250])).toBe(false);
  });
});
