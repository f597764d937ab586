/**
 * What a lossy codec drops depends on who computes. The goal of each codec (README): rooms of any size learn as one in fp32 does,
 * on the mean over several runs, and never hold different weights.
 */
import { expect, test } from 'vitest';
import { longTestMs, Simulation } from './simulator.ts';
import { inCodec, tinyRun, undisturbedLosses } from './tiny-run.ts';

const steps = 50;
const runs = 8;
/** Of a run's end; single losses of so small a model are further apart. */
const goal = 0.002;
const singleLossTolerance = 0.1;

function endOf(losses: readonly number[]): number {
  return losses.slice(-10).reduce((sum, loss) => sum + loss, 0);
}

test.each(['bf16', 'int8'] as const)('rooms of 1, 3 and 8 peers in %s end with the loss of fp32', { timeout: longTestMs }, async (codec) => {
  for (const peers of [1, 3, 8]) {
    let difference = 0;
    for (let seed = 0; seed < runs; seed += 1) {
      const run = tinyRun(seed, steps);
      const undisturbed = await undisturbedLosses(run);
      const room = new Simulation({ seed, run: inCodec(run, codec), undisturbed, lossTolerance: singleLossTolerance });
      await room.lead('peer 0', { startPaused: true });
      for (let peer = 1; peer < peers; peer += 1) room.join(`peer ${peer}`);
      await room.until('all are ready', 20_000, () => room.coordinator.view.peers.filter(({ state }) => state === 'ready').length === peers);
      room.coordinator.dispatch({ type: 'command', command: 'resume' });
      await room.untilFinished(120_000);
      const { losses, comparedReplicas } = room.world.ledger;
      expect(losses.size).toBe(steps);
      expect(comparedReplicas).toBe((peers - 1) * (steps + 1));
      difference += endOf([...losses.values()]) / endOf(undisturbed) - 1;
    }
    expect(Math.abs(difference / runs), `mean difference of ${peers} peers`).toBeLessThan(goal);
  }
});
