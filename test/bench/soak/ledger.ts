/** Every step as the room announced it to somebody who was always there: none may be missing, come twice, or change afterwards. */
import type { HistoryPoint } from '../../../src/room/messages.ts';

export class Ledger {
  readonly #losses: number[] = [];
  /** In words, the first of each look. */
  readonly #complaints: string[] = [];

  get losses(): readonly number[] {
    return this.#losses;
  }

  get complaints(): readonly string[] {
    return this.#complaints;
  }

  /** Of the whole history, whenever there is reason to look. */
  look(history: readonly Pick<HistoryPoint, 'step' | 'loss'>[]): void {
    const misplaced = history.find(({ step }, at) => step !== at);
    if (misplaced !== undefined) this.#complaints.push(`step ${misplaced.step} is not in its place`);
    if (history.length < this.#losses.length) this.#complaints.push(`of ${this.#losses.length} steps ${history.length} are left`);
    const changed = history.find(({ loss }, at) => at < this.#losses.length && loss !== this.#losses[at]);
    if (changed !== undefined) this.#complaints.push(`step ${changed.step} has changed from ${this.#losses[changed.step]} to ${changed.loss}`);
    this.#losses.push(...history.slice(this.#losses.length).map(({ loss }) => loss));
  }
}
