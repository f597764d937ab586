/**
 * Adds gradients to a sum on the GPU: other peers' contributions, refusing as a whole those that are not finite, and this
 * peer's own as they are.
 */
import shader from '../../shaders/contribution.wgsl?raw';
import { flatRanges, partOf } from '../engine/index.ts';
import type { DirectDispatch, Engine, Memory, Region, Sequence } from '../engine/index.ts';

export class ContributionAdder {
  readonly #engine: Engine;
  readonly #verdict: Region;
  readonly #sequence: Sequence;

  private constructor(engine: Engine, verdict: Region, sequence: Sequence) {
    this.#engine = engine;
    this.#verdict = verdict;
    this.#sequence = sequence;
  }

  /** Memory of one layout; `contribution` is where each contribution is written before it is added. */
  static async create(engine: Engine, sum: Memory, contribution: Memory): Promise<ContributionAdder> {
    const ranges = flatRanges(sum, engine.profile);
    const parts = ranges.reduce((total, { groups }) => total + groups, 0);
    const flags = engine.allocate('contribution flags', parts);
    const verdict = engine.allocate('contribution verdict', 1);
    const dispatch = (entryPoint: string, range: (typeof ranges)[number]): DirectDispatch => ({
      label: `contribution ${entryPoint}`,
      shader,
      entryPoint,
      constants: { COUNT: range.count, FIRST_PART: range.firstGroup, GROUPS_X: range.groupsX, PARTS: parts, CHECKED: true },
      bindings: [partOf(contribution, range), flags, verdict, partOf(sum, range)],
      workgroups: entryPoint === 'judge' ? [1, 1, 1] : range.workgroups,
    });
    const sequence = await engine.sequence('contribution', [
      ...ranges.map((range) => dispatch('inspect', range)),
      ...ranges.slice(0, 1).map((range) => dispatch('judge', range)),
      ...ranges.map((range) => dispatch('add', range)),
    ]);
    return new ContributionAdder(engine, verdict, sequence);
  }

  /** Queues the addition. */
  add(): void {
    this.#sequence.run();
  }

  /** Whether the last contribution was finite, and so was added. Waits for it. */
  async wasAdded(): Promise<boolean> {
    const [verdict] = new Uint32Array(await this.#engine.read(this.#verdict));
    return verdict === 1;
  }
}

/**
 * Each run adds one flat buffer to another as it is. Of gradients, what is not finite makes the sum so, and AdamW then
 * refuses the step.
 */
export function uncheckedAdder(engine: Engine, label: string, sum: Memory, addends: Memory): Promise<Sequence> {
  const dispatches = flatRanges(sum, engine.profile).map((range): DirectDispatch => {
    const [addend, total] = [partOf(addends, range), partOf(sum, range)];
    return {
      label,
      shader,
      entryPoint: 'add',
      constants: { COUNT: range.count, FIRST_PART: 0, GROUPS_X: range.groupsX, PARTS: 1, CHECKED: false },
      // Flags and verdict are not touched by this entry point.
      bindings: [addend, addend, addend, total],
      workgroups: range.workgroups,
    };
  });
  return engine.sequence(label, dispatches);
}
