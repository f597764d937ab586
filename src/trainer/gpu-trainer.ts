/**
 * The trainer on WebGPU: keeps the order of calls, checks that they fit the state, and turns what fails on the GPU into
 * problems that a person can act on. The work itself is in `gradients.ts`, `step-update.ts`, `following.ts` and `replies.ts`.
 *
 * Calls run one after another in the order made. `cancel`, `stopSample`, `whenLost` and `dispose` act at once; `sample` and
 * `keepWeights` take their turn once and then go on between the other calls, so that they never hold them up.
 */
import { codecOfBytes, fp32Codec } from '../codec/index.ts';
import type { CodecName } from '../codec/index.ts';
import type { MasterState } from '../checkpoint/types.ts';
import type { MicrobatchRows } from '../data/types.ts';
import { EngineError } from '../engine/index.ts';
import type { DispatchTiming } from '../engine/index.ts';
import { initialWeights } from '../model/initial.ts';
import { checkDevice } from './device-check.ts';
import type { DeviceCheckOptions } from './device-check.ts';
import { ContributionEncoder, EncodedAdder } from './encoded-gradients.ts';
import { TrainerError, asTrainerError, problems } from './errors.ts';
import { Failure } from './failure.ts';
import { Following } from './following.ts';
import { computeGradientJob, sumLosses } from './gradients.ts';
import { compareKernels, firstNonFinite } from './inspection.ts';
import { checkDocuments, checkShape } from './microbatch.ts';
import { SerialQueue } from './queue.ts';
import { Replies } from './replies.ts';
import { openRun } from './run.ts';
import type { Run } from './run.ts';
import { StepUpdate } from './step-update.ts';
import type {
  CommitOptions,
  CommitResult,
  ComparedKernel,
  DeviceReport,
  FollowedStep,
  GradientJob,
  GradientResult,
  KeptWeights,
  MasterPart,
  Problem,
  SampleRequest,
  SampleResult,
  Trainer,
  TrainerInfo,
  TrainerSettings,
} from './types.ts';
import { codecsOf, hasMasterWeights, masterPartsOf } from './types.ts';

export interface GpuTrainerOptions extends Pick<DeviceCheckOptions, 'nameDevice' | 'engineOptions'> {
  /** `navigator.gpu` or Dawn's; null where there is none: `check` then says so. */
  readonly gpu: GPU | null;
}

/**
 * Opens nothing until `check` or `prepare`. Calls that don't fit the state (wrong step, wrong assignment, wrong size)
 * throw `RangeError` or `CodecError`; what fails on the GPU throws `TrainerError`. After a loss of the GPU every call
 * throws, and a new trainer is needed.
 */
export function createGpuTrainer(options: GpuTrainerOptions): Trainer {
  return new GpuTrainer(options);
}

const bytesPerElement = 4;

class GpuTrainer implements Trainer {
  readonly #options: GpuTrainerOptions;
  readonly #queue = new SerialQueue();
  /** What changes the replica or the master state, in its turn of the other queue, and reads of it between two jobs. */
  readonly #changes = new SerialQueue();
  readonly #failure = new Failure();
  readonly #lost: Promise<Problem>;
  #reportLoss: (problem: Problem) => void = () => undefined;
  #run: Run | null = null;
  #replies: Replies | null = null;
  /** Sum and optimizer of a coordinator or its successor; other members never need their memory. Kept once it is there. */
  #update: StepUpdate | null = null;
  /** Of a member, from its first contribution on. */
  #encoder: ContributionEncoder | null = null;
  /** Of updates in a lossy codec to the replica, from the first one on. */
  #changesOfReplica: EncodedAdder | null = null;
  /** Whose the moments are: a member has none, though there may be old ones on the GPU. */
  #standing: 'member' | 'coordinator' | Following = 'member';
  /** Updates that the weights have had; null while they are undefined. */
  #replicaStep: number | null = null;
  /** Counts changes of the weights. */
  #revision = 0;
  /** Whose gradient sums are on the GPU. */
  #held: { readonly assignment: string; readonly step: number } | null = null;
  /** Jobs under way or waiting, by assignment. */
  readonly #jobs = new Map<string, { cancelled: boolean }>();

