/**
 * `cotrain train`: a run alone, through the same trainer, batches and model as a room. Reads the files, drives the steps,
 * writes the folder. Computes nothing itself.
 */
import { createWriteStream } from 'node:fs';
import { basename, join } from 'node:path';
import { once } from 'node:events';
import { bitsPerByteOf, bytesPerScoredToken, perplexityOf } from '../data/bits-per-byte.ts';
import { openBatches } from '../data/batches.ts';
import type { CorpusIndex } from '../data/corpus.ts';
import { textProblem } from '../data/presets.ts';
import { checkTokenRows } from '../data/token-rows.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { BatchSource } from '../data/types.ts';
import type { MasterState } from '../checkpoint/types.ts';
import { parseConfig } from '../model/config.ts';
import { frozenProblem } from '../model/frozen.ts';
import type { DecoderConfig } from '../model/types.ts';
import type { GradientJob, Trainer, TrainerInfo } from '../trainer/types.ts';
import { precisionNotice, rowsOfStep } from '../session/run.ts';
import { debuggingAt } from './debug.ts';
import type { DebugLevel, Debugging } from './debug.ts';
import { CliError } from './errors.ts';
import { copyTokenizer, findModel, makeFolder, readText, readWeights, writeGradients, writeModel, writeTokenizer } from './model-folder.ts';
import type { ModelSource } from './model-folder.ts';
import { readRunState, writeRunState } from './run-state.ts';
import type { Progress } from './progress.ts';
import { parseRunFile } from './run-file.ts';
import type { RunFile } from './run-file.ts';
import { nameOf, readTrainingData } from './training-data.ts';
import type { TrainingData } from './training-data.ts';

export interface TrainOptions {
  /** Hugging Face folder; wins over the run file's `model`. */
  readonly model: string | null;
  /** Files, folders, addresses and data sets of a hub. */
  readonly data: readonly string[];
  /** Of tables, the column that is the text; null: the one that is recognised. */
  readonly column: string | null;
  readonly run: string;
  readonly out: string;
  readonly saveGradients: number | null;
  readonly debug: DebugLevel;
  /** A run file that `saveRun` wrote: its weights, optimizer and step are gone on with. */
  readonly resume?: string | undefined;
  readonly saveRun?: string | undefined;
}

export interface TrainHost {
  readonly openTrainer: () => Trainer;
  readonly progress: TrainProgress;
  /** One line for a person, on stderr. */
  readonly warn: (line: string) => void;
  /** True once the person asked to stop. */
  readonly isInterrupted: () => boolean;
}

/** One line of metrics.jsonl. `loss` is the batch's weighted mean before the update, `tokens` are this step's. */
interface StepMetrics {
  readonly step: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly lr: number;
  readonly tokens: number;
  readonly ms: number;
  /** After the update; at every `evalEvery`-th step and the last. */
  readonly validationLoss?: number;
  /** Of the validation loss; bits per byte where the text's bytes are known. */
  readonly validationPerplexity?: number;
  readonly validationBitsPerByte?: number;
}

export interface TrainProgress {
  begin(steps: number, parameterCount: number): void;
  step(measured: StepMetrics): void;
  end(): void;
}

interface Prepared {
  readonly run: PlannedRun;
  readonly config: DecoderConfig;
  readonly source: ModelSource;
  readonly batches: BatchSource;
  /** Of the validation rows; null where nothing knows. */
  readonly bytesPerToken: number | null;
  /** Made from the text; null when the folder's travels along, or there is none. */
  readonly tokenizer: Tokenizer | null;
  /** Nothing can be drawn after it. */
  readonly close: () => Promise<void>;
}

/** With what follows from the data. */
type PlannedRun = RunFile & Required<Pick<RunFile, 'keepDocumentsApart' | 'rowLayout'>>;

/** Share of a text that is held out when validation is asked for. */
const validationShare = 0.1;
/** Inside --out: the model with the lowest validation loss. */
const bestFolder = 'best';

