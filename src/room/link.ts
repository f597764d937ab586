/**
 * What the coordinator's own link costs: all contributions arrive over it, so that each makes the others wait, however many devices
 * compute. Measured as the time between a contribution's being ready and its arrival in which no other one arrived: whether they
 * come one after another or all at once, the sum over a step is how long the link was busy. Pure.
 */

/** The weight of the newest step. */
const newest = 0.4;

/** Of a step, so far. */
export interface LinkUse {
  readonly busyMs: number;
  readonly contributions: number;
  readonly lastMs: number;
}

export const unused: LinkUse = { busyMs: 0, contributions: 0, lastMs: -Infinity };

/** `readyMs`: when its sender had computed it, as far as that can be told from here. */
export function usedBy({ busyMs, contributions, lastMs }: LinkUse, readyMs: number, nowMs: number): LinkUse {
  return { busyMs: busyMs + Math.max(0, nowMs - Math.max(readyMs, lastMs)), contributions: contributions + 1, lastMs: nowMs };
}

/** Of one contribution; null: none has come yet. */
export function linkMsAfter(linkMs: number | null, { busyMs, contributions }: LinkUse): number | null {
  if (contributions === 0) return linkMs;
  const now = busyMs / contributions;
  return linkMs === null ? now : linkMs + newest * (now - linkMs);
}
