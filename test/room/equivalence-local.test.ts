/**
 * With local steps the weights depend on who computes what, so that no two rooms of different sizes are equal. Each must learn nearly
 * what AdamW learns from as many tokens, on the mean over several runs, and its peers never hold different weights.
 */
import { expect, test } from 'vitest';
import { longTestMs, Simulation } from './simulator.ts';
import { tinyRun, undisturbedLosses } from './tiny-run.ts';
import type { TinyRun } from './tiny-run.ts';

const localSteps = 4;
const steps = 15;
const microbatchesPerLocalStep = 3;
const runs = 8;
/** Of the loss at a run's end. */
const tolerance = 0.08;

/** Both see as many tokens at as many learning rates. */
function tinyRuns(seed: number): { readonly local: TinyRun; readonly plain: TinyRun } {
  const plain = tinyRun(seed, steps * localSteps, microbatchesPerLocalStep);
  const { settings, ...tiny } = tinyRun(seed, steps, localSteps * microbatchesPerLocalStep);
  const optimizer = { ...settings.optimizer, learningRate: 0.004, warmupSteps: 1 };
  return {
    plain: { ...plain, settings: { ...plain.settings, optimizer: { ...optimizer, warmupSteps: localSteps } } },
    local: { ...tiny, settings: { ...settings, optimizer, localSteps, codec: 'int8' } },
  };
}

function endOf(losses: readonly number[], count: number): number {
  return losses.slice(-count).reduce((sum, loss) => sum + loss, 0) / count;
}

test.each([1, 2, 3])('a room of %i with local steps learns nearly what AdamW does', { timeout: longTestMs }, async (peers) => {
  let difference = 0;
  for (let seed = 0; seed < runs; seed += 1) {
    const { local, plain } = tinyRuns(seed);
    const room = new Simulation({ seed, run: local, undisturbed: await undisturbedLosses(local), lossTolerance: 1 });
    await room.lead('peer 0', { startPaused: true });
    for (let peer = 1; peer < peers; peer += 1) room.join(`peer ${peer}`);
    await room.until('all are ready', 20_000, () => room.coordinator.view.peers.filter(({ state }) => state === 'ready').length === peers);
    room.coordinator.dispatch({ type: 'command', command: 'resume' });
    await room.untilFinished(120_000);
    const { losses, comparedReplicas } = room.world.ledger;
    expect(losses.size).toBe(steps);
    expect(comparedReplicas).toBe((peers - 1) * (steps + 1));
    difference += endOf([...losses.values()], 2) / endOf(await undisturbedLosses(plain), 2 * localSteps) - 1;
  }
  expect(difference / runs).toBeLessThan(tolerance);
});
