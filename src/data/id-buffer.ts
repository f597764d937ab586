/** Token ids in a buffer that grows: how many a text will have is not known before. */
export class IdBuffer {
  #ids = new Uint32Array(1024);
  #count = 0;

  push(id: number): void {
    if (this.#count === this.#ids.length) {
      const larger = new Uint32Array(2 * this.#count);
      larger.set(this.#ids);
      this.#ids = larger;
    }
    this.#ids[this.#count++] = id;
  }

  append(ids: ArrayLike<number>): void {
    for (let at = 0; at < ids.length; at++) this.push(ids[at] ?? 0);
  }

  /** A copy of what is in it. */
  ids(): Uint32Array<ArrayBuffer> {
    return this.#ids.slice(0, this.#count);
  }
}
