import { expect, test } from 'vitest';
import { faultsTestMs, surviveSeeds, surviveSeedsThatFailed, timelineOf } from './faults-suite.ts';
import { seeds } from './simulator.ts';

test('whatever breaks, no announced step is lost: every fourth seed from 0', { timeout: faultsTestMs }, () => surviveSeeds(0));

test('seeds that failed once', { timeout: faultsTestMs }, surviveSeedsThatFailed);

test('the same seed replays the same history, line by line', async () => {
  const [seed = 7] = seeds(1);
  expect(await timelineOf(seed)).toEqual(await timelineOf(seed));
});
