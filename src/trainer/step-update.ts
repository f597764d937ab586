/**
 * A coordinator's half of a step: the sum of everybody's gradients, and the update that the run's optimizer makes of it; with local steps, the sum of
 * their changes and outer momentum. Of the members
 * only a successor opens one (`following.ts`), so the others need no memory for it. Who contributes what, and when a step is
 * complete, is the room's decision.
 */
import { codecOfBytes, Compressor, fp32Codec, sumCodecOf } from '../codec/index.ts';
import type { CodecName, RoundingCodecName } from '../codec/index.ts';
import { sliceOf } from '../engine/index.ts';
import type { Memory, Sequence } from '../engine/index.ts';
import { isLayerMatrix } from '../model/parameters.ts';
import { createGradientOptimizer, OuterMomentum, flatCopy, localLearningRateAt, outerDefaults, scheduleAt, uncheckedAdder } from '../optim/index.ts';
import type { GradientOptimizer } from '../optim/index.ts';
import { EncodedAdder } from './encoded-gradients.ts';
import type { Run } from './run.ts';
import { codecsOf, hasLocalSteps, hasMasterWeights } from './types.ts';
import type { CommitOptions, CommitResult, FollowedStep, MasterPart } from './types.ts';

/** Takes the replica to the master weights, as far as its codec can say. */
type Change = Pick<Compressor, 'run' | 'read'>;

export class StepUpdate {
  readonly #run: Run;
  readonly #sum: Memory;
  /** What the optimizer updates: the replica itself, or with a lossy codec what the replica follows. */
  readonly #master: Memory;
  readonly #optimizer: GradientOptimizer | OuterMomentum;
  readonly #ownAddition: Sequence;
  readonly #addition: EncodedAdder;
  readonly #changes = new Map<CodecName, Change>();
  /** For steps that a successor follows in a lossy codec: it gets the sum in few bytes, too. */
  readonly #roundings = new Map<RoundingCodecName, Compressor>();
  /** The step whose sum this is; null before the first. */
  #step: number | null = null;

  private constructor(run: Run, sum: Memory, master: Memory, optimizer: GradientOptimizer | OuterMomentum, ownAddition: Sequence) {
    this.#run = run;
    this.#sum = sum;
    this.#master = master;
    this.#optimizer = optimizer;
    this.#ownAddition = ownAddition;
    this.#addition = new EncodedAdder(run.engine, run.layout, sum, codecsOf(run.settings));
  }

  /** Moments start at zero, and so do master weights that are memory of their own. */
  static async open(run: Run): Promise<StepUpdate> {
    const { engine, layout, weights, gradients, settings } = run;
    const sum = engine.allocateFlat('gradient sum', layout);
    const master = hasMasterWeights(settings) ? engine.allocateFlat('master weights', layout) : weights;
    const updated = { weights: master, gradientSum: sum };
    const optimizer = hasLocalSteps(settings)
      ? await OuterMomentum.create(engine, layout, updated, { ...outerDefaults, ...settings.optimizer })
      : await createGradientOptimizer(engine, layout, updated, settings.optimizer, isLayerMatrix);
    return new StepUpdate(run, sum, master, optimizer, await uncheckedAdder(engine, 'own gradients', sum, gradients));
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
    (await this.#addition.prepare(bytes, what))();
  }

  /** One update of the weights by the mean gradient; none when anything was not finite. */
  async commit(step: number, weightSum: number, { changes = [], codec = this.#run.codec, encodeUpdate, encodeGradient }: CommitOptions): Promise<Omit<CommitResult, 'step'>> {
    this.#checkStep(step);
    if (!(weightSum > 0 && Number.isFinite(weightSum))) {
      throw new RangeError(`step ${step} has a loss weight of ${weightSum}, which nothing can be divided by`);
    }
    const { engine, weights, settings } = this.#run;
    const now = scheduleAt(settings.optimizer, settings.steps, changes, step);
    const learningRate = localLearningRateAt(now.settings, step, now.steps, settings.localSteps ?? 1, 0);
    const change = await this.#change(codec);
    const rounding = encodeGradient ? await this.#rounding(sumCodecOf(codec)) : null;
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

  /** Null where the replica is the master weights. */
  async #change(codec: CodecName): Promise<Change | null> {
    const { engine, weights, settings } = this.#run;
    if (!hasMasterWeights(settings)) return null;
    const change = this.#changes.get(codec) ?? (codec === 'fp32' ? await this.#exactChange() : await Compressor.ofChange(engine, codec, this.#master, weights));
    this.#changes.set(codec, change);
    return change;
  }

  async #exactChange(): Promise<Change> {
    const { engine, weights } = this.#run;
    const copy = await flatCopy(engine, 'replica of the master weights', this.#master, weights);
    return { run: () => copy.run(), read: () => engine.read(weights) };
  }

  async #rounding(codec: 'fp32' | RoundingCodecName): Promise<Compressor | null> {
    if (codec === 'fp32') return null;
    const rounding = this.#roundings.get(codec) ?? (await Compressor.ofSum(this.#run.engine, codec, this.#sum));
    this.#roundings.set(codec, rounding);
    return rounding;
  }

  /**
   * The update that a coordinator made of the sum that `gradient` holds, by the same kernel, so that on equal GPUs moments and master weights are equal
   * bit for bit. Whether it was applied: when not, nothing has changed. Master weights that are the replica's are garbage
   * after it, until the step's update is written. Throws `CodecError`, with nothing changed, when the bytes can't be a sum.
   */
  async follow(step: number, { gradient, weightSum, learningRate }: FollowedStep): Promise<boolean> {
    const { engine, layout, settings } = this.#run;
    this.begin(step);
    const isExact = codecOfBytes(gradient, layout.totalElements, 'gradient', codecsOf(settings)) === fp32Codec;
    if (isExact) engine.write(this.#sum, fp32Codec.decode(gradient, layout.totalElements, 'gradient'));
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
    return new Map(optimizer instanceof OuterMomentum ? [first] : [first, ['secondMoments', optimizer.secondMoment]]);
  }

  #checkStep(step: number): void {
    if (this.#step !== step) throw new RangeError(`the sum is that of step ${this.#step ?? 'none'}, not ${step}`);
  }
}
