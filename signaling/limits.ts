/** How much one address may ask of the server. Token buckets; time comes in as an argument. */

export class RateLimiter {
  readonly #capacity: number;
  readonly #perSecond: number;
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>();

  /** `capacity` requests at once, then `perSecond` for ever. */
  constructor(capacity: number, perSecond: number) {
    this.#capacity = capacity;
    this.#perSecond = perSecond;
  }

  /** True when the address may go on; counts the request if so. */
  allows(address: string, nowMs: number): boolean {
    const bucket = this.#buckets.get(address) ?? { tokens: this.#capacity, atMs: nowMs };
    const elapsedSeconds = Math.max(0, nowMs - bucket.atMs) / 1000;
    const tokens = Math.min(this.#capacity, bucket.tokens + elapsedSeconds * this.#perSecond);
    const allowed = tokens >= 1;
    this.#buckets.set(address, { tokens: allowed ? tokens - 1 : tokens, atMs: Math.max(bucket.atMs, nowMs) });
    return allowed;
  }

  /** Drops addresses whose bucket has filled up again, so that the map can't grow for ever. */
  sweep(nowMs: number): void {
    const fillSeconds = this.#capacity / this.#perSecond;
    for (const [address, bucket] of this.#buckets) {
      if ((nowMs - bucket.atMs) / 1000 >= fillSeconds) this.#buckets.delete(address);
    }
  }
}

/** Counts what is open per address. */
export class ConnectionCounter {
  readonly #open = new Map<string, number>();
  readonly #maximum: number;

  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /** False when the address has its share already; otherwise counts one more. */
  enter(address: string): boolean {
    const open = this.#open.get(address) ?? 0;
    if (open >= this.#maximum) return false;
    this.#open.set(address, open + 1);
    return true;
  }

  leave(address: string): void {
    const open = (this.#open.get(address) ?? 0) - 1;
    if (open > 0) this.#open.set(address, open);
    else this.#open.delete(address);
  }
}
