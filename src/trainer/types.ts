/**
 * The trainer's contract: a peer's gradient work and the coordinator's update. The worker implements it on WebGPU
 * (through Comlink), the command line in process, the simulator on a CPU. Calls run one after another in the order made.
 */
import type { MasterState } from '../checkpoint/types.ts';
import { sumCodecOf } from '../codec/types.ts';
import type { CodecChoice, CodecName } from '../codec/types.ts';
import type { MicrobatchRows } from '../data/types.ts';
import type { DispatchTiming } from '../engine/index.ts';
import type { Precision } from '../model/decoder.ts';
import type { Frozen } from '../model/frozen.ts';
import type { DecoderConfig } from '../model/types.ts';
import type { ScheduleChange } from '../optim/index.ts';
import type { OptimizerSettings } from '../optim/types.ts';
import type { DrawSettings } from './drawing.ts';

/** What joining needs to know about this device. `problem` is null when it may compute. */
export interface DeviceReport {
  readonly name: string;
  readonly isSoftware: boolean;
  readonly features: readonly string[];
  /** Tokens per second of the known-answer model's training step: a first guess of this peer's speed. */
  readonly probeTokensPerSecond: number;
  readonly problem: Problem | null;
}

/** Trouble as a person meets it: what happened, and what to do. */
export interface Problem {
  readonly code: string;
  readonly message: string;
  readonly whatToDo: string;
}

export interface TrainerSettings {
  readonly model: DecoderConfig;
  readonly contextLength: number;
  readonly rowsPerMicrobatch: number;
  readonly optimizer: OptimizerSettings;
  readonly steps: number;
  /** Seeds the initial weights and dropout. */
  readonly seed: number;
  /** Of contributions and updates; `auto`: whoever asks for them says which. Default `fp32`. */
  readonly codec?: CodecChoice;
  /**
   * Steps that each device takes alone in one of the room's, with AdamW on its own share of the batch; the room's step is then the
   * mean of their changes, with outer momentum. Default 1: the room's step is AdamW's.
   */
  readonly localSteps?: number;
  /** Share of each target that is spread evenly over the vocabulary while training; evaluations are without it. Default 0. */
  readonly labelSmoothing?: number;
  /** Default: nothing. */
  readonly frozen?: Frozen;
  /** Default `f32`; `mixed` is used where the GPU has f16 and gets a known answer right with it. */
  readonly precision?: Precision;
  /** Rows come with `documentStarts`, and no position sees what is before its document's. Default: no. */
  readonly keepDocumentsApart?: boolean;
  /** Layers are computed again on the way back when activations would take more; default: what one buffer may hold. */
  readonly activationBudgetBytes?: number;
}

export interface GradientJob {
  readonly assignment: string;
  readonly step: number;
  /** (index in the step's batch, its rows) */
  readonly microbatches: readonly { readonly index: number; readonly rows: MicrobatchRows }[];
  /** Of the run's schedule so far: local steps follow it. Default: none. */
  readonly changes?: readonly ScheduleChange[];
}

/**
 * Sums, never means: the coordinator divides once by the weight of the whole batch. With local steps losses are those of the weights
 * that each step began with.
 */
export interface GradientResult {
  readonly assignment: string;
  readonly step: number;
  readonly lossSum: number;
  readonly weightSum: number;
  readonly computeMs: number;
  readonly tokens: number;
  readonly cancelled: boolean;
}

export interface CommitResult {
  /** The step that was applied, from 0; the replica is now at step + 1. */
  readonly step: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** False when loss or gradients were not finite: nothing was applied. */
  readonly applied: boolean;
  readonly replicaHash: string;
  /** Encoded update for the other peers; null when none was asked for or nothing was applied. */
  readonly update: ArrayBuffer | null;
  /** The step's gradient sum, not normalised, in the update's codec, or a finer one: what the weights were changed by. Null like `update`. */
  readonly gradient: ArrayBuffer | null;
}

export interface CommitOptions {
  readonly encodeUpdate: boolean;
  /** For a successor, which follows the moments by it. */
  readonly encodeGradient: boolean;
  /** Of update and gradient. Default: the run's, or `fp32` where that is `auto`. */
  readonly codec?: CodecName;
  /** Of the run's schedule so far; this step's learning rate follows from them. Default: none. */
  readonly changes?: readonly ScheduleChange[];
}

