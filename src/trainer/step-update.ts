/**
 * A coordinator's half of a step: the sum of everybody's gradients, and the update that AdamW makes of it; with local steps, the sum of
 * their changes and outer momentum. Of the members
 * only a successor opens one (`following.ts`), so the others need no memory for it. Who contributes what, and when a step is
 * complete, is the room's decision.
 */
import { Compressor, Expander, fp32Codec } from '../codec/index.ts';
import { sliceOf } from '../engine/index.ts';
import type { Memory, Sequence } from '../engine/index.ts';
import { AdamW, ContributionAdder, OuterMomentum, localLearningRateAt, outerDefaults, scheduleAt, uncheckedAdder } from '../optim/index.ts';
import type { Run } from './run.ts';
import { hasLocalSteps, hasMasterWeights } from './types.ts';
import type { CommitOptions, CommitResult, FollowedStep, MasterPart } from './types.ts';

/** Adds gradients that were sent; throws `CodecError`, in which they are called `what`, with nothing added, when the bytes can't be that. */
type Addition = (bytes: ArrayBuffer, what: string) => void;

export class StepUpdate {
  readonly #run: Run;
  readonly #sum: Memory;
  /** What the optimizer updates: the replica itself, or with a lossy codec what the replica follows. */
  readonly #master: Memory;
  readonly #optimizer: AdamW | OuterMomentum;
  readonly #ownAddition: Sequence;
  /** From the replica to the master weights; null where they are the same. */
  readonly #change: Compressor | null;
  /** With a lossy codec, from the first step on that a successor follows: it gets the sum in no more bytes than an update. */
  #rounding: Compressor | null = null;
  /** From the first contribution of another peer on. */
  #addition: Addition | null = null;
  /** The step whose sum this is; null before the first. */
  #step: number | null = null;

  private constructor(run: Run, sum: Memory, master: Memory, optimizer: AdamW | OuterMomentum, ownAddition: Sequence, change: Compressor | null) {
    this.#run = run;
    this.#sum = sum;
    this.#master = master;
    this.#optimizer = optimizer;
    this.#ownAddition = ownAddition;
    this.#change = change;
  }

