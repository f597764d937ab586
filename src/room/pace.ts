/**
 * Where a step's time goes, as the coordinator sees it. A step is as long as its last worker takes, so it is that worker's
 * time that counts: computing, and the rest until its gradients are here. Smoothed over the last steps.
 */
import type { PeerId } from './messages.ts';

/** The weight of the newest step. */
const newest = 0.2;

export interface Pace {
  /** Of the worker that was last. */
  readonly computeMs: number;
  /** Of the same: weights to it and gradients back. */
  readonly wayMs: number;
  /** All is there, and the step before is not yet safe with whoever would follow. */
  readonly waitMs: number;
  /** Adding up, the optimizer, and the update's encoding, on the coordinator. */
  readonly applyMs: number;
  /**
   * Of the time from a member's assignment to its answer, what was not computing: of the median member, whoever is last. Null before anybody
   * has answered.
   */
  readonly wayShare: number | null;
  /** How often each was last, from 0 to 1. */
  readonly last: ReadonlyMap<PeerId, number>;
}

/** What is noted of a step while it is computed. */
export interface StepTimes {
  readonly computeMs: ReadonlyMap<PeerId, number>;
  /** Of each answer of a member, what share of its time was not computing; of one whose answer came too late, all of it. */
  readonly wayShares: readonly number[];
  /** Whose gradients came last, and when. */
  readonly last: PeerId | null;
  readonly lastMs: number;
  /** When everything was counted; null before. */
  readonly wholeMs: number | null;
  readonly commitMs: number;
}

export const noTimes: StepTimes = { computeMs: new Map(), wayShares: [], last: null, lastMs: 0, wholeMs: null, commitMs: 0 };

export function answeredBy(times: StepTimes, worker: PeerId, computeMs: number, nowMs: number): StepTimes {
  const sum = (times.computeMs.get(worker) ?? 0) + computeMs;
  return { ...times, computeMs: new Map(times.computeMs).set(worker, sum), last: worker, lastMs: nowMs };
}

/** A member was given work at `sentAtMs` and said that it computed for so long. */
export function withWay(times: StepTimes, sentAtMs: number, computeMs: number, nowMs: number): StepTimes {
  const elapsedMs = nowMs - sentAtMs;
  const wayShare = elapsedMs > 0 ? Math.max(0, 1 - computeMs / elapsedMs) : 0;
  return { ...times, wayShares: [...times.wayShares, wayShare] };
}

/** After a step that took from `beganAtMs` until now. `self` has no way to go: what its computing does not explain, its other work does. */
export function paceAfter(pace: Pace | null, { times, beganAtMs }: { readonly times: StepTimes; readonly beganAtMs: number }, self: PeerId, nowMs: number): Pace | null {
  const { last, lastMs, commitMs } = times;
  if (last === null) return pace;
  const untilLastMs = lastMs - beganAtMs;
  // A peer may say that it has computed for longer than it had the work.
  const computeMs = Math.min(times.computeMs.get(last) ?? 0, untilLastMs);
  const restMs = untilLastMs - computeMs;
  const wholeMs = times.wholeMs ?? commitMs;
  const now = {
    computeMs,
    wayMs: last === self ? 0 : restMs,
    waitMs: commitMs - wholeMs,
    applyMs: (last === self ? restMs : 0) + (wholeMs - lastMs) + (nowMs - commitMs),
  };
  const wayShare = median(times.wayShares);
  if (pace === null) return { ...now, wayShare, last: new Map([[last, 1]]) };
  const smoothed = (part: keyof typeof now): number => pace[part] + newest * (now[part] - pace[part]);
  return {
    computeMs: smoothed('computeMs'),
    wayMs: smoothed('wayMs'),
    waitMs: smoothed('waitMs'),
    applyMs: smoothed('applyMs'),
    wayShare: wayShare === null || pace.wayShare === null ? (wayShare ?? pace.wayShare) : pace.wayShare + newest * (wayShare - pace.wayShare),
    last: lastAfter(pace.last, last),
  };
}

/** The upper one of two. */
function median(values: readonly number[]): number | null {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? null;
}

function lastAfter(before: ReadonlyMap<PeerId, number>, last: PeerId): ReadonlyMap<PeerId, number> {
  const after = new Map<PeerId, number>();
  for (const [id, share] of before) if (share > 0.01) after.set(id, share * (1 - newest));
  return after.set(last, (after.get(last) ?? 0) + newest);
}

/** Whoever was last most often of late. */
export function slowestOf({ last }: Pace): PeerId | null {
  let slowest: PeerId | null = null;
  for (const [id, share] of last) if (slowest === null || share > (last.get(slowest) ?? 0)) slowest = id;
  return slowest;
}
