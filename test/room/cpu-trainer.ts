/**
 * The trainer's contract on the CPU, for simulated rooms: the real decoder graph through the reference interpreter, the
 * reference AdamW, the real codec. It computes in f64 and, like a GPU, keeps nothing between calls but f32: what was saved, sent
 * or followed is then all there is. Small models only. What a room has no use for (device check, sampling) is not here.
 */
import { CodecError, codecOf, fp32Codec } from '../../src/codec/index.ts';
import type { MasterState } from '../../src/checkpoint/types.ts';
import type { MicrobatchRows } from '../../src/data/types.ts';
import { weightOf } from '../../src/data/batches.ts';
import { interpret } from '../../src/engine/index.ts';
import type { Graph, ParameterLayout } from '../../src/engine/index.ts';
import { evaluationGraph, trainingGraph } from '../../src/model/decoder.ts';
import { initialWeights } from '../../src/model/initial.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { AdamWReference, learningRateAt, replicaHashOf, scheduleAt } from '../../src/optim/index.ts';
import type { ScheduleChange } from '../../src/optim/index.ts';
import type { CommitOptions, CommitResult, FollowedStep, GradientJob, GradientResult, Trainer, TrainerSettings } from '../../src/trainer/types.ts';

/** What a room asks of a trainer. */
export type RoomTrainer = Pick<Trainer, RoomCalls>;

type RoomCalls =
  | 'initialize'
  | 'restore'
  | 'loadReplica'
  | 'applyUpdate'
  | 'beginFollowing'
  | 'adoptMoments'
  | 'computeGradients'
  | 'takeContribution'
  | 'beginStep'
  | 'addOwnContribution'
  | 'addContribution'
  | 'commit'
  | 'replica'
  | 'masterState'
  | 'evaluate';

/** A successor: the step since which it follows, the updates it has followed, and whether it has the moments from before. */
interface Following {
  readonly since: number;
  updates: number;
  isWhole: boolean;
}

/** Gradients and loss of one micro-batch, summed; by replica hash, step and index. */
export type GradientMemo = Pick<Map<string, MemorizedGradient>, 'get' | 'set'>;

export interface MemorizedGradient {
  readonly sums: Float64Array;
  readonly lossSum: number;
}

/**
 * Gradients are rounded to multiples of this, coarse enough that f32 sums of a step's micro-batches are exact however they are
 * grouped: who computes what then changes nothing at all, and most of what a room computes has been computed before.
 */
const gradientQuantum = 2 ** -18;

interface Plan {
  readonly layout: ParameterLayout;
  readonly training: Graph;
  readonly evaluation: Graph;
}

const plans = new WeakMap<TrainerSettings, Plan>();

/** Traced once for all trainers of a run. */
function planOf(settings: TrainerSettings): Plan {
  const known = plans.get(settings);
  if (known !== undefined) return known;
  const { model, rowsPerMicrobatch, contextLength } = settings;
  const plan = {
    layout: parameterLayoutOf(model),
    training: trainingGraph(model, rowsPerMicrobatch, contextLength),
    evaluation: evaluationGraph(model, rowsPerMicrobatch, contextLength),
  };
  plans.set(settings, plan);
  return plan;
}

export class CpuTrainer implements RoomTrainer {
  readonly #settings: TrainerSettings;
  readonly #memo: GradientMemo;
  readonly #layout: ParameterLayout;
  readonly #training: Graph;
  readonly #evaluation: Graph;
  /** Of a coordinator or a successor. */
  #optimizer: AdamWReference | null = null;
  #following: Following | null = null;
  /** What the codec did not say of this peer's contributions so far. */
  #dropped: Float32Array<ArrayBuffer> = new Float32Array();
  #weights: Float32Array<ArrayBuffer> = new Float32Array();
  #parameters: ReadonlyMap<string, Float64Array> = new Map();
  #hash = '';
  #step = 0;
  #held: { readonly assignment: string; readonly step: number; readonly sums: Float32Array<ArrayBuffer> } | null = null;
  #summedStep: number | null = null;

