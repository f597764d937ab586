/**
 * What a training tab asks of the page around it: a screen wake lock while visible, step and loss in the title,
 * word when it is hidden or left. Nothing here is on the critical path of a step.
 */
import type { SessionState } from './types.ts';

const baseTitle = 'Cotrain';

export function titleOf(state: SessionState): string {
  if (state.role === 'none' || state.phase === 'idle' || state.phase === 'left') return baseTitle;
  const loss = state.loss === null ? '' : ` · loss ${state.loss.toFixed(3)}`;
  const paused = state.phase === 'paused' ? '⏸ ' : '';
  return `${paused}step ${state.step}/${state.steps}${loss} · ${state.title}`;
}

/** Holds a screen wake lock whenever it is wanted and the page is visible; browsers drop it when hidden. */
export class WakeLock {
  #wanted = false;
  #sentinel: WakeLockSentinel | null = null;
  #asking = false;

  constructor() {
    document.addEventListener('visibilitychange', () => void this.#apply());
  }

  want(wanted: boolean): void {
    if (this.#wanted === wanted) return;
    this.#wanted = wanted;
    void this.#apply();
  }

  async #apply(): Promise<void> {
    if (!('wakeLock' in navigator) || this.#asking) return;
    const shouldHold = this.#wanted && document.visibilityState === 'visible';
    this.#asking = true;
    try {
      if (shouldHold && (this.#sentinel === null || this.#sentinel.released)) {
        this.#sentinel = await navigator.wakeLock.request('screen');
      } else if (!shouldHold && this.#sentinel !== null) {
        await this.#sentinel.release();
        this.#sentinel = null;
      }
    } catch {
      // Refused (low battery, policy): the screen may sleep; training in the tab goes on regardless.
      this.#sentinel = null;
    } finally {
      this.#asking = false;
    }
  }
}
