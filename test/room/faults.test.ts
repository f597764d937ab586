import { expect, test } from 'vitest';
import { simulateFaults } from './faults.ts';
import { longTestMs, seeds } from './simulator.ts';
import { tinyRun, undisturbedLosses } from './tiny-run.ts';

/**
 * Joins, crashes, hangs, partitions, reordering, duplicates, slow peers, lost GPUs, reloads of members and of the
 * coordinator. The ledger fails a simulation in which a micro-batch is lost or counted twice, a step is committed twice or
 * out of order within a reign, replicas differ, or a loss is not the undisturbed run's.
 */
const steps = 24;

test('whatever breaks, every step is committed once, with the undisturbed losses, on 250 seeds', { timeout: longTestMs }, async () => {
  for (const seed of seeds(250)) {
    const run = tinyRun(seed, steps);
    const room = await simulateFaults({ seed, run, undisturbed: await undisturbedLosses(run) });
    expect(room.world.ledger.losses.size).toBe(steps);
  }
});

test('the same seed replays the same history, line by line', async () => {
  const [seed = 7] = seeds(1);
  const timeline = async () => {
    const run = tinyRun(seed, steps);
    return (await simulateFaults({ seed, run, undisturbed: await undisturbedLosses(run) })).world.log.lines;
  };
  expect(await timeline()).toEqual(await timeline());
});