  /** Trainers of one run may share a memo: the same weights and micro-batch give the same gradients wherever computed. */
  constructor(settings: TrainerSettings, memo: GradientMemo) {
    this.#settings = settings;
    this.#memo = memo;
    const { layout, training, evaluation } = planOf(settings);
    this.#layout = layout;
    this.#training = training;
    this.#evaluation = evaluation;
  }

  /** Hash of the replica as it is now. */
  get hash(): string {
    return this.#hash;
  }

  async initialize(): Promise<string> {
    this.#lead(Float64Array.from(initialWeights(this.#settings.model, this.#settings.seed)), 0);
    return this.hash;
  }

  async restore(state: MasterState): Promise<string> {
    const optimizer = this.#lead(Float64Array.from(new Float32Array(state.weights)), state.step);
    optimizer.firstMoment.set(new Float32Array(state.firstMoments));
    optimizer.secondMoment.set(new Float32Array(state.secondMoments));
    return this.hash;
  }

  async loadReplica(step: number, bytes: ArrayBuffer): Promise<string> {
    const weights = fp32Codec.decode(bytes.slice(0), this.#layout.totalElements, 'update');
    this.#optimizer = null;
    this.#following = null;
    this.#dropped = new Float32Array(weights.length);
    this.#use(weights, step);
    return this.hash;
  }

  async applyUpdate(step: number, bytes: ArrayBuffer, followed?: FollowedStep): Promise<string> {
    if (step !== this.#step) throw new RangeError(`update of step ${step} for a replica at ${this.#step}`);
    if (followed === undefined) {
      this.#optimizer = null;
      this.#following = null;
      this.#use(fp32Codec.decode(bytes.slice(0), this.#layout.totalElements, 'update'), step + 1);
      return this.hash;
    }
    const { following, optimizer } = this.#followingOptimizer();
    const weights = fp32Codec.decode(bytes.slice(0), this.#layout.totalElements, 'update');
    optimizer.gradientSum.set(fp32Codec.decode(followed.gradient, this.#layout.totalElements, 'gradient'));
    if (!(followed.weightSum > 0 && Number.isFinite(followed.weightSum))) throw new CodecError(`a loss weight of ${followed.weightSum}`);
    if (!this.#update(optimizer, step, followed.weightSum).applied) throw new CodecError('a gradient too large');
    following.updates += 1;
    optimizer.weights.set(weights);
    this.#use(weights, step + 1);
    return this.hash;
  }

  async beginFollowing(): Promise<number> {
    this.#optimizer = this.#optimizerOf(Float64Array.from(this.#weights));
    this.#following = { since: this.#step, updates: 0, isWhole: false };
    return this.#step;
  }

  async adoptMoments(step: number, first: ArrayBuffer, second: ArrayBuffer): Promise<void> {
    const { following, optimizer } = this.#followingOptimizer();
    if (following.isWhole) throw new RangeError('the moments have been adopted before');
    if (step !== following.since) throw new RangeError(`moments of step ${step} for one that follows since ${following.since}`);
    const [firstMoments, secondMoments] = [first, second].map((bytes) => fp32Codec.decode(bytes, this.#layout.totalElements, 'moment'));
    if (secondMoments?.some((value) => value < 0)) throw new CodecError('a negative second moment');
    const { beta1, beta2 } = this.#settings.optimizer;
    const add = (moment: Float64Array, values: Float32Array | undefined, kept: number): void => {
      moment.forEach((value, at) => (moment[at] = Math.fround(value + kept * (values?.[at] ?? 0))));
    };
    add(optimizer.firstMoment, firstMoments, beta1 ** following.updates);
    add(optimizer.secondMoment, secondMoments, beta2 ** following.updates);
    following.isWhole = true;
  }

  async computeGradients(job: GradientJob): Promise<GradientResult> {
    if (job.step !== this.#step) throw new RangeError(`work of step ${job.step} with a replica at ${this.#step}`);
    const sums = new Float64Array(this.#layout.totalElements);
    let lossSum = 0;
    let weightSum = 0;
    let tokens = 0;
    for (const { index, rows } of job.microbatches) {
      const microbatch = this.#microbatch(job.step, index, rows);
      for (let at = 0; at < sums.length; at += 1) sums[at] = (sums[at] ?? 0) + (microbatch.sums[at] ?? 0);
      lossSum += microbatch.lossSum;
      weightSum += weightOf(rows);
      tokens += rows.inputIds.length;
    }
    this.#held = { assignment: job.assignment, step: job.step, sums: Float32Array.from(sums) };
    return { assignment: job.assignment, step: job.step, lossSum, weightSum, computeMs: 0, tokens, cancelled: false };
  }

  async takeContribution(assignment: string): Promise<ArrayBuffer> {
    const codec = codecOf(this.#settings.codec ?? 'fp32');
    const sums = this.#heldSums(assignment);
    const values = sums.map((sum, at) => sum + (this.#dropped[at] ?? 0));
    const bytes = codec.encode(values.slice());
    const sent = codec.decode(bytes.slice(0), values.length, 'contribution');
    this.#dropped = values.map((value, at) => value - (sent[at] ?? 0));
    return bytes;
  }

  async beginStep(step: number): Promise<void> {
    if (step !== this.#step) throw new RangeError(`step ${step} with weights at ${this.#step}`);
    this.#coordinating().gradientSum.fill(0);
    this.#following = null;
    this.#summedStep = step;
  }

  async addOwnContribution(assignment: string): Promise<void> {
    this.#add(this.#heldSums(assignment));
  }

  async addContribution(step: number, bytes: ArrayBuffer): Promise<void> {
    if (step !== this.#summedStep) throw new RangeError(`contribution to step ${step} while step ${this.#summedStep} is summed`);
    this.#add(codecOf(this.#settings.codec ?? 'fp32').decode(bytes.slice(0), this.#layout.totalElements, 'contribution'));
  }

  async commit(step: number, weightSum: number, options: CommitOptions): Promise<CommitResult> {
    if (step !== this.#summedStep) throw new RangeError(`commit of step ${step} while step ${this.#summedStep} is summed`);
    const optimizer = this.#coordinating();
    roundToF32(optimizer.gradientSum);
    const { gradNorm, applied, learningRate } = this.#update(optimizer, step, weightSum, options.changes);
    this.#summedStep = null;
    if (applied) this.#use(Float32Array.from(optimizer.weights), step + 1);
    const update = applied && options.encodeUpdate ? fp32Codec.encode(this.#weights.slice()) : null;
    const gradient = applied && options.encodeGradient ? fp32Codec.encode(Float32Array.from(optimizer.gradientSum)) : null;
    return { step, gradNorm, learningRate, applied, replicaHash: this.hash, update, gradient };
  }

  async replica(): Promise<{ readonly step: number; readonly bytes: ArrayBuffer; readonly hash: string }> {
    return { step: this.#step, bytes: fp32Codec.encode(this.#weights.slice()), hash: this.hash };
  }

  async masterState(): Promise<MasterState> {
    const { firstMoment, secondMoment } = this.#coordinating();
    return {
      step: this.#step,
      weights: this.#weights.slice().buffer,
      firstMoments: Float32Array.from(firstMoment).buffer,
      secondMoments: Float32Array.from(secondMoment).buffer,
    };
  }

  async evaluate(batches: readonly MicrobatchRows[]): Promise<number> {
    let lossSum = 0;
    let weightSum = 0;
    for (const rows of batches) {
      const { totals } = interpret(this.#evaluation, { parameters: this.#parameters, inputs: inputsOf(rows, null) });
      lossSum += totals.get('loss') ?? 0;
      weightSum += weightOf(rows);
    }
    return lossSum / weightSum;
  }

  #microbatch(step: number, index: number, rows: MicrobatchRows): { readonly sums: Float64Array; readonly lossSum: number } {
    const key = `${this.#hash}.${step}.${index}`;
    const known = this.#memo.get(key);
    if (known !== undefined) return known;
    const seed = Float64Array.of(this.#settings.seed, step, index, 0);
    const { gradients, totals } = interpret(this.#training, { parameters: this.#parameters, inputs: inputsOf(rows, seed) });
    const sums = new Float64Array(this.#layout.totalElements);
    for (const { name, offsetElements } of this.#layout.entries) {
      (gradients.get(name) ?? new Float64Array()).forEach((value, at) => {
        sums[offsetElements + at] = Math.round(value / gradientQuantum) * gradientQuantum;
      });
    }
    const result = { sums, lossSum: totals.get('loss') ?? 0 };
    this.#memo.set(key, result);
    return result;
  }

  #lead(weights: Float64Array, step: number): AdamWReference {
    const optimizer = this.#optimizerOf(weights);
    this.#optimizer = optimizer;
    this.#following = null;
    this.#use(Float32Array.from(weights), step);
    return optimizer;
  }

  #optimizerOf(weights: Float64Array): AdamWReference {
    return new AdamWReference(weights, this.#layout.decayedElements, this.#settings.optimizer);
  }

  #update(optimizer: AdamWReference, step: number, weightSum: number, changes: readonly ScheduleChange[] = []): Pick<CommitResult, 'gradNorm' | 'applied' | 'learningRate'> {
    const now = scheduleAt(this.#settings.optimizer, this.#settings.steps, changes, step);
    const learningRate = learningRateAt(now.settings, step, now.steps);
    const result = optimizer.commit({ learningRate, update: step + 1, weightSum });
    for (const values of [optimizer.weights, optimizer.firstMoment, optimizer.secondMoment]) roundToF32(values);
    return { ...result, learningRate };
  }

  #use(weights: Float32Array<ArrayBuffer>, step: number): void {
    this.#weights = weights;
    this.#hash = replicaHashOf(weights);
    this.#step = step;
    this.#parameters = new Map(
      this.#layout.entries.map(({ name, offsetElements, lengthElements }) => [
        name,
        Float64Array.from(weights.subarray(offsetElements, offsetElements + lengthElements)),
      ]),
    );
  }

  #coordinating(): AdamWReference {
    if (this.#optimizer === null || this.#following?.isWhole === false) throw new RangeError("this member has no coordinator's moments");
    return this.#optimizer;
  }

  #followingOptimizer(): { readonly following: Following; readonly optimizer: AdamWReference } {
    const [following, optimizer] = [this.#following, this.#optimizer];
    if (following === null || optimizer === null) throw new RangeError('this member follows no coordinator');
    return { following, optimizer };
  }

  #heldSums(assignment: string): Float32Array<ArrayBuffer> {
    if (this.#held?.assignment !== assignment) throw new RangeError(`${assignment} is not the last job`);
    return this.#held.sums;
  }

  #add(sums: Float32Array): void {
    const { gradientSum } = this.#coordinating();
    for (let at = 0; at < gradientSum.length; at += 1) gradientSum[at] = (gradientSum[at] ?? 0) + (sums[at] ?? 0);
  }
}

function roundToF32(values: Float64Array): void {
  for (let at = 0; at < values.length; at += 1) values[at] = Math.fround(values[at] ?? 0);
}

function inputsOf(rows: MicrobatchRows, seed: Float64Array<ArrayBuffer> | null): ReadonlyMap<string, Float64Array> {
  const inputs = new Map([
    ['ids', Float64Array.from(rows.inputIds)],
    ['targets', Float64Array.from(rows.targets)],
    ['lossWeights', Float64Array.from(rows.lossWeights)],
  ]);
  return seed === null ? inputs : inputs.set('seed', seed);
}
