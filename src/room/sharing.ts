/**
 * How a step's micro-batches are divided over workers of unequal speed, whose contributions come over one link. Only counts: which
 * micro-batches they are, and who may work at all, is decided by `step-work.ts`.
 */
import { hopelessFactor, roomyShare, trialEverySteps, unnoticedWaysMs } from './limits.ts';
import type { PeerId } from './messages.ts';

export interface Worker {
  readonly id: PeerId;
  readonly perSecond: number;
  /** As in its record. */
  readonly updateMs: number;
  readonly wayMs: number;
  /** The coordinator's own device: it has no way to go. */
  readonly isSelf: boolean;
  /** Micro-batches given to it before that are not answered. */
  readonly outstanding: number;
  /** Nothing but a guess is known of its speed. */
  readonly isNew: boolean;
  /** Steps since it was given work. */
  readonly idleSteps: number;
}

/** Halvings of the time in which a plan is looked for: to a thousandth of it and less. */
const planningRounds = 16;

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
export function shareOfStep(count: number, workers: readonly Worker[], turn: number, linkMs: number): Shares {
  const rotated = workers.map((_, index) => workers[(index + turn) % workers.length] as Worker);
  const members = workers.filter(({ isSelf }) => !isSelf);
  const waysMs = members.length * linkMs + Math.max(0, ...members.map(({ updateMs }) => updateMs));
  const isRoomy = waysMs <= Math.max(unnoticedWaysMs, roomyShare * idealStepMs(count, workers)) || workers.some(({ isNew }) => isNew);
  return isRoomy ? { shares: shareBySpeed(count, rotated), ms: Infinity } : shareByWays(count, rotated, linkMs);
}

interface Shares {
  readonly shares: ReadonlyMap<PeerId, number>;
  /** What the step is planned to take; Infinity where that is not planned. */
  readonly ms: number;
}

/** A worker that is left out may be tried again from time to time: it is slow no more, perhaps, or the network is. */
function isOnTrial({ idleSteps }: Worker): boolean {
  return idleSteps >= trialEverySteps;
}

/**
 * Where ways take their time: as short a step as there can be if all contributions have to pass one link, one after another. So
 * members are done at different times, and one whose contribution would cost more than its computing saves gets nothing, but for a trial of
 * one micro-batch now and then, of one member at a time.
 */
function shareByWays(count: number, workers: readonly Worker[], linkMs: number): Shares {
  const fastestFirst = [...workers].sort((a, b) => b.perSecond - a.perSecond);
  const within = (ms: number): Map<PeerId, number> => {
    const shares = new Map<PeerId, number>();
    let passing = 0;
    for (const { id, isSelf, perSecond, updateMs } of fastestFirst) {
      const computeMs = isSelf ? ms : ms - updateMs - (passing + 1) * linkMs;
      const most = Math.floor((computeMs * perSecond) / 1000 + 1e-9);
      if (most < 1) continue;
      if (!isSelf) passing += 1;
      shares.set(id, most);
    }
    return shares;
  };
  const sizeOf = (shares: ReadonlyMap<PeerId, number>): number => [...shares.values()].reduce((sum, share) => sum + share, 0);
  let [tooShortMs, ms] = [0, Math.min(...workers.map(({ isSelf, updateMs, perSecond }) => (isSelf ? 0 : updateMs + linkMs) + (1000 * count) / perSecond)) + 1];
  for (let round = 0; round < planningRounds; round += 1) {
    const middleMs = (tooShortMs + ms) / 2;
    if (sizeOf(within(middleMs)) >= count) ms = middleMs;
    else tooShortMs = middleMs;
  }
  const shares = within(ms);
  const onTrial = workers.filter((worker) => !shares.has(worker.id) && isOnTrial(worker)).sort((a, b) => b.idleSteps - a.idleSteps)[0];
  if (onTrial !== undefined) shares.set(onTrial.id, 1);
  // Who has most gives back what is too much.
  for (let surplus = sizeOf(shares) - count; surplus > 0; surplus -= 1) {
    const [id, most] = [...shares].reduce((a, b) => (b[1] > a[1] ? b : a));
    shares.set(id, most - 1);
  }
  return { shares, ms };
}

function shareBySpeed(count: number, rotated: readonly Worker[]): ReadonlyMap<PeerId, number> {
  const idealMs = idealStepMs(count, rotated);
  const isHopeless = (worker: Worker) => 1000 / worker.perSecond > hopelessFactor * idealMs;
  const able = rotated.filter((worker) => !isHopeless(worker));
  const trial = rotated.filter((worker) => isHopeless(worker) && isOnTrial(worker));
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
    const seconds = worker.wayMs / 1000 + (worker.outstanding + (shares.get(worker.id) ?? 0) + 1) / worker.perSecond;
    if (seconds < bestSeconds) {
      best = worker;
      bestSeconds = seconds;
    }
  }
  return best;
}