  constructor(options: GpuTrainerOptions) {
    this.#options = options;
    this.#lost = new Promise((resolve) => {
      this.#reportLoss = resolve;
    });
  }

  check(): Promise<DeviceReport> {
    return this.#turn(() => checkDevice(this.#options.gpu, this.#options));
  }

  prepare(settings: TrainerSettings): Promise<TrainerInfo> {
    return this.#turn(async () => {
      const { gpu, engineOptions } = this.#options;
      if (gpu === null) throw new TrainerError(problems.noWebGpu(''));
      this.#close();
      const run = await openRun(gpu, settings, engineOptions);
      this.#run = run;
      this.#replies = new Replies(run, {
        step: () => this.#replicaStep ?? 0,
        revision: () => this.#revision,
        isBusy: () => this.#jobs.size > 0,
      });
      void run.engine.lost.then(({ message }) => {
        if (this.#run !== run) return;
        const problem = problems.gpuLost(message);
        this.#failure.fail(new TrainerError(problem));
        this.#reportLoss(problem);
      });
      return {
        parameterCount: run.layout.parameterCount,
        flatElements: run.layout.totalElements,
        gpuBytes: run.engine.counters.bufferBytes,
        dispatchesPerMicrobatch: run.training.stats.dispatchesPerRun,
        precision: run.mixed ? 'mixed' : 'f32',
      };
    });
  }

  initialize(): Promise<string> {
    return this.#changingTurn(async () => {
      const { settings, local } = this.#prepared();
      const weights = initialWeights(settings.model, settings.seed);
      this.#update?.clearMoments();
      if (hasMasterWeights(settings)) (await this.#openUpdate()).setMaster(weights);
      this.#standing = 'coordinator';
      local?.forget();
      this.#forgetDropped();
      return this.#setReplica(0, weights);
    });
  }

  restore(state: MasterState): Promise<string> {
    return this.#changingTurn(async () => {
      const { layout, settings } = this.#prepared();
      const bytes = layout.totalElements * bytesPerElement;
      const parts = masterPartsOf(settings).map((part) => [part, partOf(state, part)] as const);
      for (const [part, { byteLength: given }] of [['weights', state.weights] as const, ...parts]) {
        if (given !== bytes) throw new RangeError(`the saved ${part} have ${given} bytes, and this model's have ${bytes}`);
      }
      const update = await this.#openUpdate();
      for (const [part, values] of parts) update.write(part, 0, new Float32Array(values));
      this.#standing = 'coordinator';
      this.#forgetDropped();
      return this.#setReplica(state.step, new Float32Array(state.weights));
    });
  }

  loadReplica(step: number, bytes: ArrayBuffer): Promise<string> {
    return this.#changingTurn(() => {
      const { layout } = this.#prepared();
      const weights = fp32Codec.decode(bytes, layout.totalElements, 'replica');
      this.#standing = 'member';
      this.#forgetDropped();
      return this.#setReplica(step, weights);
    });
  }

  applyUpdate(step: number, bytes: ArrayBuffer, followed?: FollowedStep): Promise<string> {
    return this.#changingTurn(async () => {
      const run = this.#atStep(step);
      const following = followed && this.#following();
      const { engine, layout, settings } = run;
      const isExact = codecOfBytes(bytes, layout.totalElements, 'update', codecsOf(settings)) === fp32Codec;
      const weights = isExact ? fp32Codec.decode(bytes, layout.totalElements, 'update') : null;
      this.#changesOfReplica ??= new EncodedAdder(engine, layout, run.weights, codecsOf(settings));
      const change = isExact ? null : await this.#changesOfReplica.prepare(bytes, 'update');
      if (following) await following.take(step, followed);
      else this.#standing = 'member';
      if (weights !== null) return this.#setReplica(step + 1, weights);
      change?.();
      this.#reached(step + 1);
      this.#held = null;
      return run.hash();
    });
  }

  /** Not in its turn, since work takes long and doesn't change what is read. */
  async readMaster(part: MasterPart, offsetBytes: number, byteLength: number): Promise<{ readonly step: number; readonly bytes: ArrayBuffer }> {
    return this.#changes.run(() =>
      this.#failure.guard(
        explained(async () => {
          if (this.#failure.reason !== null) throw this.#failure.reason;
          const { step } = this.#withReplica();
          const leading = await this.#leading();
          return { step, bytes: await leading.read(part, offsetBytes / bytesPerElement, byteLength / bytesPerElement) };
        }),
      ),
    );
  }

  beginFollowing(): Promise<number> {
    return this.#turn(async () => {
      const { run, step } = this.#withReplica();
      this.#standing = new Following(await this.#openUpdate(), run.layout, masterPartsOf(run.settings));
      return step;
    });
  }

  writeMaster(step: number, part: MasterPart, offsetBytes: number, bytes: ArrayBuffer): Promise<void> {
    return this.#turn(async () => {
      this.#atStep(step);
      this.#following().write(part, offsetBytes, bytes);
    });
  }

  computeGradients(job: GradientJob): Promise<GradientResult> {
    const control = { cancelled: false };
    this.#jobs.set(job.assignment, control);
    const computed = this.#turn(async () => {
      const { engine, training, gradients, lossSum, mixed, local, settings } = this.#atStep(job.step);
      for (const { rows } of job.microbatches) checkShape(rows, settings);
      this.#held = null;
      const machine = { engine, program: training, gradients, lossSum, mixed, seed: settings.seed };
      const isCancelled = (): boolean => control.cancelled;
      const result = await (local === null ? computeGradientJob(machine, job, isCancelled) : local.compute(machine, job, isCancelled));
      if (!result.cancelled) this.#held = { assignment: job.assignment, step: job.step };
      return result;
    });
    return computed.finally(() => this.#jobs.delete(job.assignment));
  }

  explainNonFinite(job: GradientJob): Promise<string | null> {
    return this.#turn(() => {
      const run = this.#prepared();
      for (const { rows } of job.microbatches) checkShape(rows, run.settings);
      return firstNonFinite(run, job);
    });
  }

  kernelTimes(): Promise<readonly DispatchTiming[]> {
    return this.#turn(() => {
      const { training } = this.#withReplica().run;
      this.#held = null;
      return training.timings();
    });
  }

  compareKernels(job: GradientJob): Promise<readonly ComparedKernel[]> {
    return this.#turn(() => {
      const run = this.#prepared();
      for (const { rows } of job.microbatches) checkShape(rows, run.settings);
      return compareKernels(run, job);
    });
  }

  cancel(assignment: string): void {
    const job = this.#jobs.get(assignment);
    if (job) job.cancelled = true;
  }

  takeContribution(assignment: string, codec?: CodecName): Promise<ArrayBuffer> {
    return this.#turn(async () => {
      const run = this.#prepared();
      this.#checkHeld(assignment);
      this.#encoder ??= new ContributionEncoder(run.engine, run.layout, run.gradients);
      return this.#encoder.encode(codec ?? run.codec);
    });
  }

  beginStep(step: number): Promise<void> {
    return this.#turn(async () => {
      this.#atStep(step);
      (await this.#leading()).begin(step);
      this.#standing = 'coordinator';
    });
  }

  addOwnContribution(assignment: string): Promise<void> {
    return this.#turn(async () => {
      const held = this.#checkHeld(assignment);
      (await this.#leading()).addOwn(held.step);
    });
  }

  addContribution(step: number, bytes: ArrayBuffer): Promise<void> {
    return this.#turn(async () => {
      await (await this.#leading()).add(step, bytes);
    });
  }

  commit(step: number, weightSum: number, options: CommitOptions): Promise<CommitResult> {
    return this.#changingTurn(async () => {
      this.#atStep(step);
      const leading = await this.#leading();
      const result = await leading.commit(step, weightSum, options);
      if (result.applied) this.#reached(step + 1);
      return { step, ...result };
    });
  }

  replica(): Promise<{ readonly step: number; readonly bytes: ArrayBuffer; readonly hash: string }> {
    return this.#turn(async () => {
      const { run, step } = this.#withReplica();
      const hash = await run.hash();
      return { step, hash, bytes: fp32Codec.encode(new Float32Array(await run.engine.read(run.weights))) };
    });
  }

  masterState(): Promise<MasterState> {
    return this.#turn(async () => {
      const { run, step } = this.#withReplica();
      const leading = await this.#leading();
      const parts = await Promise.all(masterPartsOf(run.settings).map(async (part) => [part, await leading.read(part)] as const));
      const none = new ArrayBuffer(0);
      return { step, weights: await run.engine.read(run.weights), firstMoments: none, secondMoments: none, ...Object.fromEntries(parts) };
    });
  }

  namedGradients(step: number, weightSum: number): Promise<ReadonlyMap<string, Float32Array>> {
    return this.#turn(async () => {
      const { layout } = this.#prepared();
      const sums = await (await this.#leading()).readSum(step);
      const mean = sums.map((value) => value / weightSum);
      return new Map(
        layout.entries.map(({ name, offsetElements, lengthElements }) => [
          name,
          mean.slice(offsetElements, offsetElements + lengthElements),
        ]),
      );
    });
  }

  evaluate(rows: readonly MicrobatchRows[]): Promise<number> {
    return this.#turn(async () => {
      const { run } = this.#withReplica();
      for (const each of rows) checkDocuments(each, run.settings);
      const { lossSum, weightSum } = await sumLosses(run, rows);
      if (!(weightSum > 0)) throw new RangeError('nothing to evaluate: these rows have no scored position');
      return lossSum / weightSum;
    });
  }

  sample(request: SampleRequest, drawn?: (id: number) => void): Promise<SampleResult> {
    return this.#between((replies) => replies.sample(request, drawn));
  }

  stopSample(sample: string): void {
    this.#replies?.stop(sample);
  }

  keepWeights(): Promise<KeptWeights> {
    return this.#between((replies) => replies.keep());
  }

  dropWeights(id: number): Promise<void> {
    return this.#between((replies) => {
      replies.drop(id);
      return Promise.resolve();
    });
  }

  whenLost(): Promise<Problem> {
    return this.#lost;
  }

  dispose(): Promise<void> {
    this.#failure.fail(new TrainerError(problems.disposed()));
    this.#close();
    return Promise.resolve();
  }

  /** What waits for its turn, so that there are weights, and then holds up nobody. */
  async #between<T>(work: (replies: Replies) => Promise<T>): Promise<T> {
    const replies = await this.#turn(() => {
      this.#withReplica();
      return Promise.resolve(this.#replies);
    });
    if (replies === null) throw new TrainerError(problems.disposed());
    return this.#failure.guard(explained(() => work(replies)));
  }

  /** In its turn, unless the trainer has ended meanwhile. */
  #turn<T>(work: () => Promise<T>): Promise<T> {
    return this.#queue.run(() => {
      if (this.#failure.reason !== null) throw this.#failure.reason;
      return this.#failure.guard(explained(work));
    });
  }

  /** The same for what changes the replica or the master state. */
  #changingTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turn(() => this.#changes.run(work));
  }

  #prepared(): Run {
    if (this.#run === null) throw new RangeError('the trainer is not prepared');
    return this.#run;
  }

  #withReplica(): { readonly run: Run; readonly step: number } {
    const run = this.#prepared();
    if (this.#replicaStep === null) throw new RangeError('the trainer has no weights yet');
    return { run, step: this.#replicaStep };
  }

  #atStep(step: number): Run {
    const replica = this.#withReplica();
    if (replica.step !== step) throw new RangeError(`the replica is at step ${replica.step}, not ${step}`);
    return replica.run;
  }

  #checkHeld(assignment: string): { readonly step: number } {
    if (this.#held?.assignment !== assignment) throw new RangeError(`no gradients of assignment ${assignment} are here`);
    return this.#held;
  }

  async #openUpdate(): Promise<StepUpdate> {
    this.#update ??= await StepUpdate.open(this.#prepared());
    return this.#update;
  }

  /** Where the moments belong to the replica. */
  #leading(): Promise<StepUpdate> {
    const standing = this.#standing;
    if (standing === 'coordinator' || (standing instanceof Following && standing.isWhole)) return this.#openUpdate();
    throw new RangeError("this member has no coordinator's master state: it can neither lead nor be saved");
  }

  #following(): Following {
    if (this.#standing instanceof Following) return this.#standing;
    throw new RangeError('this member follows no coordinator');
  }

  #setReplica(step: number, weights: Float32Array<ArrayBuffer>): Promise<string> {
    const run = this.#prepared();
    run.engine.write(run.weights, weights);
    this.#reached(step);
    this.#held = null;
    return run.hash();
  }

  #reached(step: number): void {
    this.#replicaStep = step;
    this.#revision++;
  }

  /** What a codec dropped of gradients of other weights. */
  #forgetDropped(): void {
    this.#encoder?.forget();
  }

  #close(): void {
    const run = this.#run;
    this.#run = null;
    this.#replies?.close();
    this.#replies = null;
    this.#update = null;
    this.#encoder = null;
    this.#changesOfReplica = null;
    this.#standing = 'member';
    this.#replicaStep = null;
    this.#held = null;
    run?.engine.destroy();
  }
}

/** What fails on the GPU, as a problem. Mistakes of the caller stay what they are. */
async function explained<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof EngineError ? asTrainerError(error) : error;
  }
}

/** A run that had no master weights of its own had the replica. */
function partOf(state: MasterState, part: MasterPart): ArrayBuffer {
  return part === 'masterWeights' ? (state.masterWeights ?? state.weights) : state[part];
}
