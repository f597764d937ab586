/**
 * How a successor keeps a coordinator's moments without being one: it starts them at zero, takes every step's gradient
 * along, and adds what the coordinator had at the start when that arrives. Moments are linear in what they are made of:
 *
 *   m after n updates = beta1^n m at the start + what the n gradients make of zero;  v likewise with beta2
 *
 * Weights are not its affair: a successor has those of every replica. Nor is who follows whom, and when to lead.
 */
import { CodecError, fp32Codec } from '../codec/index.ts';
import type { ParameterLayout } from '../engine/index.ts';
import type { StepUpdate } from './step-update.ts';
import type { FollowedStep } from './types.ts';

export class Following {
  readonly #update: StepUpdate;
  readonly #layout: ParameterLayout;
  readonly #since: number;
  #updates = 0;
  #isWhole = false;

  /** From `since` on, the replica's present step. Overwrites the moments that `update` had. */
  constructor(update: StepUpdate, layout: ParameterLayout, since: number) {
    this.#update = update;
    this.#layout = layout;
    this.#since = since;
    update.clearMoments();
  }

  /** Whether the moments are the coordinator's, and not only what was followed. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  /**
   * Takes the moments through the next step, clipped and divided as the coordinator did. The replica's weights are garbage
   * afterwards, until the step's update is written. Throws `CodecError`, with nothing changed, when the coordinator can't
   * have applied this.
   */
  async take(step: number, { gradient, weightSum }: FollowedStep): Promise<void> {
    if (!(weightSum > 0 && Number.isFinite(weightSum))) throw new CodecError(`a gradient of step ${step} has a loss weight of ${weightSum}`);
    const sum = fp32Codec.decode(gradient, this.#layout.totalElements, 'gradient');
    // Finite as its elements are, its norm may not be.
    if (!(await this.#update.follow(step, sum, weightSum))) throw new CodecError(`the gradient of step ${step} is too large`);
    this.#updates += 1;
  }

  /** See `Trainer.adoptMoments`. */
  async adopt(step: number, first: ArrayBuffer, second: ArrayBuffer): Promise<void> {
    if (this.#isWhole) throw new RangeError('the moments have been adopted before');
    if (step !== this.#since) throw new RangeError(`moments of step ${step} for one that follows since step ${this.#since}`);
    const elements = this.#layout.totalElements;
    const firstMoments = fp32Codec.decode(first, elements, 'first moment');
    const secondMoments = fp32Codec.decode(second, elements, 'second moment');
    if (secondMoments.some((value) => value < 0)) throw new CodecError('a second moment is negative');
    await this.#update.addMoments(firstMoments, secondMoments, this.#updates);
    this.#isWhole = true;
  }
}
