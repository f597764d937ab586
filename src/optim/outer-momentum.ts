/**
 * The room's own update where peers take several steps alone between two of it: Nesterov momentum, as in PyTorch's SGD, over the mean
 * of their changes (DiLoCo: Douillard et al., 2023). The sum it reads is that of changes from new to old weights, so that it is a
 * gradient's like.
 */
import { EngineError } from '../engine/index.ts';
import type { Engine, Memory, ParameterLayout } from '../engine/index.ts';
import type { UpdateResult } from './adamw-rule.ts';
import type { UpdatedRegions } from './adamw.ts';
import { JudgedUpdate, noMatrices } from './judged-update.ts';

export interface OuterSettings {
  readonly outerLearningRate: number;
  /** 0: the mean alone. */
  readonly outerMomentum: number;
}

/** docs/DECISIONS.md, "local steps". */
export const outerDefaults: OuterSettings = { outerLearningRate: 0.9, outerMomentum: 0.5 };

export class OuterMomentum {
  readonly firstMoment: Memory;
  readonly #settings: OuterSettings;
  readonly #update: JudgedUpdate;

  private constructor(settings: OuterSettings, firstMoment: Memory, update: JudgedUpdate) {
    this.#settings = settings;
    this.firstMoment = firstMoment;
    this.#update = update;
  }

  /** Allocates the momentum, zero. Weights and gradient sum are the caller's, as long as the layout. */
  static async create(engine: Engine, layout: ParameterLayout, { weights, gradientSum }: UpdatedRegions, settings: OuterSettings): Promise<OuterMomentum> {
    const firstMoment = engine.allocateFlat('outer momentum', layout);
    const update = await JudgedUpdate.create(engine, layout, gradientSum, [{ entryPoint: 'momentum', changed: [weights, firstMoment] }]);
    return new OuterMomentum(settings, firstMoment, update);
  }

  /** Queues one update. Throws `EngineError` when the batch has no loss weight. */
  commit({ weightSum }: { readonly weightSum: number }): void {
    if (!(weightSum > 0)) throw new EngineError(`a batch of loss weight ${weightSum} can't be averaged`);
    const { outerLearningRate, outerMomentum } = this.#settings;
    this.#update.run({
      inverseWeightSum: 1 / weightSum,
      gradientClip: 0,
      decayFactor: 1,
      stepSize: outerLearningRate,
      rootCorrection2: 1,
      oneMinusBeta1: 1 - outerMomentum,
      beta2: 0,
      oneMinusBeta2: 1,
      epsilon: 0,
      matrices: noMatrices,
    });
  }

  /** What the last commit did. Waits for it. */
  result(): Promise<UpdateResult> {
    return this.#update.result();
  }
}
