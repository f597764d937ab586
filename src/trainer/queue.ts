/** Runs asynchronous jobs one after another in the order in which they were handed in. A job that fails stops no other. */

export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(job: () => Promise<T>): Promise<T> {
    const result = this.#last.then(job);
    this.#last = result.catch(() => undefined); // Whoever handed the job in is told.
    return result;
  }
}
