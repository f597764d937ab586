/** A run small enough to train thousands of times: one layer, hidden size 8, a vocabulary of 8, four micro-batches a step. */
import type { CodecChoice } from '../../src/codec/index.ts';
import { corpusBatches, weightOf } from '../../src/data/batches.ts';
import type { MemoryBatchSource } from '../../src/data/types.ts';
import type { ScheduleChange } from '../../src/optim/index.ts';
import type { DecoderConfig } from '../../src/model/types.ts';
import type { TrainerSettings } from '../../src/trainer/types.ts';
import { CpuTrainer } from './cpu-trainer.ts';
import type { GradientMemo, MemorizedGradient } from './cpu-trainer.ts';
import { Random } from './random.ts';

export interface TinyRun {
  readonly settings: TrainerSettings;
  readonly source: MemoryBatchSource;
  readonly tokensPerMicrobatch: number;
  /** Gradients already computed: a pure function of the weights' bits and the micro-batch, so computed once. */
  readonly memo: GradientMemo;
}

const contextLength = 8;
const rowsPerMicrobatch = 1;
const corpusTokens = 160;

const model: DecoderConfig = {
  model_type: 'llama',
  vocab_size: 8,
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 4,
  max_position_embeddings: contextLength,
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  tie_word_embeddings: true,
  initializer_range: 0.1,
  dropout: 0,
};

/** Weights, text and batches all depend on the seed. Micro-batches weigh differently, so that a mean of means would show. */
export function tinyRun(seed: number, steps: number, microbatchesPerStep = 4): TinyRun {
  const random = new Random(seed);
  const settings: TrainerSettings = {
    model,
    contextLength,
    rowsPerMicrobatch,
    steps,
    seed,
    optimizer: {
      learningRate: 0.01,
      minLearningRate: 0.001,
      warmupSteps: 3,
      schedule: 'cosine',
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
      weightDecay: 0.1,
      gradientClip: 1,
    },
  };
  // A walk over the vocabulary that mostly goes up by one: something to learn, and noise.
  const tokens = new Uint32Array(corpusTokens);
  for (let at = 1; at < tokens.length; at += 1) {
    tokens[at] = random.chance(0.8) ? ((tokens[at - 1] ?? 0) + 1) % model.vocab_size : random.below(model.vocab_size);
  }
  const source = corpusBatches(tokens, {
    rowsPerStep: microbatchesPerStep * rowsPerMicrobatch,
    rowsPerMicrobatch,
    contextLength,
    order: 'shuffled',
    seed,
    validationShare: 0.1,
  });
  return { settings, source: unevenlyScored(source), tokensPerMicrobatch: rowsPerMicrobatch * contextLength, memo: new Map() };
}

/** Losses of the run as one trainer makes them, with no room around it: what every room must reproduce. */
export async function undisturbedLosses(run: TinyRun): Promise<readonly number[]> {
  const alone = await LoneRun.open(run, []);
  for (let step = 0; step < run.settings.steps; step += 1) await alone.train();
  return alone.losses;
}

/** The same for the loss on the held-out part, after each step. */
export async function undisturbedValidations(run: TinyRun): Promise<readonly number[]> {
  const alone = await LoneRun.open(run, []);
  const losses: number[] = [];
  for (let step = 0; step < run.settings.steps; step += 1) {
    await alone.train();
    losses.push(await alone.validate());
  }
  return losses;
}

/** One trainer and nobody else. */
class LoneRun {
  readonly losses: number[] = [];
  readonly #run: TinyRun;
  readonly #trainer: CpuTrainer;
  readonly #changes: readonly ScheduleChange[];

  private constructor(run: TinyRun, trainer: CpuTrainer, changes: readonly ScheduleChange[]) {
    this.#run = run;
    this.#trainer = trainer;
    this.#changes = changes;
  }

  static async open(run: TinyRun, changes: readonly ScheduleChange[]): Promise<LoneRun> {
    const trainer = new CpuTrainer(run.settings, run.memo);
    await trainer.initialize();
    return new LoneRun(run, trainer, changes);
  }