/** A run's figures beside the bar. */
export function trainProgress(progress: Progress): TrainProgress {
  let validation: readonly string[] = [];
  return {
    begin(steps, parameterCount) {
      validation = [];
      progress.begin({ task: 'train', unit: 'steps', total: steps, title: `${parameterCount.toLocaleString('en')} parameters, ${steps} steps` });
    },
    step(measured) {
      const { step, loss, tokens, ms, validationLoss } = measured;
      if (validationLoss !== undefined) validation = [`validation ${validationLoss.toFixed(4)}`];
      progress.advance(step + 1, [`loss ${loss.toFixed(4)}`, ...validation, `${Math.round((tokens * 1000) / ms)} tokens/s`], { ...measured });
    },
    end() {
      progress.end();
    },
  };
}

/** Throws `CliError` (and errors of data, config and trainer) with one line that a person can act on. */
export async function train(options: TrainOptions, host: TrainHost): Promise<void> {
  const prepared = await prepare(options, host);
  try {
    await trainOn(prepared, options, host);
  } finally {
    await prepared.close();
  }
}

async function trainOn(prepared: Prepared, options: TrainOptions, host: TrainHost): Promise<void> {
  const { run, config, source } = prepared;
  if (options.saveGradients !== null && options.saveGradients >= run.steps) {
    throw new CliError(`--save-gradients ${options.saveGradients}: the run has steps 0 to ${run.steps - 1}`);
  }
  if (options.saveGradients !== null && run.localSteps > 1) throw new CliError('--save-gradients: a step of several local ones has no gradient');
  const resumed = options.resume === undefined ? null : await readRunState(options.resume, config);
  if (resumed !== null && resumed.step >= run.steps) throw new CliError(`--resume ${options.resume ?? ''}: is at step ${resumed.step}, and the run has ${run.steps} steps`);
  const weights = source.folder === null || resumed !== null ? null : await readWeights(source.folder, config);
  await makeFolder(options.out);
  const trainer = host.openTrainer();
  try {
    const info = await start(trainer, run, config, resumed ?? beginningWith(weights));
    const differs = precisionNotice(run.precision, info.precision);
    if (differs !== null) host.warn(differs);
    host.progress.begin(run.steps, info.parameterCount);
    const debugging = debuggingAt(options.debug, trainer, host.warn);
    const firstStep = resumed?.step ?? 0;
    await debugging.begin(info, () => jobOfStep(prepared, firstStep));
    await runSteps(trainer, prepared, options, host, debugging, firstStep);
    if (options.saveRun !== undefined) await writeRunState(options.saveRun, await trainer.masterState(), config, prepared.tokenizer?.toHuggingFace(config.max_position_embeddings) ?? null);
    await writeFolder(trainer, prepared, options.out);
  } finally {
    host.progress.end();
    await trainer.dispose();
  }
}

async function prepare(options: TrainOptions, host: TrainHost): Promise<Prepared> {
  const { run, unknownKeys } = parseRunFile(await readText(options.run), options.run);
  for (const key of unknownKeys) host.warn(`${options.run}: nothing reads the key “${key}”`);
  const source = await findModel(options.model, run.model, options.run);
  const data = await readTrainingData(options.data, {
    folder: source.folder,
    contextLength: run.contextLength,
    rowConfig: () => parseConfig(source.config),
    ...(options.column !== null && { column: options.column }),
    objective: run.objective,
  });
  try {
    return { ...(await planned(options, host, run, source, data)), source, tokenizer: data.madeTokenizer, close: () => data.close() };
  } catch (error) {
    await data.close();
    throw error;
  }
}

