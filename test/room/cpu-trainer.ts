/**
 * The trainer's contract on the CPU, for simulated rooms: the real decoder graph through the reference interpreter, the
 * reference AdamW, the real codec. It computes in f64 and, like a GPU, keeps nothing between calls but f32: what was saved, sent
 * or followed is then all there is. Small models only. What a room has no use for (device check, sampling) is not here.
 */
import { CodecError, codecOf, codecOfBytes, fp32Codec, sumCodecOf } from '../../src/codec/index.ts';
import type { Codec, CodecName } from '../../src/codec/index.ts';
import type { MasterState } from '../../src/checkpoint/types.ts';
import type { MicrobatchRows } from '../../src/data/types.ts';
import { weightOf } from '../../src/data/batches.ts';
import { interpret } from '../../src/engine/index.ts';
import type { Graph, ParameterLayout } from '../../src/engine/index.ts';
import { evaluationGraph, trainingGraph } from '../../src/model/decoder.ts';
import { initialWeights } from '../../src/model/initial.ts';
import { nothingFrozen } from '../../src/model/frozen.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { AdamWReference, OuterMomentumReference, localLearningRateAt, outerDefaults, replicaHashOf, scheduleAt } from '../../src/optim/index.ts';
import { groupsOf } from '../../src/trainer/local-groups.ts';
import { codecsOf, hasLocalSteps, hasMasterWeights, masterPartsOf } from '../../src/trainer/types.ts';
import type { CommitOptions, CommitResult, FollowedStep, GradientJob, GradientResult, MasterPart, Trainer, TrainerSettings } from '../../src/trainer/types.ts';

/** What a room asks of a trainer. */
export type RoomTrainer = Pick<Trainer, RoomCalls>;

type RoomCalls =
  | 'initialize'
  | 'restore'
  | 'loadReplica'
  | 'applyUpdate'
  | 'beginFollowing'
  | 'readMaster'
  | 'writeMaster'
  | 'computeGradients'
  | 'takeContribution'
  | 'beginStep'
  | 'addOwnContribution'
  | 'addContribution'
  | 'commit'
  | 'replica'
  | 'masterState'
  | 'evaluate';

/** Of the room. */
type MasterOptimizer = AdamWReference | OuterMomentumReference;

/** A successor, and how much it has of what the coordinator had. */
interface Following {
  /** Of each part, how many elements are there. */
  readonly received: Map<MasterPart, number>;
}

/** Gradients and loss of one micro-batch, summed; by replica hash, step and index. */
export type GradientMemo = Pick<Map<string, MemorizedGradient>, 'get' | 'set'>;

