import { test } from 'vitest';
import { checkEquivalence } from './equivalence.ts';
import { longTestMs, seeds } from './simulator.ts';

test('one peer, three, and three with one closed and one joined train to the same losses, on 100 even seeds', { timeout: longTestMs }, async () => {
  for (const seed of seeds(200).filter((each) => each % 2 === 0)) await checkEquivalence(seed);
});