/** What a coordinator made its update of: enough for a successor to take its master state along. */
export interface FollowedStep {
  /** `CommitResult.gradient` of the step. */
  readonly gradient: ArrayBuffer;
  /** What the coordinator divided it by. */
  readonly weightSum: number;
  readonly learningRate: number;
}

/** What a coordinator has beside the replica: f32, by the parameter layout, padding included. */
export type MasterPart = 'firstMoments' | 'secondMoments' | 'masterWeights';

type StateSettings = Pick<TrainerSettings, 'codec' | 'localSteps'>;

export function hasLocalSteps({ localSteps = 1 }: StateSettings): boolean {
  return localSteps > 1;
}

/** Otherwise updates are the new weights themselves, and the replica is the master's. */
export function hasMasterWeights(settings: StateSettings): boolean {
  return (settings.codec ?? 'fp32') !== 'fp32';
}

/** Of what may come from other peers: contributions, updates, and with them sums for a successor. */
export function codecsOf({ codec = 'fp32' }: StateSettings): readonly CodecName[] {
  const sent: readonly CodecName[] = codec === 'auto' ? ['fp32', 'int8', 'int2'] : [codec];
  return [...new Set([...sent, ...sent.map(sumCodecOf)])];
}

export function masterPartsOf(settings: StateSettings): readonly MasterPart[] {
  const moments: readonly MasterPart[] = hasLocalSteps(settings) ? ['firstMoments'] : ['firstMoments', 'secondMoments'];
  return hasMasterWeights(settings) ? [...moments, 'masterWeights'] : moments;
}

export interface SampleRequest extends DrawSettings {
  readonly promptIds: readonly number[];
  readonly maxNewTokens: number;
  readonly seed: number;
  /** The reply ends with the first of them that is drawn. Default: none. */
  readonly stopIds?: readonly number[];
  /** Names it for `stopSample`. */
  readonly sample?: string;
  /** `KeptWeights.id`. Default: the replica, as it is at each token. */
  readonly weights?: number;
}

export type SampleEnd = 'length' | 'stop-id' | 'stopped';

export interface SampleResult {
  /** What was drawn, a stop id included. */
  readonly ids: readonly number[];
  readonly end: SampleEnd;
  /** From the request to the last token, the prompt's computation included. */
  readonly tokensPerSecond: number;
  /** Updates that the weights had had at the first token and at the last. */
  readonly fromStep: number;
  readonly toStep: number;
}

/** A copy of the replica that this device keeps to sample from. */
export interface KeptWeights {
  readonly id: number;
  /** Updates that they have had. */
  readonly step: number;
  readonly bytes: number;
}

export interface TrainerInfo {
  readonly parameterCount: number;
  readonly flatElements: number;
  readonly gpuBytes: number;
  readonly dispatchesPerMicrobatch: number;
  /** What this device computes with, which may be `f32` where `mixed` was asked for. */
  readonly precision: Precision;
}

export interface ComparedKernel {
  /** The op and the parameters it reads. */
  readonly op: string;
  /** ‖GPU − reference‖ / ‖reference‖, of its worst output. */
  readonly relativeError: number;
}

