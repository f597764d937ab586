/**
 * AdamW on the GPU over the flat buffers of weights, gradient sum and moments (Loshchilov & Hutter, 2019; decoupled as in
 * PyTorch), with the global norm and clipping. A commit is one submit and never waits: whether the gradients are finite
 * is decided on the GPU. It knows nothing of steps and schedules.
 */
import shader from '../../shaders/adamw.wgsl?raw';
import { EngineError, flatRanges, partOf } from '../engine/index.ts';
import type { DirectDispatch, Engine, Memory, ParameterLayout, Region, Sequence } from '../engine/index.ts';
import { updateFactors } from './adamw-rule.ts';
import type { AdamWCommit, AdamWResult, AdamWSettings } from './adamw-rule.ts';

const settingsElements = 9;
const statusElements = 3;

interface AdamWRegions {
  readonly weights: Memory;
  /** Filled by whoever sums gradients; commits leave it as it is. */
  readonly gradientSum: Memory;
}

export class AdamW {
  readonly firstMoment: Memory;
  readonly secondMoment: Memory;
  readonly #engine: Engine;
  readonly #settings: AdamWSettings;
  readonly #settingsRegion: Region;
  readonly #status: Region;
  readonly #sequence: Sequence;

  private constructor(
    engine: Engine,
    settings: AdamWSettings,
    regions: { readonly firstMoment: Memory; readonly secondMoment: Memory; readonly settings: Region; readonly status: Region },
    sequence: Sequence,
  ) {
    this.#engine = engine;
    this.#settings = settings;
    this.firstMoment = regions.firstMoment;
    this.secondMoment = regions.secondMoment;
    this.#settingsRegion = regions.settings;
    this.#status = regions.status;
    this.#sequence = sequence;
  }

  /** Allocates the moments, zero. Weights and gradient sum are the caller's, as long as the layout. */
  static async create(
    engine: Engine,
    layout: ParameterLayout,
    { weights, gradientSum }: AdamWRegions,
    settings: AdamWSettings,
  ): Promise<AdamW> {
    const { decayedElements } = layout;
    const firstMoment = engine.allocateFlat('first moment', layout);
    const secondMoment = engine.allocateFlat('second moment', layout);
    const settingsRegion = engine.allocate('optimizer settings', settingsElements);
    const status = engine.allocate('optimizer status', statusElements);
    const ranges = flatRanges(weights, engine.profile);
    const parts = ranges.reduce((sum, { groups }) => sum + groups, 0);
    const partSums = engine.allocate('norm parts', 2 * parts);
    const dispatch = (entryPoint: string, range: (typeof ranges)[number]): DirectDispatch => ({
      label: `adamw ${entryPoint}`,
      shader,
      entryPoint,
      constants: {
        COUNT: range.count,
        DECAYED: Math.max(0, Math.min(range.count, decayedElements - range.start)),
        FIRST_PART: range.firstGroup,
        GROUPS_X: range.groupsX,
        PARTS: parts,
      },
      bindings: [
        settingsRegion,
        status,
        partOf(gradientSum, range),
        partSums,
        partOf(weights, range),
        partOf(firstMoment, range),
        partOf(secondMoment, range),
      ],
      workgroups: entryPoint === 'judge' ? [1, 1, 1] : range.workgroups,
    });
    const sequence = await engine.sequence('adamw', [
      ...ranges.map((range) => dispatch('squares', range)),
      ...ranges.slice(0, 1).map((range) => dispatch('judge', range)),
      ...ranges.map((range) => dispatch('update', range)),
    ]);
    return new AdamW(engine, settings, { firstMoment, secondMoment, settings: settingsRegion, status }, sequence);
  }

  /** Queues one update. Throws `EngineError` when the batch has no loss weight. */
  commit(commit: AdamWCommit): void {
    if (!(commit.weightSum > 0)) throw new EngineError(`a batch of loss weight ${commit.weightSum} can't be averaged`);
    const { beta1, beta2, epsilon, gradientClip } = this.#settings;
    const { inverseWeightSum, decayFactor, stepSize, rootCorrection2 } = updateFactors(this.#settings, commit);
    const values = Float32Array.of(
      inverseWeightSum,
      gradientClip,
      decayFactor,
      stepSize,
      rootCorrection2,
      1 - beta1,
      beta2,
      1 - beta2,
      epsilon,
    );
    this.#engine.write(this.#settingsRegion, values);
    this.#sequence.run();
  }

  /** What the last commit did. Waits for it. */
  async result(): Promise<AdamWResult> {
    const [norm = Number.NaN, , applied] = new Float32Array(await this.#engine.read(this.#status));
    return { gradNorm: norm, applied: applied === 1 };
  }
}
