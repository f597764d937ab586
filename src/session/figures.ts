/** Figures derived from the shared history: speed, time spent and time left. Pure. */
import type { HistoryPoint } from '../room/messages.ts';

/** Long enough to even out single slow steps, short enough to follow a peer that joins or leaves. */
const recentSteps = 20;

export function recentSpeed(history: readonly HistoryPoint[]): { readonly tokensPerSecond: number; readonly stepMs: number } {
  const recent = history.slice(-recentSteps);
  const ms = recent.reduce((sum, point) => sum + point.ms, 0);
  const tokens = recent.reduce((sum, point) => sum + point.tokens, 0);
  return ms > 0 ? { tokensPerSecond: (tokens / ms) * 1000, stepMs: ms / recent.length } : { tokensPerSecond: 0, stepMs: 0 };
}

/** Time spent in steps, so that pauses and nights between two visits don't count. Keeps the sum of what it has seen. */
export class TrainingClock {
  #history: readonly HistoryPoint[] = [];
  #sumMs = 0;

  elapsedMs(history: readonly HistoryPoint[]): number {
    const last = this.#history.length - 1;
    const continues = history.length >= this.#history.length && history[last] === this.#history[last];
    if (!continues) this.#sumMs = 0;
    for (let at = continues ? last + 1 : 0; at < history.length; at++) this.#sumMs += history[at]?.ms ?? 0;
    this.#history = history;
    return this.#sumMs;
  }
}
