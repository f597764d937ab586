/** How fast a worker computes, in micro-batches per second, as it says and as time allows; and how long the way to it takes. Learned as it works. */
import { longestExpectedMs, speedSmoothing } from './limits.ts';

export interface Speed {
  readonly perSecond: number;
  /** False while it is only the guess of a device's probe. */
  readonly isMeasured: boolean;
}

const slowestPerSecond = 1e-6;
const shortestElapsedMs = 1;
/** Of the time that a member had an assignment, it has computed at least such a share, whatever it says: or it could draw all work to itself. */
const leastComputeShare = 1 / 32;

export function guessedSpeed(perSecond: number): Speed {
  return { perSecond: Math.max(perSecond, slowestPerSecond), isMeasured: false };
}

/** The first observation replaces the guess; later ones move an exponential average. */
export function observedSpeed(speed: Speed, microbatches: number, elapsedMs: number): Speed {
  const observed = (microbatches * 1000) / Math.max(elapsedMs, shortestElapsedMs);
  const perSecond = speed.isMeasured ? speed.perSecond + speedSmoothing * (observed - speed.perSecond) : observed;
  return { perSecond: Math.max(perSecond, slowestPerSecond), isMeasured: true };
}

/** Of what a member says that it computed for. */
export function believedComputeMs(computeMs: number, elapsedMs: number): number {
  return Math.min(Math.max(computeMs, elapsedMs * leastComputeShare), elapsedMs);
}

/** Of ways, as `observedSpeed` of speeds; none is measured before `isFirst`. */
export function observedMs(beforeMs: number, nowMs: number, isFirst: boolean): number {
  return isFirst ? nowMs : beforeMs + speedSmoothing * (nowMs - beforeMs);
}

/** After a deadline missed: half of what was believed, and no more than the time waited allows where it was only a guess. */
export function decayedSpeed(speed: Speed, microbatches: number, elapsedMs: number): Speed {
  const bound = speed.isMeasured ? Infinity : (microbatches * 1000) / Math.max(elapsedMs, shortestElapsedMs);
  return { perSecond: Math.max(Math.min(speed.perSecond / 2, bound), slowestPerSecond), isMeasured: true };
}

export function expectedMs(perSecond: number, microbatches: number): number {
  return Math.min((microbatches * 1000) / perSecond, longestExpectedMs);
}
