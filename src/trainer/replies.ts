/**
 * Replies under way on one run: each with a cache of its own, that lives as long as the reply; their share of the GPU while others
 * compute; and weights kept aside to reply with later. Drawing is `sampling.ts`'s affair, the cache `decoding.ts`'s.
 *
 * A reply uses the weights as they are at each token, so training goes on under it. What it holds of tokens computed with older
 * weights is computed again soon after they changed (`decoding.ts`). With kept weights all of a reply is of one step.
 */
import { EngineError, partsOf } from '../engine/index.ts';
import type { FlatMemory, Memory } from '../engine/index.ts';
import { flatCopy } from '../optim/index.ts';
import { Decoding } from './decoding.ts';
import { TrainerError, problems } from './errors.ts';
import type { Run } from './run.ts';
import type { TrainerSettings } from './types.ts';
import { checkRequest, sampleTokens } from './sampling.ts';
import type { KeptWeights, SampleRequest, SampleResult } from './types.ts';

/** Between two runs of a reply the GPU is left to a gradient job for so many times what a run takes: at most a quarter goes to replies. */
const restPerRun = 3;

/** What replies are computed on. */
export interface WrittenWith extends Pick<Run, 'engine' | 'layout' | 'weights'> {
  readonly settings: Pick<TrainerSettings, 'model' | 'contextLength'>;
}

export interface RepliesHost {
  /** Updates that the replica has had. */
  readonly step: () => number;
  /** Changes whenever the replica does. */
  readonly revision: () => number;
  /** Whether gradients are being computed. */
  readonly isBusy: () => boolean;
}

interface Kept extends KeptWeights {
  readonly memory: FlatMemory;
  /** Replies under way that use them. */
  users: number;
  isDropped: boolean;
}

export class Replies {
  readonly #run: WrittenWith;
  readonly #host: RepliesHost;
  readonly #underWay = new Map<string, { stopped: boolean }>();
  readonly #kept = new Map<number, Kept>();
  /** By how many tokens a run computes: its time when nothing else delayed it, as far as known. */
  readonly #shortestMs = new Map<number, number>();
  #nextKept = 1;
  #isClosed = false;

  constructor(run: WrittenWith, host: RepliesHost) {
    this.#run = run;
    this.#host = host;
  }

  /** Throws `RangeError` for what can't be sampled, and `TrainerError` where there is no memory for the cache. */
  async sample(request: SampleRequest, drawn: ((id: number) => void) | undefined): Promise<SampleResult> {
    checkRequest(request, this.#run.settings.model.vocab_size);
    const kept = request.weights === undefined ? null : this.#keptAs(request.weights);
    const control = { stopped: false };
    if (request.sample !== undefined) this.#underWay.set(request.sample, control);
    if (kept) kept.users++;
    try {
      return await this.#reply(request, kept, control, drawn);
    } finally {
      if (request.sample !== undefined) this.#underWay.delete(request.sample);
      if (kept) kept.users--;
      if (kept) this.#freeUnused(kept);
    }
  }

  stop(sample: string): void {
    const control = this.#underWay.get(sample);
    if (control) control.stopped = true;
  }

  /** A copy of the replica. Throws `TrainerError` where there is no memory for it. */
  async keep(): Promise<KeptWeights> {
    const { engine, weights } = this.#run;
    const memory = await spare(engine.allocateSpare('kept weights', partsOf(weights).map(({ lengthElements }) => lengthElements)));
    const copy = await flatCopy(engine, 'keep weights', weights, memory);
    copy.run();
    const kept = { id: this.#nextKept++, step: this.#host.step(), bytes: memory.lengthElements * 4 };
    this.#kept.set(kept.id, { ...kept, memory, users: 0, isDropped: false });
    return kept;
  }

  /** Frees them, once no reply uses them any more. */
  drop(id: number): void {
    const kept = this.#keptAs(id);
    kept.isDropped = true;
    this.#freeUnused(kept);
  }

  /** No reply goes on after this: the GPU is closed. */
  close(): void {
    this.#isClosed = true;
    for (const control of this.#underWay.values()) control.stopped = true;
  }

  async #reply(request: SampleRequest, kept: Kept | null, control: { readonly stopped: boolean }, drawn?: (id: number) => void): Promise<SampleResult> {
    const startMs = performance.now();
    const fromStep = kept?.step ?? this.#host.step();
    const decoding = await spare(this.#open(kept?.memory ?? this.#run.weights, kept ? () => 0 : this.#host.revision));
    try {
      const limits = { capacity: decoding.capacity, vocabularySize: this.#run.settings.model.vocab_size };
      const { ids, end } = await sampleTokens(request, limits, (all, start) => decoding.logitsAfter(all, start), {
        ...(drawn && { drawn }),
        isStopped: () => control.stopped,
      });
      const seconds = (performance.now() - startMs) / 1000;
      return { ids, end, tokensPerSecond: seconds > 0 ? ids.length / seconds : 0, fromStep, toStep: kept?.step ?? this.#host.step() };
    } finally {
      await decoding.close();
    }
  }

  #open(weights: Memory, revision: () => number): Promise<Decoding> {
    const { engine, layout, settings } = this.#run;
    return Decoding.open({
      engine,
      model: settings.model,
      layout,
      weights,
      contextLength: settings.contextLength,
      revision,
      turn: (length) => this.#turn(length),
    });
  }

  async #turn(length: number): Promise<() => void> {
    const shortestMs = this.#shortestMs.get(length);
    if (shortestMs !== undefined && this.#host.isBusy()) await new Promise((resolve) => setTimeout(resolve, restPerRun * shortestMs));
    if (this.#isClosed) throw new TrainerError(problems.disposed());
    const startMs = performance.now();
    return () => {
      this.#shortestMs.set(length, Math.min(this.#shortestMs.get(length) ?? Infinity, performance.now() - startMs));
    };
  }

  #keptAs(id: number): Kept {
    const kept = this.#kept.get(id);
    if (kept === undefined || kept.isDropped) throw new TrainerError(problems.keptWeightsGone());
    return kept;
  }

  #freeUnused(kept: Kept): void {
    if (!kept.isDropped || kept.users > 0) return;
    this.#kept.delete(kept.id);
    this.#run.engine.release(kept.memory);
  }
}

/** What is missing for a reply stops nothing else. */
async function spare<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw error instanceof EngineError && error.code === 'out-of-memory' ? new TrainerError(problems.noSpareMemory(error.message), error) : error;
  }
}
