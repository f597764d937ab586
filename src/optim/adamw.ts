/**
 * AdamW on the GPU over the flat buffers of weights, gradient sum and moments (Loshchilov & Hutter, 2019; decoupled as in
 * PyTorch), with the global norm and clipping. It knows nothing of steps and schedules.
 */
import { EngineError } from '../engine/index.ts';
import type { Engine, Memory, ParameterLayout } from '../engine/index.ts';
import { updateFactors } from './adamw-rule.ts';
import type { AdamWCommit, AdamWSettings, UpdateResult } from './adamw-rule.ts';
import { JudgedUpdate, noMatrices } from './judged-update.ts';
import type { UpdateNumbers } from './judged-update.ts';

/** What an update changes, and from what. */
export interface UpdatedRegions {
  readonly weights: Memory;
  /** Filled by whoever sums gradients; commits leave it as it is. */
  readonly gradientSum: Memory;
}

/** What the shader's `adamw` goes by. */
export function adamWNumbers(settings: AdamWSettings, commit: AdamWCommit): Omit<UpdateNumbers, 'matrices'> {
  const { beta1, beta2, epsilon, gradientClip } = settings;
  return { ...updateFactors(settings, commit), gradientClip, oneMinusBeta1: 1 - beta1, beta2, oneMinusBeta2: 1 - beta2, epsilon };
}

export class AdamW {
  readonly firstMoment: Memory;
  readonly secondMoment: Memory;
  readonly #settings: AdamWSettings;
  readonly #update: JudgedUpdate;

  private constructor(settings: AdamWSettings, firstMoment: Memory, secondMoment: Memory, update: JudgedUpdate) {
    this.#settings = settings;
    this.firstMoment = firstMoment;
    this.secondMoment = secondMoment;
    this.#update = update;
  }

  /** Allocates the moments, zero. Weights and gradient sum are the caller's, as long as the layout. */
  static async create(engine: Engine, layout: ParameterLayout, { weights, gradientSum }: UpdatedRegions, settings: AdamWSettings): Promise<AdamW> {
    const firstMoment = engine.allocateFlat('first moment', layout);
    const secondMoment = engine.allocateFlat('second moment', layout);
    const update = await JudgedUpdate.create(engine, layout, gradientSum, [{ entryPoint: 'adamw', changed: [weights, firstMoment, secondMoment] }]);
    return new AdamW(settings, firstMoment, secondMoment, update);
  }

  /** Queues one update. Throws `EngineError` when the batch has no loss weight. */
  commit(commit: AdamWCommit): void {
    if (!(commit.weightSum > 0)) throw new EngineError(`a batch of loss weight ${commit.weightSum} can't be averaged`);
    this.#update.run({ ...adamWNumbers(this.#settings, commit), matrices: noMatrices });
  }

  /** What the last commit did. Waits for it. */
  result(): Promise<UpdateResult> {
    return this.#update.result();
  }
}
