/**
 * How a step's micro-batches are divided over workers of unequal speed. Only counts: which micro-batches they are, and
 * who may work at all, is decided by `step-work.ts`.
 */
import { hopelessFactor } from './limits.ts';
import type { PeerId } from './messages.ts';

export interface Worker {
  readonly id: PeerId;
  readonly perSecond: number;
  /** Micro-batches given to it before that are not answered. */
  readonly outstanding: number;
  /** Nothing but a guess is known of its speed. */
  readonly isNew: boolean;
  /** It was without work for long: it gets a micro-batch even if it seems hopelessly slow. */
  readonly isOnTrial: boolean;
}

/** Time of a step if micro-batches could be split at will; never less than the fastest worker's time for one. */
export function idealStepMs(count: number, workers: readonly Worker[]): number {
  const total = workers.reduce((sum, worker) => sum + worker.perSecond, 0);
  const fastest = workers.reduce((most, worker) => Math.max(most, worker.perSecond), 0);
  return 1000 * Math.max(count / total, 1 / fastest);
}

/**
 * Shares of a whole step. Everybody gets one when there are enough, except the hopelessly slow; the rest goes, one by
 * one, to whoever would be done first with it, which makes the slowest finish as early as whole micro-batches
 * allow. A new worker gets no more than an equal share. `turn` decides between equals, so that they take turns.
 */
export function shareOfStep(count: number, workers: readonly Worker[], turn: number): ReadonlyMap<PeerId, number> {
  const rotated = workers.map((_, index) => workers[(index + turn) % workers.length] as Worker);
  const idealMs = idealStepMs(count, rotated);
  const isHopeless = (worker: Worker) => 1000 / worker.perSecond > hopelessFactor * idealMs;
  const able = rotated.filter((worker) => !isHopeless(worker));
  const trial = rotated.filter((worker) => isHopeless(worker) && worker.isOnTrial);
  const equalShare = Math.ceil(count / able.length);
  const shares = new Map<PeerId, number>();
  let left = count;
  if (count >= able.length + trial.length) {
    for (const worker of [...able, ...trial]) shares.set(worker.id, 1);
    left -= able.length + trial.length;
  }
  const caps = new Map(able.filter((worker) => worker.isNew).map((worker) => [worker.id, equalShare]));
  return spread(left, able, shares, caps);
}

/** Adds work that came back to what workers have already: each micro-batch to whoever would be done first with it. */
export function shareOfRest(count: number, workers: readonly Worker[]): ReadonlyMap<PeerId, number> {
  return spread(count, workers, new Map(), new Map());
}

function spread(
  count: number,
  workers: readonly Worker[],
  given: ReadonlyMap<PeerId, number>,
  caps: ReadonlyMap<PeerId, number>,
): ReadonlyMap<PeerId, number> {
  const shares = new Map(given);
  for (let left = count; left > 0; left -= 1) {
    const open = workers.filter((worker) => (shares.get(worker.id) ?? 0) < (caps.get(worker.id) ?? Infinity));
    const next = firstDone(open.length > 0 ? open : workers, shares);
    if (next === null) break;
    shares.set(next.id, (shares.get(next.id) ?? 0) + 1);
  }
  return shares;
}

/** Who would be done first with one micro-batch more. */
function firstDone(workers: readonly Worker[], shares: ReadonlyMap<PeerId, number>): Worker | null {
  let best: Worker | null = null;
  let bestSeconds = Infinity;
  for (const worker of workers) {
    const seconds = (worker.outstanding + (shares.get(worker.id) ?? 0) + 1) / worker.perSecond;
    if (seconds < bestSeconds) {
      best = worker;
      bestSeconds = seconds;
    }
  }
  return best;
}
