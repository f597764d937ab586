/**
 * A coordinator's half of a step: the sum of everybody's gradients, and the update that AdamW makes of it. Of the members
 * only a successor opens one (`following.ts`), so the others need no memory for it. Who contributes what, and when a step is
 * complete, is the room's decision.
 */
import { Expander, fp32Codec } from '../codec/index.ts';
import type { Memory, Sequence } from '../engine/index.ts';
import { AdamW, ContributionAdder, learningRateAt, scheduleAt, uncheckedAdder } from '../optim/index.ts';
import type { ScheduleChange } from '../optim/index.ts';
import type { Run } from './run.ts';
import type { CommitResult } from './types.ts';

/** Adds another peer's contribution; throws `CodecError`, with nothing added, when its bytes can't be one. */
type Addition = (bytes: ArrayBuffer) => void;

export class StepUpdate {
  readonly #run: Run;
  readonly #sum: Memory;
  readonly #optimizer: AdamW;
  readonly #ownAddition: Sequence;
  /** From the first contribution of another peer on. */
  #addition: Addition | null = null;
  /** The step whose sum this is; null before the first. */
  #step: number | null = null;

  private constructor(run: Run, sum: Memory, optimizer: AdamW, ownAddition: Sequence) {
    this.#run = run;
    this.#sum = sum;
    this.#optimizer = optimizer;
    this.#ownAddition = ownAddition;
  }

  /** Moments start at zero. */
  static async open(run: Run): Promise<StepUpdate> {
    const { engine, layout, weights, gradients, settings } = run;
    const sum = engine.allocateFlat('gradient sum', layout);
    const regions = { weights, gradientSum: sum };
    const optimizer = await AdamW.create(engine, layout, regions, settings.optimizer);
    return new StepUpdate(run, sum, optimizer, await uncheckedAdder(engine, 'own gradients', sum, gradients));
  }

  begin(step: number): void {
    this.#run.engine.clear(this.#sum);
    this.#step = step;
  }

  /** Adds what the gradient region holds. */
  addOwn(step: number): void {
    this.#checkStep(step);
    this.#ownAddition.run();
  }

  /** Adds another peer's gradients. Throws `CodecError`, with nothing added, when the bytes can't be that. */
  async add(step: number, bytes: ArrayBuffer): Promise<void> {
    this.#checkStep(step);
    this.#addition ??= await this.#openAddition();
    this.#addition(bytes);
  }

  async #openAddition(): Promise<Addition> {
    const { engine, layout, settings } = this.#run;
    const { codec = 'fp32' } = settings;
    if (codec !== 'fp32') {
      const expander = await Expander.create(engine, codec, this.#sum);
      return (bytes) => {
        expander.add(bytes);
      };
    }
    const memory = engine.allocateFlat('contribution', layout);
    const adder = await ContributionAdder.create(engine, this.#sum, memory);
    return (bytes) => {
      engine.write(memory, fp32Codec.decode(bytes, layout.totalElements, 'contribution'));
      adder.add();
    };
  }

  /** One update of the weights by the mean gradient; none when anything was not finite. */
  async commit(step: number, weightSum: number, changes: readonly ScheduleChange[]): Promise<Omit<CommitResult, 'step' | 'update' | 'gradient'>> {
    this.#checkStep(step);
    if (!(weightSum > 0 && Number.isFinite(weightSum))) {
      throw new RangeError(`step ${step} has a loss weight of ${weightSum}, which nothing can be divided by`);
    }
    const learningRate = this.#queueUpdate(step, weightSum, changes);
    const [{ gradNorm, applied }, replicaHash] = await Promise.all([this.#optimizer.result(), this.#run.hash()]);
    return { gradNorm, learningRate, applied, replicaHash };
  }

  /**
   * The update that a coordinator made of this sum, by the same kernel, so that on equal GPUs the moments are equal bit for
   * bit. Whether it was applied: when not, nothing has changed.
   */
  async follow(step: number, sum: Float32Array<ArrayBuffer>, weightSum: number): Promise<boolean> {
    this.#step = step;
    this.#run.engine.write(this.#sum, sum);
    // The weights that this makes are not used, so neither is its learning rate.
    this.#queueUpdate(step, weightSum, []);
    return (await this.#optimizer.result()).applied;
  }

  /** Returns the learning rate. */
  #queueUpdate(step: number, weightSum: number, changes: readonly ScheduleChange[]): number {
    const { optimizer, steps } = this.#run.settings;
    const now = scheduleAt(optimizer, steps, changes, step);
    const learningRate = learningRateAt(now.settings, step, now.steps);
    this.#optimizer.commit({ learningRate, update: step + 1, weightSum });
    return learningRate;
  }

  /** The sum as it is: until the next `begin` that of the last committed step. */
  async readSum(step: number): Promise<Float32Array<ArrayBuffer>> {
    this.#checkStep(step);
    return new Float32Array(await this.#run.engine.read(this.#sum));
  }

  clearMoments(): void {
    this.#run.engine.clear(this.#optimizer.firstMoment, this.#optimizer.secondMoment);
  }

  setMoments(first: Float32Array, second: Float32Array): void {
    this.#run.engine.write(this.#optimizer.firstMoment, first);
    this.#run.engine.write(this.#optimizer.secondMoment, second);
  }

  /** Adds what `updates` updates left of these to what they made of zero. The sum is overwritten. */
  async addMoments(first: Float32Array<ArrayBuffer>, second: Float32Array<ArrayBuffer>, updates: number): Promise<void> {
    if (updates === 0) {
      this.setMoments(first, second);
      return;
    }
    const { firstMoment, secondMoment } = this.#optimizer;
    const kept = this.#optimizer.momentsKept(updates);
    this.#step = null;
    for (const [label, moment, values, factor] of [
      ['first moment', firstMoment, first, kept.first],
      ['second moment', secondMoment, second, kept.second],
    ] as const) {
      const adder = await uncheckedAdder(this.#run.engine, label, moment, this.#sum);
      // Through the sum, which nobody needs between two steps that are followed: no memory of its own.
      this.#run.engine.write(this.#sum, values.map((value) => value * factor));
      adder.run();
    }
  }

  async readMoments(): Promise<{ readonly firstMoments: ArrayBuffer; readonly secondMoments: ArrayBuffer }> {
    const { engine } = this.#run;
    const [firstMoments, secondMoments] = await Promise.all([
      engine.read(this.#optimizer.firstMoment),
      engine.read(this.#optimizer.secondMoment),
    ]);
    return { firstMoments, secondMoments };
  }

  #checkStep(step: number): void {
    if (this.#step !== step) throw new RangeError(`the sum is that of step ${this.#step ?? 'none'}, not ${step}`);
  }
}
