import { test } from 'vitest';
import { faultsTestMs, surviveSeeds } from './faults-suite.ts';

test('whatever breaks, no announced step is lost: every fourth seed from 3', { timeout: faultsTestMs }, () => surviveSeeds(3));
