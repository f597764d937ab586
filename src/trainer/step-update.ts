/**
 * A coordinator's half of a step: the sum of everybody's gradients, and the update that AdamW makes of it. Members never
 * open one, so they need no memory for it. Who contributes what, and when a step is complete, is the room's decision.
 */
import type { Memory, Sequence } from '../engine/index.ts';
import { AdamW, ContributionAdder, learningRateAt, ownAdder } from '../optim/index.ts';
import type { Run } from './run.ts';
import type { CommitResult } from './types.ts';

/** Peers' contributions are written to `memory` before they are added. */
interface Arrivals {
  readonly memory: Memory;
  readonly adder: ContributionAdder;
}

export class StepUpdate {
  readonly #run: Run;
  readonly #sum: Memory;
  readonly #optimizer: AdamW;
  readonly #ownAddition: Sequence;
  /** From the first contribution of another peer on. */
  #arrivals: Arrivals | null = null;
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
    return new StepUpdate(run, sum, optimizer, await ownAdder(engine, sum, gradients));
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

  /** Adds another peer's gradients, which its codec has found finite. */
  async add(step: number, values: Float32Array<ArrayBuffer>): Promise<void> {
    this.#checkStep(step);
    const { engine, layout } = this.#run;
    if (this.#arrivals === null) {
      const memory = engine.allocateFlat('contribution', layout);
      this.#arrivals = { memory, adder: await ContributionAdder.create(engine, this.#sum, memory) };
    }
    engine.write(this.#arrivals.memory, values);
    this.#arrivals.adder.add();
  }

  /** One update of the weights by the mean gradient; none when anything was not finite. */
  async commit(step: number, weightSum: number): Promise<Omit<CommitResult, 'step' | 'update'>> {
    this.#checkStep(step);
    if (!(weightSum > 0 && Number.isFinite(weightSum))) {
      throw new RangeError(`step ${step} has a loss weight of ${weightSum}, which nothing can be divided by`);
    }
    const { settings } = this.#run;
    const learningRate = learningRateAt(settings.optimizer, step, settings.steps);
    this.#optimizer.commit({ learningRate, update: step + 1, weightSum });
    const [{ gradNorm, applied }, replicaHash] = await Promise.all([this.#optimizer.result(), this.#run.hash()]);
    return { gradNorm, learningRate, applied, replicaHash };
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
