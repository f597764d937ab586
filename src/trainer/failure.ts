/**
 * Something that may end for good (a GPU, a worker) while calls wait for it. Like racing each call against one promise
 * that rejects, except that a promise that lives as long as the run would keep the result of every call alive.
 */

export class Failure {
  #reason: Error | null = null;
  readonly #waiting = new Set<(reason: Error) => void>();

  /** Rejects everything guarded, now and later. Only the first reason counts. */
  fail(reason: Error): void {
    if (this.#reason !== null) return;
    this.#reason = reason;
    for (const reject of this.#waiting) reject(reason);
    this.#waiting.clear();
  }

  get reason(): Error | null {
    return this.#reason;
  }

  guard<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#reason !== null) reject(this.#reason);
      this.#waiting.add(reject);
      work.then(resolve, reject).finally(() => this.#waiting.delete(reject));
    });
  }
}