async function planned(options: TrainOptions, host: TrainHost, given: RunFile, source: ModelSource, data: TrainingData): Promise<Pick<Prepared, 'run' | 'config' | 'batches' | 'bytesPerToken'>> {
  const { corpus, areRows, documents, largestId } = data;
  const config = areRows ? parseConfig(source.config) : withVocabulary(source.config, data.madeTokenizer?.vocabularySize ?? largestId + 1);
  const rowLayout = given.rowLayout ?? (areRows ? 'single' : corpus.index.weightSums === null ? 'text' : 'packed');
  const run = { ...given, rowLayout, keepDocumentsApart: given.keepDocumentsApart ?? (documents > 1 && rowLayout !== 'single') };
  if (areRows) {
    checkTokenRows(nameOf(options.data.map((name) => basename(name))), documents, scoredWeight(corpus.index));
    if (run.evalEvery > 0) host.warn('evalEvery is not used: pre-tokenized rows have no validation part');
  } else if (rowLayout === 'text') {
    const problem = textProblem(corpus.index.tokenCount, run.contextLength);
    if (problem !== null) throw new CliError(`${nameOf(options.data)}: ${problem.message} ${problem.whatToDo}`);
  }
  const share = run.evalEvery > 0 && !areRows ? validationShare : 0;
  const batches = await openBatches(corpus, { ...run, rowsPerStep: rowsOfStep(run), validationShare: share });
  const { truncated, unscored } = batches.leftOut;
  if (truncated > 0) host.warn(`${truncated} of ${documents} documents are longer than the context of ${run.contextLength} tokens, and were cut off`);
  if (unscored > 0) host.warn(`${unscored} of ${documents} documents have no scored token, and are not used`);
  return { run, config, batches, bytesPerToken: data.tokenizer && bytesPerScoredToken(batches.validation, data.tokenizer) };
}

/** Of all documents; those without weights of their own score every token but the first. */
function scoredWeight({ starts, weightSums }: CorpusIndex): number {
  if (weightSums === null) return Math.max(0, (starts.at(-1) ?? 0) - (starts.length - 1));
  return weightSums.reduce((sum, weight, document) => sum + (Number.isNaN(weight) ? (starts[document + 1] ?? 0) - (starts[document] ?? 0) - 1 : weight), 0);
}

/** A config may leave `vocab_size` to the text; one that has it must have room for the text's tokens. */
function withVocabulary(json: unknown, vocabularySize: number): DecoderConfig {
  const lacksSize = typeof json === 'object' && json !== null && !('vocab_size' in json);
  const config = parseConfig(lacksSize ? { ...json, vocab_size: vocabularySize } : json);
  if (config.vocab_size < vocabularySize) {
    throw new CliError(`the model's vocab_size is ${config.vocab_size}, and the text has ${vocabularySize} different tokens`);
  }
  return config;
}

/** Given weights with a fresh optimizer. */
function beginningWith(weights: Float32Array<ArrayBuffer> | null): MasterState | null {
  if (weights === null) return null;
  const zeros = (): ArrayBuffer => new ArrayBuffer(weights.byteLength);
  return { step: 0, weights: weights.buffer, firstMoments: zeros(), secondMoments: zeros() };
}

async function start(
  trainer: Trainer,
  run: PlannedRun,
  model: DecoderConfig,
  state: MasterState | null,
): Promise<TrainerInfo> {
  const { contextLength, rowsPerMicrobatch, optimizer, steps, seed, localSteps, precision, labelSmoothing, frozen, keepDocumentsApart } = run;
  const freezing = frozenProblem(model, frozen);
  if (freezing !== null) throw new CliError(freezing);
  const info = await trainer.prepare({ model, contextLength, rowsPerMicrobatch, optimizer, steps, seed, localSteps, precision, labelSmoothing, frozen, keepDocumentsApart });
  await (state === null ? trainer.initialize() : trainer.restore(state));
  return info;
}

/** The model as it is now, with what it takes to use it. */
async function writeFolder(trainer: Trainer, { config, tokenizer, source }: Prepared, folder: string): Promise<void> {
  await makeFolder(folder);
  const { weights } = await trainer.masterState();
  await writeModel(folder, config, new Float32Array(weights));
  if (tokenizer !== null) await writeTokenizer(folder, tokenizer.toHuggingFace(config.max_position_embeddings));
  else if (source.folder !== null) await copyTokenizer(source.folder, folder);
}

/** Evaluations so far: the lowest loss, and how many have come since without a lower one. */
interface Evaluations {
  readonly best: number;
  readonly without: number;
}

