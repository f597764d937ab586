/**
 * A clock that browsers don't slow down in hidden tabs: timers of dedicated workers aren't throttled, those of pages
 * are. It has a worker of its own so that nothing the trainer does can hold it up, and watchers without a GPU have one.
 */

/** Calls back about every `periodMs`. Returns what stops it. */
export function startTicker(periodMs: number, onTick: () => void): () => void {
  const worker = new Worker(new URL('./ticker-worker.ts', import.meta.url), { type: 'module', name: 'cotrain-ticker' });
  worker.addEventListener('message', onTick);
  worker.postMessage(periodMs);
  return () => {
    worker.terminate();
  };
}