  /** Moments start at zero, and so do master weights that are memory of their own. */
  static async open(run: Run): Promise<StepUpdate> {
    const { engine, layout, weights, gradients, settings, codec } = run;
    const sum = engine.allocateFlat('gradient sum', layout);
    const master = hasMasterWeights(settings) ? engine.allocateFlat('master weights', layout) : weights;
    const updated = { weights: master, gradientSum: sum };
    const optimizer = hasLocalSteps(settings)
      ? await OuterMomentum.create(engine, layout, updated, { ...outerDefaults, ...settings.optimizer })
      : await AdamW.create(engine, layout, updated, settings.optimizer);
    const change = codec === 'fp32' ? null : await Compressor.ofChange(engine, codec, master, weights);
    return new StepUpdate(run, sum, master, optimizer, await uncheckedAdder(engine, 'own gradients', sum, gradients), change);
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
  async add(step: number, bytes: ArrayBuffer, what = 'contribution'): Promise<void> {
    this.#checkStep(step);
    this.#addition ??= await this.#openAddition();
    this.#addition(bytes, what);
  }

  async #openAddition(): Promise<Addition> {
    const { engine, layout, codec } = this.#run;
    if (codec !== 'fp32') {
      const expander = await Expander.create(engine, codec, this.#sum);
      return (bytes, what) => {
        expander.check(bytes, what);
        expander.add(bytes);
      };
    }
    const memory = engine.allocateFlat('contribution', layout);
    const adder = await ContributionAdder.create(engine, this.#sum, memory);
    return (bytes, what) => {
      engine.write(memory, fp32Codec.decode(bytes, layout.totalElements, what));
      adder.add();
    };
  }

  /** One update of the weights by the mean gradient; none when anything was not finite. */
  async commit(step: number, weightSum: number, { changes = [], encodeUpdate, encodeGradient }: CommitOptions): Promise<Omit<CommitResult, 'step'>> {
    this.#checkStep(step);
    if (!(weightSum > 0 && Number.isFinite(weightSum))) {
      throw new RangeError(`step ${step} has a loss weight of ${weightSum}, which nothing can be divided by`);
    }
    const { engine, weights, settings } = this.#run;
    const now = scheduleAt(settings.optimizer, settings.steps, changes, step);
    const learningRate = localLearningRateAt(now.settings, step, now.steps, settings.localSteps ?? 1, 0);
    const change = this.#change;
    const rounding = encodeGradient ? await this.#openRounding() : null;
    // Before anything is made of it, so that coordinator and successor make the same.
    rounding?.run();
    this.#optimizer.commit({ learningRate, update: step + 1, weightSum });
    // A replica that is not the master itself moves only when the verdict is known, and has its hash after that.
    const [{ gradNorm, applied }, hash] = await Promise.all([this.#optimizer.result(), change === null ? this.#run.hash() : null]);
    if (applied) change?.run();
    const [replicaHash, update, gradient] = await Promise.all([
      hash ?? this.#run.hash(),
      applied && encodeUpdate ? (change?.read() ?? engine.read(weights)) : null,
      applied && encodeGradient ? (rounding?.read() ?? this.readSum(step).then((sum) => fp32Codec.encode(sum))) : null,
    ]);
    return { gradNorm, learningRate, applied, replicaHash, update, gradient };
  }

  async #openRounding(): Promise<Compressor | null> {
    const { engine, codec } = this.#run;
    if (codec !== 'fp32') this.#rounding ??= await Compressor.ofSum(engine, codec, this.#sum);
    return this.#rounding;
  }

  /**
   * The update that a coordinator made of the sum that `gradient` holds, by the same kernel, so that on equal GPUs moments and master weights are equal
   * bit for bit. Whether it was applied: when not, nothing has changed. Master weights that are the replica's are garbage
   * after it, until the step's update is written. Throws `CodecError`, with nothing changed, when the bytes can't be a sum.
   */
  async follow(step: number, { gradient, weightSum, learningRate }: FollowedStep): Promise<boolean> {
    const { engine, layout, codec } = this.#run;
    this.begin(step);
    if (codec === 'fp32') engine.write(this.#sum, fp32Codec.decode(gradient, layout.totalElements, 'gradient'));
    else await this.add(step, gradient, 'gradient');
    this.#optimizer.commit({ learningRate, update: step + 1, weightSum });
    return (await this.#optimizer.result()).applied;
  }

  /** The sum as it is: until the next `begin` that of the last committed step. */
  async readSum(step: number): Promise<Float32Array<ArrayBuffer>> {
    this.#checkStep(step);
    return new Float32Array(await this.#run.engine.read(this.#sum));
  }

  clearMoments(): void {
    this.#run.engine.clear(...[...this.#moments.values()]);
  }

  /** Before the replica, where they are the same. */
  setMaster(weights: Float32Array<ArrayBuffer>): void {
    this.#run.engine.write(this.#master, weights);
  }

  /** A range of a part as it is when everything queued before is done. */
  read(part: MasterPart, offsetElements = 0, lengthElements = this.#master.lengthElements - offsetElements): Promise<ArrayBuffer> {
    return this.#run.engine.read({ parts: sliceOf(this.#memoryOf(part), offsetElements, lengthElements), lengthElements });
  }

  write(part: MasterPart, offsetElements: number, values: Float32Array<ArrayBuffer>): void {
    this.#run.engine.write(this.#memoryOf(part), values, offsetElements);
  }

  #memoryOf(part: MasterPart): Memory {
    const memory = part === 'masterWeights' ? this.#master : this.#moments.get(part);
    if (memory === undefined) throw new RangeError(`this run has no ${part}`);
    return memory;
  }

  get #moments(): ReadonlyMap<MasterPart, Memory> {
    const optimizer = this.#optimizer;
    const first = ['firstMoments', optimizer.firstMoment] as const;
    return new Map(optimizer instanceof AdamW ? [first, ['secondMoments', optimizer.secondMoment]] : [first]);
  }

  #checkStep(step: number): void {
    if (this.#step !== step) throw new RangeError(`the sum is that of step ${this.#step ?? 'none'}, not ${step}`);
  }
}
