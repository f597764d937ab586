/** Undoes the scale that gradients were computed with, and tells whether they overflowed. The scale itself is the trainer's choice. */
import judgeShader from '../../shaders/contribution.wgsl?raw';
import scaleShader from '../../shaders/gradient-scale.wgsl?raw';
import { flatRanges, partOf } from '../engine/index.ts';
import type { DirectDispatch, Engine, Memory, Region, Sequence } from '../engine/index.ts';

export class GradientScaler {
  readonly #engine: Engine;
  readonly #factor: Region;
  readonly #verdict: Region;
  readonly #sequence: Sequence;

  private constructor(engine: Engine, factor: Region, verdict: Region, sequence: Sequence) {
    this.#engine = engine;
    this.#factor = factor;
    this.#verdict = verdict;
    this.#sequence = sequence;
  }

  static async create(engine: Engine, gradients: Memory): Promise<GradientScaler> {
    const ranges = flatRanges(gradients, engine.profile);
    const parts = ranges.reduce((total, { groups }) => total + groups, 0);
    const flags = engine.allocate('gradient flags', parts);
    const verdict = engine.allocate('gradient verdict', 1);
    const factor = engine.allocate('gradient scale', 1);
    const dispatches = ranges.map((range): DirectDispatch => ({
      label: 'gradient scale',
      shader: scaleShader,
      entryPoint: 'scale',
      constants: { COUNT: range.count, FIRST_PART: range.firstGroup, GROUPS_X: range.groupsX },
      bindings: [partOf(gradients, range), flags, factor],
      workgroups: range.workgroups,
    }));
    const judge: DirectDispatch = {
      label: 'gradient verdict',
      shader: judgeShader,
      entryPoint: 'judge',
      constants: { COUNT: 1, FIRST_PART: 0, GROUPS_X: 1, PARTS: parts, CHECKED: true },
      // Binding 0 is a contribution's values, which this entry point does not touch.
      bindings: [flags, flags, verdict],
      workgroups: [1, 1, 1],
    };
    return new GradientScaler(engine, factor, verdict, await engine.sequence('gradient scale', [...dispatches, judge]));
  }

  /** Queues the multiplication. By a power of two it is exact, but for values below f32's normal range. */
  multiply(factor: number): void {
    this.#engine.write(this.#factor, Float32Array.of(factor));
    this.#sequence.run();
  }

  /** Whether all gradients were finite at the last multiplication. Waits for it. */
  async wereFinite(): Promise<boolean> {
    const [verdict] = new Uint32Array(await this.#engine.read(this.#verdict));
    return verdict === 1;
  }
}