async function runSteps(
  trainer: Trainer,
  prepared: Prepared,
  options: TrainOptions,
  host: TrainHost,
  debugging: Debugging,
  firstStep: number,
): Promise<void> {
  const { run, config } = prepared;
  const metrics = createWriteStream(join(options.out, 'metrics.jsonl'), { flags: firstStep === 0 ? 'w' : 'a' });
  await once(metrics, 'open');
  let evaluations: Evaluations = { best: Infinity, without: 0 };
  try {
    for (let step = firstStep; step < run.steps && !host.isInterrupted(); step++) {
      const job = await jobOfStep(prepared, step);
      await debugging.before(job);
      const measured = await runStep(trainer, prepared, job);
      debugging.after(measured);
      if (step === options.saveGradients) {
        await writeGradients(options.out, step, config, await trainer.namedGradients(step, prepared.batches.weightOfStep(step)));
      }
      // One write for each line: whoever follows the file sees whole lines as they come.
      if (!metrics.write(`${JSON.stringify(measured)}\n`)) await once(metrics, 'drain');
      host.progress.step(measured);
      if (measured.validationLoss === undefined) continue;
      evaluations = await evaluated(trainer, prepared, options.out, evaluations, measured.validationLoss);
      if (run.patience > 0 && evaluations.without >= run.patience) {
        host.warn(`stopped after step ${step}: the validation loss has not fallen in ${evaluations.without} evaluations (the lowest, ${evaluations.best.toFixed(4)}, is of ${join(options.out, bestFolder)})`);
        break;
      }
    }
  } finally {
    metrics.end();
    await once(metrics, 'close');
  }
}

async function evaluated(trainer: Trainer, prepared: Prepared, out: string, { best, without }: Evaluations, loss: number): Promise<Evaluations> {
  if (!(loss < best)) return { best, without: without + 1 };
  await writeFolder(trainer, prepared, join(out, bestFolder));
  return { best: loss, without: 0 };
}

async function jobOfStep({ batches }: Prepared, step: number): Promise<GradientJob> {
  const microbatches = await Promise.all(Array.from({ length: batches.microbatchesPerStep }, async (_, index) => ({ index, rows: await batches.draw(step, index) })));
  return { assignment: `step ${step}`, step, microbatches };
}

async function runStep(trainer: Trainer, { run, batches, bytesPerToken }: Prepared, job: GradientJob): Promise<StepMetrics> {
  const startedMs = performance.now();
  const { assignment, step } = job;
  await trainer.beginStep(step);
  const { lossSum, weightSum, tokens } = await trainer.computeGradients(job);
  if (!(weightSum > 0)) throw new CliError(`step ${step} has no scored token: give it more rows, or remove rows without labels`);
  await trainer.addOwnContribution(assignment);
  const { applied, gradNorm, learningRate } = await trainer.commit(step, weightSum, { encodeUpdate: false, encodeGradient: false });
  // Local steps that are refused come to no change, which is finite.
  if (!applied || !Number.isFinite(lossSum)) {
    const cause = await trainer.explainNonFinite(job);
    const detail = cause === null ? '' : `: ${cause}`;
    throw new CliError(
      `step ${step}: loss ${lossSum / weightSum}, gradient norm ${gradNorm}: not finite${detail}. A lower learningRate or more warmupSteps helps`,
    );
  }
  const ms = Math.round((performance.now() - startedMs) * 1000) / 1000;
  const measured = { step, loss: lossSum / weightSum, gradNorm, lr: learningRate, tokens, ms };
  const evaluates = run.evalEvery > 0 && batches.validation.length > 0 && ((step + 1) % run.evalEvery === 0 || step + 1 === run.steps);
  return evaluates ? { ...measured, ...validationFigures(await trainer.evaluate(batches.validation), bytesPerToken) } : measured;
}

function validationFigures(loss: number, bytesPerToken: number | null) {
  return {
    validationLoss: loss,
    validationPerplexity: perplexityOf(loss),
    ...(bytesPerToken !== null && { validationBitsPerByte: bitsPerByteOf(loss, bytesPerToken) }),
  };
}
