/**
 * How a successor keeps a coordinator's master state without being one. The state comes in ranges, each as it is at the step at
 * which the replica is here too, and takes every step from then on by the coordinator's own gradients: AdamW treats each
 * element by itself, so that a range is right from the moment it is there, whatever is missing beside it.
 *
 * The replica is not its affair. Nor is who follows whom, and when to lead.
 */
import { CodecError, fp32Codec } from '../codec/index.ts';
import type { ParameterLayout } from '../engine/index.ts';
import type { StepUpdate } from './step-update.ts';
import type { FollowedStep, MasterPart } from './types.ts';

const bytesPerElement = 4;

export class Following {
  readonly #update: StepUpdate;
  readonly #flatElements: number;
  /** Of each part, how much is there. */
  readonly #received: Map<MasterPart, number>;

  /** Overwrites the state that `update` had. */
  constructor(update: StepUpdate, layout: ParameterLayout, parts: readonly MasterPart[]) {
    this.#update = update;
    this.#flatElements = layout.totalElements;
    this.#received = new Map(parts.map((part) => [part, 0]));
    // What is not there yet takes part in every step, and zeros can't become infinite.
    update.clearMoments();
  }

  /** Whether all of it is the coordinator's. */
  get isWhole(): boolean {
    return [...this.#received.values()].every((elements) => elements === this.#flatElements);
  }

  /**
   * Takes the state through the next step, clipped and divided as the coordinator did. Throws `CodecError`, with nothing changed,
   * when the coordinator can't have applied this.
   */
  async take(step: number, followed: FollowedStep): Promise<void> {
    const { weightSum, learningRate } = followed;
    if (!(weightSum > 0 && Number.isFinite(weightSum))) throw new CodecError(`a gradient of step ${step} has a loss weight of ${weightSum}`);
    if (!(learningRate >= 0 && Number.isFinite(learningRate))) throw new CodecError(`a gradient of step ${step} has a learning rate of ${learningRate}`);
    // Finite as its elements are, its norm may not be.
    if (!(await this.#update.follow(step, followed))) throw new CodecError(`the gradient of step ${step} is too large`);
  }

  /** See `Trainer.writeMaster`. */
  write(part: MasterPart, offsetBytes: number, bytes: ArrayBuffer): void {
    const received = this.#received.get(part);
    if (received === undefined || offsetBytes !== received * bytesPerElement) throw new RangeError(`${part} from byte ${offsetBytes} on are not what comes next`);
    if (bytes.byteLength === 0 || bytes.byteLength % bytesPerElement !== 0 || offsetBytes + bytes.byteLength > this.#flatElements * bytesPerElement) {
      throw new CodecError(`${part} have ${bytes.byteLength} bytes from byte ${offsetBytes} on, and this model's end at ${this.#flatElements * bytesPerElement}`);
    }
    const values = fp32Codec.decode(bytes, bytes.byteLength / bytesPerElement, `range of the ${part}`);
    if (part === 'secondMoments' && values.some((value) => value < 0)) throw new CodecError('a second moment is negative');
    this.#update.write(part, received, values);
    this.#received.set(part, received + values.length);
  }
}
