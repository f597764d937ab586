/**
 * The mean is over the scored weight of the whole batch, however it is split: with masks that leave micro-batches a hundred times the
 * weight of others, or none at all, rooms of 1, 2 and 5 peers have the losses of one trainer alone.
 */
import { expect, test } from 'vitest';
import { longTestMs, Simulation } from './simulator.ts';
import { scoredBy, tinyRun, undisturbedLosses } from './tiny-run.ts';
import type { TinyRun } from './tiny-run.ts';

const steps = 20;
const microbatchesPerStep = 6;
const runs = 3;

/** In each step some micro-batches have no scored token, one is whole, and the rest have one token of a hundredth or of ten. */
function wildlyMasked(run: TinyRun): TinyRun {
  const share = (step: number, index: number, position: number): number => {
    const kind = (step + index) % microbatchesPerStep;
    if (kind === 0) return 1;
    if (kind < 3) return 0;
    return position === (step + 2 * index) % 6 ? [0.01, 0.5, 10][kind - 3] ?? 0 : 0;
  };
  return { ...run, source: scoredBy(run.source, share) };
}

test.each([1, 2, 5])('a room of %i has the losses of one trainer alone, whatever the masks', { timeout: longTestMs }, async (peers) => {
  for (let seed = 0; seed < runs; seed += 1) {
    const run = wildlyMasked(tinyRun(seed, steps, microbatchesPerStep));
    const weights = Array.from({ length: microbatchesPerStep }, (_, index) => run.source.weightOfMicrobatch(0, index));
    expect(Math.min(...weights)).toBe(0);
    const undisturbed = await undisturbedLosses(run);
    const room = new Simulation({ seed, run, undisturbed, lossTolerance: 1e-5 });
    await room.lead('peer 0', { startPaused: true });
    for (let peer = 1; peer < peers; peer += 1) room.join(`peer ${peer}`, { msPerMicrobatch: 40 + 30 * peer });
    await room.until('all are ready', 20_000, () => room.coordinator.view.peers.filter(({ state }) => state === 'ready').length === peers);
    room.coordinator.dispatch({ type: 'command', command: 'resume' });
    await room.untilFinished(120_000);
    const { losses, countedBy } = room.world.ledger;
    expect(losses.size).toBe(steps);
    expect(countedBy.size).toBe(peers);
  }
});