  async train(): Promise<void> {
    const { source } = this.#run;
    const trainer = this.#trainer;
    const step = this.losses.length;
    await trainer.beginStep(step);
    const microbatches = Array.from({ length: source.microbatchesPerStep }, (_, index) => ({ index, rows: source.draw(step, index) }));
    const { lossSum, weightSum } = await trainer.computeGradients({ assignment: 'all', step, microbatches, changes: this.#changes });
    await trainer.addOwnContribution('all');
    await trainer.commit(step, weightSum, { encodeUpdate: false, encodeGradient: false, changes: this.#changes });
    this.losses.push(lossSum / weightSum);
  }

  validate(): Promise<number> {
    return this.#trainer.evaluate(this.#run.source.validation);
  }
}

/** The run undisturbed, but with the changes that its owner has made: each variant is trained as far as it is asked for. */
export class ChangedRun {
  readonly #run: TinyRun;
  readonly #variants = new Map<string, LoneRun>();

  constructor(run: TinyRun) {
    this.#run = run;
  }

  async lossAt(step: number, changes: readonly ScheduleChange[]): Promise<number | undefined> {
    const key = JSON.stringify(changes);
    const variant = this.#variants.get(key) ?? (await LoneRun.open(this.#run, changes));
    this.#variants.set(key, variant);
    while (variant.losses.length <= step) await variant.train();
    return variant.losses[step];
  }
}

/** The same run with what goes over the network in another codec. */
export function inCodec(run: TinyRun, codec: CodecChoice): TinyRun {
  return { ...run, settings: { ...run.settings, codec } };
}

interface BaseRun {
  readonly run: TinyRun;
  readonly undisturbed: readonly number[];
  readonly memo: Map<string, MemorizedGradient>;
}

const baseRuns = new Map<string, Promise<BaseRun>>();
const differentRuns = 8;

async function baseRun(seed: number, steps: number, localSteps: number): Promise<BaseRun> {
  const memo = new Map<string, MemorizedGradient>();
  const { settings, ...tiny } = tinyRun(seed, steps);
  const run = { ...tiny, settings: { ...settings, localSteps }, memo };
  return { run, undisturbed: await undisturbedLosses(run), memo };
}

/**
 * For thousands of rooms: one of a few runs, whose undisturbed gradients are computed once. What a room computes besides is
 * forgotten with it.
 */
export async function sharedRun(seed: number, steps: number, localSteps: number): Promise<{ readonly run: TinyRun; readonly undisturbed: readonly number[] }> {
  const which = seed % differentRuns;
  const key = `${which} ${steps} ${localSteps}`;
  const base = baseRuns.get(key) ?? baseRun(which, steps, localSteps);
  baseRuns.set(key, base);
  const { run, undisturbed, memo } = await base;
  const own = new Map<string, MemorizedGradient>();
  return { run: { ...run, memo: { get: (name) => memo.get(name) ?? own.get(name), set: (name, value) => own.set(name, value) } }, undisturbed };
}

/** Micro-batch i does not score its first i positions. */
function unevenlyScored(source: MemoryBatchSource): MemoryBatchSource {
  return scoredBy(source, (_step, index, position) => (position < index ? 0 : 1));
}

/** With loss weights multiplied by `share`. */
export function scoredBy(source: MemoryBatchSource, share: (step: number, index: number, position: number) => number): MemoryBatchSource {
  const draw = (step: number, index: number) => {
    const rows = source.draw(step, index);
    return { ...rows, lossWeights: rows.lossWeights.map((weight, position) => weight * share(step, index, position)) };
  };
  const weightOfMicrobatch = (step: number, index: number) => weightOf(draw(step, index));
  const weightOfStep = (step: number) =>
    Array.from({ length: source.microbatchesPerStep }, (_, index) => weightOfMicrobatch(step, index)).reduce((sum, weight) => sum + weight, 0);
  return { ...source, draw, weightOfMicrobatch, weightOfStep };
}