/** Of a job; `sums` of gradients, or the change that local steps come to. */
interface JobSums extends MemorizedGradient {
  readonly weightSum: number;
  readonly tokens: number;
}

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
  const { model, rowsPerMicrobatch, contextLength, labelSmoothing = 0, frozen = nothingFrozen, keepDocumentsApart: documents = false } = settings;
  const plan = {
    layout: parameterLayoutOf(model, frozen),
    training: trainingGraph(model, rowsPerMicrobatch, contextLength, { labelSmoothing, frozen, documents }),
    evaluation: evaluationGraph(model, rowsPerMicrobatch, contextLength, { documents }),
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
  #optimizer: MasterOptimizer | null = null;
  /** Of this peer's own steps, from its first job with local steps on, and how many there were. */
  #local: { readonly optimizer: AdamWReference; updates: number } | null = null;
  #following: Following | null = null;
  /** What the codec did not say of this peer's contributions so far. */
  #dropped: Float32Array<ArrayBuffer> = new Float32Array();
  #weights: Float32Array<ArrayBuffer> = new Float32Array();
  #parameters: Parameters = new Map();
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

  /** Of the replica. */
  get step(): number {
    return this.#step;
  }

  /** Of each part of a master state. */
  get masterBytes(): number {
    return 4 * this.#layout.totalElements;
  }

  /** Hash of the replica as it is now. */
  get hash(): string {
    return this.#hash;
  }

  async initialize(): Promise<string> {
    const weights = Float32Array.from(initialWeights(this.#settings.model, this.#settings.seed));
    this.#local = null;
    this.#lead(weights, weights, 0);
    return this.hash;
  }

  async restore(state: MasterState): Promise<string> {
    const { step, weights, masterWeights = weights } = state;
    const optimizer = this.#lead(new Float32Array(weights.slice(0)), new Float32Array(masterWeights), step);
    for (const part of masterPartsOf(this.#settings)) if (part !== 'masterWeights') partOf(optimizer, part).set(new Float32Array(state[part]));
    return this.hash;
  }

  async loadReplica(step: number, bytes: ArrayBuffer): Promise<string> {
    const weights = fp32Codec.decode(bytes.slice(0), this.#layout.totalElements, 'replica');
    this.#optimizer = null;
    this.#following = null;
    this.#dropped = new Float32Array(weights.length);
    this.#use(weights, step);
    return this.hash;
  }

  async applyUpdate(step: number, bytes: ArrayBuffer, followed?: FollowedStep): Promise<string> {
    if (step !== this.#step) throw new RangeError(`update of step ${step} for a replica at ${this.#step}`);
    const update = this.#decoded(bytes, 'update');
    const isExact = codecOfBytes(bytes, update.length, 'update') === fp32Codec;
    const weights = isExact ? update : this.#weights.map((weight, at) => weight + (update[at] ?? 0));
    if (followed === undefined) {
      this.#optimizer = null;
      this.#following = null;
    } else {
      const { optimizer } = this.#followingOptimizer();
      const { gradient, weightSum, learningRate } = followed;
      optimizer.gradientSum.set(this.#decoded(gradient, 'gradient'));
      if (!(weightSum > 0 && Number.isFinite(weightSum))) throw new CodecError(`a loss weight of ${weightSum}`);
      if (!(learningRate >= 0 && Number.isFinite(learningRate))) throw new CodecError(`a learning rate of ${learningRate}`);
      if (!this.#update(optimizer, step, weightSum, learningRate).applied) throw new CodecError('a gradient too large');
      if (!this.#hasMaster) optimizer.weights.set(weights);
    }
    this.#use(weights, step + 1);
    return this.hash;
  }

  async beginFollowing(): Promise<number> {
    this.#optimizer = this.#optimizerOf(new Float64Array(this.#weights.length));
    if (!this.#hasMaster) this.#optimizer.weights.set(this.#weights);
    this.#following = { received: new Map(masterPartsOf(this.#settings).map((part) => [part, 0])) };
    return this.#step;
  }

  async readMaster(part: MasterPart, offsetBytes: number, byteLength: number): Promise<{ readonly step: number; readonly bytes: ArrayBuffer }> {
    return this.masterNow(part, offsetBytes, byteLength);
  }

  /** The same, in this very moment. */
  masterNow(part: MasterPart, offsetBytes: number, byteLength: number): { readonly step: number; readonly bytes: ArrayBuffer } {
    const values = partOf(this.#coordinating(), part).subarray(offsetBytes / 4, (offsetBytes + byteLength) / 4);
    return { step: this.#step, bytes: Float32Array.from(values).buffer };
  }

  async writeMaster(step: number, part: MasterPart, offsetBytes: number, bytes: ArrayBuffer): Promise<void> {
    if (step !== this.#step) throw new RangeError(`${part} of step ${step} for a replica at ${this.#step}`);
    const { following, optimizer } = this.#followingOptimizer();
    const received = following.received.get(part);
    if (received === undefined || offsetBytes !== received * 4) throw new RangeError(`${part} from byte ${offsetBytes} on are not what comes next`);
    if (bytes.byteLength === 0 || bytes.byteLength % 4 !== 0 || received + bytes.byteLength / 4 > this.#layout.totalElements) throw new CodecError(`${part} of ${bytes.byteLength} bytes`);
    const values = new Float32Array(bytes.slice(0));
    if (!values.every(Number.isFinite)) throw new CodecError(`${part} are not finite`);
    if (part === 'secondMoments' && values.some((value) => value < 0)) throw new CodecError('a negative second moment');
    partOf(optimizer, part).set(values, received);
    following.received.set(part, received + values.length);
  }

  async computeGradients(job: GradientJob): Promise<GradientResult> {
    if (job.step !== this.#step) throw new RangeError(`work of step ${job.step} with a replica at ${this.#step}`);
    const { assignment, step } = job;
    const { sums, ...totals } = hasLocalSteps(this.#settings) ? this.#localSteps(job) : this.#sums(this.#parameters, this.#hash, job);
    this.#held = { assignment, step, sums: Float32Array.from(sums) };
    return { assignment, step, ...totals, computeMs: 0, cancelled: false };
  }

  #sums(parameters: Parameters, weightsHash: string, { step, microbatches }: Pick<GradientJob, 'step' | 'microbatches'>): JobSums {
    const sums = new Float64Array(this.#layout.totalElements);
    let lossSum = 0;
    let weightSum = 0;
    let tokens = 0;
    for (const { index, rows } of microbatches) {
      const microbatch = this.#microbatch(parameters, `${weightsHash}.${step}.${index}`, step, index, rows);
      for (let at = 0; at < sums.length; at += 1) sums[at] = (sums[at] ?? 0) + (microbatch.sums[at] ?? 0);
      lossSum += microbatch.lossSum;
      weightSum += weightOf(rows);
      tokens += rows.inputIds.length;
    }
    return { sums, lossSum, weightSum, tokens };
  }

  /** AdamW on a copy of the replica after each group of micro-batches, and what it comes to. */
  #localSteps({ step, microbatches, changes = [] }: GradientJob): JobSums {
    const { optimizer: settings, steps, localSteps = 1 } = this.#settings;
    this.#local ??= { updates: 0, optimizer: new AdamWReference(new Float64Array(this.#weights.length), this.#layout, settings) };
    const { optimizer } = this.#local;
    optimizer.weights.set(this.#weights);
    const now = scheduleAt(settings, steps, changes, step);
    const groups = groupsOf(microbatches, localSteps);
    const totals = { lossSum: 0, weightSum: 0, tokens: 0 };
    for (const [at, group] of groups.entries()) {
      const local = Float32Array.from(optimizer.weights);
      const { sums, lossSum, weightSum, tokens } = this.#sums(parametersOf(this.#layout, local), replicaHashOf(local), { step, microbatches: group });
      totals.lossSum += lossSum;
      totals.weightSum += weightSum;
      totals.tokens += tokens;
      optimizer.gradientSum.set(sums);
      this.#local.updates += 1;
      const learningRate = localLearningRateAt(now.settings, step, now.steps, localSteps, (at / groups.length) * localSteps);
      optimizer.commit({ learningRate, update: this.#local.updates, weightSum });
      for (const values of [optimizer.weights, optimizer.firstMoment, optimizer.secondMoment]) roundToF32(values);
    }
    return { sums: optimizer.weights.map((weight, at) => ((this.#weights[at] ?? 0) - weight) * totals.weightSum), ...totals };
  }

  async takeContribution(assignment: string, name: CodecName = this.#ownCodec): Promise<ArrayBuffer> {
    const codec = codecOf(name);
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
    this.#add(this.#decoded(bytes, 'contribution'));
  }

  async commit(step: number, weightSum: number, options: CommitOptions): Promise<CommitResult> {
    if (step !== this.#summedStep) throw new RangeError(`commit of step ${step} while step ${this.#summedStep} is summed`);
    const optimizer = this.#coordinating();
    roundToF32(optimizer.gradientSum);
    const { codec = this.#ownCodec } = options;
    const sum = options.encodeGradient ? this.#roundedSum(optimizer, codecOf(sumCodecOf(codec))) : null;
    const now = scheduleAt(this.#settings.optimizer, this.#settings.steps, options.changes ?? [], step);
    const learningRate = localLearningRateAt(now.settings, step, now.steps, this.#settings.localSteps ?? 1, 0);
    const { gradNorm, applied } = this.#update(optimizer, step, weightSum, learningRate);
    this.#summedStep = null;
    const update = applied ? this.#moved(optimizer, step, codecOf(codec)) : null;
    const gradient = applied ? sum : null;
    return { step, gradNorm, learningRate, applied, replicaHash: this.hash, update: options.encodeUpdate ? update : null, gradient };
  }

  /** What a successor gets of the sum; from then on it is what these bytes say. What is not finite stays so. */
  #roundedSum({ gradientSum }: MasterOptimizer, codec: Codec): ArrayBuffer {
    const sum = Float32Array.from(gradientSum);
    const bytes = codec.encode(sum.slice(), 'dithered');
    if (sum.every(Number.isFinite)) gradientSum.set(this.#decoded(bytes, 'sum'));
    return bytes;
  }

  /** Takes the replica to the master weights, as far as the codec can say; what it says of it. */
  #moved(optimizer: MasterOptimizer, step: number, codec: Codec): ArrayBuffer {
    if (codec === fp32Codec) {
      this.#use(Float32Array.from(optimizer.weights), step + 1);
      return fp32Codec.encode(this.#weights.slice());
    }
    const bytes = codec.encode(this.#weights.map((weight, at) => (optimizer.weights[at] ?? 0) - weight));
    const change = this.#decoded(bytes, 'update');
    this.#use(this.#weights.map((weight, at) => weight + (change[at] ?? 0)), step + 1);
    return bytes;
  }

  async replica(): Promise<{ readonly step: number; readonly bytes: ArrayBuffer; readonly hash: string }> {
    return { step: this.#step, bytes: fp32Codec.encode(this.#weights.slice()), hash: this.hash };
  }

  async masterState(): Promise<MasterState> {
    const optimizer = this.#coordinating();
    const parts = masterPartsOf(this.#settings).map((part) => [part, Float32Array.from(partOf(optimizer, part)).buffer] as const);
    const none = new ArrayBuffer(0);
    return { step: this.#step, weights: this.#weights.slice().buffer, firstMoments: none, secondMoments: none, ...Object.fromEntries(parts) };
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

  /** `key`: names the weights and the micro-batch. */
  #microbatch(parameters: Parameters, key: string, step: number, index: number, rows: MicrobatchRows): MemorizedGradient {
    const known = this.#memo.get(key);
    if (known !== undefined) return known;
    const seed = Float64Array.of(this.#settings.seed, step, index, 0);
    const { gradients, totals } = interpret(this.#training, { parameters, inputs: inputsOf(rows, seed) });
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

  #lead(weights: Float32Array<ArrayBuffer>, master: Float32Array, step: number): MasterOptimizer {
    const optimizer = this.#optimizerOf(Float64Array.from(master));
    this.#optimizer = optimizer;
    this.#following = null;
    this.#dropped = new Float32Array(weights.length);
    this.#use(weights, step);
    return optimizer;
  }

  /** Where none is asked for. */
  get #ownCodec(): CodecName {
    const { codec = 'fp32' } = this.#settings;
    return codec === 'auto' ? 'fp32' : codec;
  }

  get #hasMaster(): boolean {
    return hasMasterWeights(this.#settings);
  }

  /** Of a copy: messages may be delivered twice. */
  #decoded(bytes: ArrayBuffer, what: string): Float32Array<ArrayBuffer> {
    const { totalElements } = this.#layout;
    return codecOfBytes(bytes, totalElements, what, codecsOf(this.#settings)).decode(bytes.slice(0), totalElements, what);
  }

  #optimizerOf(weights: Float64Array): MasterOptimizer {
    if (hasLocalSteps(this.#settings)) return new OuterMomentumReference(weights, { ...outerDefaults, ...this.#settings.optimizer });
    return new AdamWReference(weights, this.#layout, this.#settings.optimizer);
  }

  #update(optimizer: MasterOptimizer, step: number, weightSum: number, learningRate: number): Pick<CommitResult, 'gradNorm' | 'applied'> {
    const result = optimizer.commit({ learningRate, update: step + 1, weightSum });
    for (const part of ['masterWeights', ...masterPartsOf(this.#settings)] as const) roundToF32(partOf(optimizer, part));
    return result;
  }

  #use(weights: Float32Array<ArrayBuffer>, step: number): void {
    this.#weights = weights;
    this.#hash = replicaHashOf(weights);
    this.#step = step;
    this.#parameters = parametersOf(this.#layout, weights);
  }

  #coordinating(): MasterOptimizer {
    const isPart = [...(this.#following?.received.values() ?? [])].some((received) => received < this.#layout.totalElements);
    if (this.#optimizer === null || isPart) throw new RangeError("this member has no coordinator's master state");
    return this.#optimizer;
  }

  #followingOptimizer(): { readonly following: Following; readonly optimizer: MasterOptimizer } {
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

function partOf(optimizer: MasterOptimizer, part: MasterPart): Float64Array {
  if (part === 'masterWeights') return optimizer.weights;
  if (part === 'firstMoments') return optimizer.firstMoment;
  if (optimizer instanceof AdamWReference) return optimizer.secondMoment;
  throw new RangeError(`this run has no ${part}`);
}

type Parameters = ReadonlyMap<string, Float64Array>;

function parametersOf(layout: ParameterLayout, weights: Float32Array): Parameters {
  return new Map(
    layout.entries.map(({ name, offsetElements, lengthElements }) => [name, Float64Array.from(weights.subarray(offsetElements, offsetElements + lengthElements))]),
  );
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
  if (rows.documentStarts !== undefined) inputs.set('documentStarts', Float64Array.from(rows.documentStarts));
  return seed === null ? inputs : inputs.set('seed', seed);
}