export interface Trainer {
  /** Opens the GPU, checks a known answer forward and backward, and probes the speed. */
  check(): Promise<DeviceReport>;
  /** Plans the run. Weights are undefined until one of the three calls below. */
  prepare(settings: TrainerSettings): Promise<TrainerInfo>;
  /** Fresh weights from the settings' seed, moments zero. Returns the replica's hash. */
  initialize(): Promise<string>;
  restore(state: MasterState): Promise<string>;
  /** Member: replica at `step`, as `replica()` of a coordinator gave it. Ends following. */
  loadReplica(step: number, bytes: ArrayBuffer): Promise<string>;
  /**
   * Member: the update that takes the replica from `step` to `step + 1`. Returns the new hash. With `followed` the master state
   * takes the step too, all or nothing: where update or gradient are mis-sized or not finite, `CodecError` and nothing has
   * changed. `RangeError` when `followed` is given and this member doesn't follow. Without it, following ends.
   */
  applyUpdate(step: number, bytes: ArrayBuffer, followed?: FollowedStep): Promise<string>;
  /** Coordinator: a range of a part, as it is after `step` updates. Nothing queued before it is missing from it. */
  readMaster(part: MasterPart, offsetBytes: number, byteLength: number): Promise<{ readonly step: number; readonly bytes: ArrayBuffer }>;
  /**
   * Successor: opens what a coordinator has, and follows from the replica's present step, which it returns. It can't lead
   * before it was given all parts.
   */
  beginFollowing(): Promise<number>;
  /**
   * Successor: a range of a part as `readMaster` gave it, when the replica is at that `step` here too; it is taken along from then
   * on. Ranges of a part come in order; `RangeError` for any other, and for another step. `CodecError` for what can't be it.
   * After the last range of all parts this member's master state is the coordinator's, and it can lead.
   */
  writeMaster(step: number, part: MasterPart, offsetBytes: number, bytes: ArrayBuffer): Promise<void>;
  /**
   * Gradient sums of the job's micro-batches, or with local steps the change that they come to, from new to old weights, times the
   * loss weight; the result stays on the GPU until taken, added or overwritten by the next job.
   */
  computeGradients(job: GradientJob): Promise<GradientResult>;
  /** Which op first gave a value that is not finite when this job is computed; null when none did. For when a step failed. */
  explainNonFinite(job: GradientJob): Promise<string | null>;
  /** For debugging: what each dispatch of a micro-batch takes by itself. Gradients on the GPU are garbage after it. */
  kernelTimes(): Promise<readonly DispatchTiming[]>;
  /** For debugging: how far each op of the job's first micro-batch is from its f64 reference, given the same inputs. */
  compareKernels(job: GradientJob): Promise<readonly ComparedKernel[]>;
  /** Stops the job between micro-batches; its result comes back with `cancelled`. Takes effect at once, not in turn. */
  cancel(assignment: string): void;
  /**
   * Member: the last job's contribution, in this codec or the run's. Once for each job: what was dropped goes along with the next.
   */
  takeContribution(assignment: string, codec?: CodecName): Promise<ArrayBuffer>;
  /** Coordinator: starts the step's sum at zero. `RangeError` for a member without a coordinator's moments. */
  beginStep(step: number): Promise<void>;
  /** Coordinator: adds its own last job to the step's sum. */
  addOwnContribution(assignment: string): Promise<void>;
  /** Coordinator: adds another peer's; rejects (throws) mis-sized or non-finite ones, adding nothing. */
  addContribution(step: number, bytes: ArrayBuffer): Promise<void>;
  /** Coordinator: divides by `weightSum`, clips, applies AdamW; with local steps, divides and applies outer momentum. */
  commit(step: number, weightSum: number, options: CommitOptions): Promise<CommitResult>;
  replica(): Promise<{ readonly step: number; readonly bytes: ArrayBuffer; readonly hash: string }>;
  /** `RangeError` for a member without a coordinator's moments. */
  masterState(): Promise<MasterState>;
  /** Gradients of the last committed step's batch loss before clipping, by tensor name (kept on request; command line). */
  namedGradients(step: number, weightSum: number): Promise<ReadonlyMap<string, Float32Array>>;
  /** Mean loss over the scored weight of these rows. */
  evaluate(rows: readonly MicrobatchRows[]): Promise<number>;
  /**
   * Token ids that continue the prompt; `drawn` is called with each as it comes. Takes no turn: it goes on between the other calls, and
   * takes at most a quarter of the GPU from gradients. Where memory for it is missing, it alone fails.
   */
  sample(request: SampleRequest, drawn?: (id: number) => void): Promise<SampleResult>;
  /** Ends the sample after the token it is at; its result comes back `stopped`. Takes effect at once, not in turn. */
  stopSample(sample: string): void;
  /** Copies the replica as it is now. They last until they are dropped, or the run is planned anew. */
  keepWeights(): Promise<KeptWeights>;
  /** Throws `TrainerError` where none are kept as that. */
  dropWeights(id: number): Promise<void>;
  /** Resolves when the GPU is lost. */
  whenLost(): Promise<Problem>;
  dispose(): Promise<void>;
}
