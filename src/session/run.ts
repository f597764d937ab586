/**
 * A run as data: settings filled in from a preset and a text, what is told of it before it starts, and the description
 * that travels with every welcome and lies beside every checkpoint. Draws no batches and computes no gradients.
 */
import * as v from 'valibot';
import { codecChoices } from '../codec/types.ts';
import { memoryBatches, openBatches } from '../data/batches.ts';
import type { CorpusOptions } from '../data/batches.ts';
import { bytesPerScoredToken } from '../data/bits-per-byte.ts';
import { everything, objectiveSchema } from '../data/chats/objective.ts';
import { textCorpus } from '../data/corpus.ts';
import type { TokenCorpus } from '../data/corpus.ts';
import { TokenizerError } from '../data/errors.ts';
import { presetById, textProblem } from '../data/presets.ts';
import { mostSerializedCharacters, tokenizerFacts } from '../data/serialized-tokenizer.ts';
import type { TokenizerFacts, TokenizerKind } from '../data/serialized-tokenizer.ts';
import type { TokenizedText } from '../data/tokenized-text.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { MemoryBatchSource } from '../data/types.ts';
import { configProblem, parseConfig } from '../model/config.ts';
import type { Precision } from '../model/decoder.ts';
import { frozenProblem, frozenSchema, nothingFrozen } from '../model/frozen.ts';
import type { DecoderConfig } from '../model/types.ts';
import { estimateMemoryBytes, parameterCount } from '../model/parameters.ts';
import { longestRunSteps } from '../room/values.ts';
import type { Problem, TrainerSettings } from '../trainer/types.ts';
import { ownerKeySchema } from './owner.ts';
import { problem } from './problems.ts';
import type { CreateSettings, PreparedData, PresetId, RunEstimate, RunSettings } from './types.ts';

export class RunError extends Error {
  override readonly name = 'RunError';
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.message);
    this.problem = problem;
  }
}

const presetIds = ['repeated-pattern', 'tiny-rhyme', 'counting-list', 'moby-dick', 'own-text'] as const;
const maxContextLength = 8192;
const maxRows = 4096;
const maxLocalSteps = 1000;
/** A peer alone may get all of them at once, and they take twelve bytes each in its memory. */
const maxTokensBetweenUpdates = 2 ** 24;

const whole = (min: number, max: number) => v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));
const between = (min: number, max: number) => v.pipe(v.number(), v.finite(), v.minValue(min), v.maxValue(max));

const settingsSchema = v.object({
  // Checked in depth by `parseConfig`.
  model: v.record(v.string(), v.unknown()),
  steps: whole(1, longestRunSteps),
  rowsPerStep: whole(1, maxRows),
  rowsPerMicrobatch: whole(1, maxRows),
  contextLength: whole(2, maxContextLength),
  order: v.picklist(['shuffled', 'sequential']),
  seed: whole(0, 2 ** 32 - 1),
  codec: v.picklist(codecChoices),
  // Older pages don't send these and `patience`.
  localSteps: v.optional(whole(1, maxLocalSteps), 1),
  precision: v.optional(v.picklist(['f32', 'mixed']), 'f32'),
  // Of runs before there were any.
  keepDocumentsApart: v.optional(v.boolean(), false),
  rowLayout: v.optional(v.picklist(['text', 'packed', 'single']), 'text'),
  evalEvery: whole(0, longestRunSteps),
  patience: v.optional(whole(0, longestRunSteps), 0),
  optimizer: v.object({
    learningRate: between(1e-9, 10),
    minLearningRate: between(0, 10),
    warmupSteps: whole(0, longestRunSteps),
    schedule: v.picklist(['cosine', 'linear', 'constant']),
    beta1: between(0, 0.99999),
    beta2: between(0, 0.999999),
    epsilon: between(1e-20, 1),
    weightDecay: between(0, 10),
    gradientClip: between(0, 1e9),
    outerLearningRate: v.exactOptional(between(1e-3, 10)),
    outerMomentum: v.exactOptional(between(0, 0.999)),
    method: v.exactOptional(v.picklist(['adamw', 'muon'])),
    momentum: v.exactOptional(between(0, 0.9999)),
    matrixRate: v.exactOptional(between(1e-3, 1e3)),
  }),
  // Nor do older pages send these three.
  objective: v.optional(objectiveSchema, everything),
  labelSmoothing: v.optional(between(0, 1), 0),
  frozen: v.optional(frozenSchema, nothingFrozen),
});

/** Of what no preset asks for. */
const plainLearning = { objective: everything, labelSmoothing: 0, frozen: nothingFrozen };

const descriptionSchema = v.object({
  title: v.pipe(v.string(), v.maxLength(120)),
  preset: v.picklist(presetIds),
  // Rooms that were made before they had owners don't have it.
  owner: v.optional(v.nullable(ownerKeySchema), null),
  // Older rooms don't have it.
  validationBytesPerToken: v.optional(v.nullable(between(1e-3, 1e6)), null),
  prompt: v.pipe(v.string(), v.maxLength(2000)),
  // Checked in depth by `tokenizerFacts`.
  tokenizer: v.exactOptional(v.string()),
  /** Of runs that were saved when there were only tokenizers by character. */
  characters: v.exactOptional(v.array(v.string())),
  // Those that begin with fresh weights say nothing.
  begins: v.exactOptional(v.literal('files')),
  settings: settingsSchema,
});

/** What every peer of a room knows of its run; nothing of the corpus but its tokenizer and a prompt. */
export interface RunDescription {
  readonly title: string;
  readonly preset: PresetId;
  /** The public key of whoever made the room. */
  readonly owner: string | null;
  /** UTF-8 bytes that a scored token of the validation rows stands for; null where there are none. */
  readonly validationBytesPerToken: number | null;
  /** With the weights of files; absent: with fresh ones. */
  readonly begins?: 'files';
  /** What samples start from. */
  readonly prompt: string;
  /** See `data/serialized-tokenizer.ts`. */
  readonly tokenizer: string;
  readonly tokenizerKind: TokenizerKind;
  readonly settings: RunSettings;
}

function badSettings(message: string): RunError {
  return new RunError(problem('bad-settings', message));
}

function checkedSettings(given: unknown, { kind, vocabularySize }: TokenizerFacts): RunSettings {
  const parsed = v.safeParse(settingsSchema, given);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw badSettings(`${v.getDotPath(issue) ?? 'settings'}: expected ${issue.expected ?? 'something else'}, got ${issue.received}.`);
  }
  const settings = parsed.output;
  let model: RunSettings['model'];
  try {
    model = parseConfig(settings.model);
  } catch (error) {
    throw badSettings(error instanceof Error ? `${error.message}.` : String(error));
  }
  // Models of others often have room for more tokens than there are.
  if (kind === 'hugging-face' ? model.vocab_size < vocabularySize : model.vocab_size !== vocabularySize) {
    throw badSettings(`The model has ${model.vocab_size} tokens and the tokenizer ${vocabularySize}.`);
  }
  const freezing = frozenProblem(model, settings.frozen);
  if (freezing !== null) throw badSettings(`${freezing}.`);
  if (settings.rowsPerMicrobatch > settings.rowsPerStep) {
    throw badSettings(`rowsPerMicrobatch ${settings.rowsPerMicrobatch} is more than rowsPerStep ${settings.rowsPerStep}.`);
  }
  const tokensBetweenUpdates = rowsOfStep(settings) * settings.contextLength;
  if (tokensBetweenUpdates > maxTokensBetweenUpdates) {
    throw badSettings(`${tokensBetweenUpdates} tokens between two updates are more than ${maxTokensBetweenUpdates}: fewer rows, local steps or a shorter context.`);
  }
  return { ...settings, model };
}

export function serializeRun(run: RunDescription): string {
  const { tokenizerKind: _told, ...written } = run;
  return JSON.stringify(written);
}

/** Throws `RunError` when it is no tokenizer. */
function factsOfTokenizer(serialized: string): TokenizerFacts {
  try {
    return tokenizerFacts(serialized);
  } catch (error) {
    if (error instanceof TokenizerError) throw badSettings(`The run’s tokenizer can’t be used: ${error.message}.`);
    throw error;
  }
}

/** Throws `RunError` when the text is not a run this page can take part in: it may come from another peer. */
export function parseRun(text: string): RunDescription {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw badSettings('The run’s description is not readable.');
  }
  const parsed = v.safeParse(descriptionSchema, json);
  if (!parsed.success) throw badSettings(`The run’s description is not valid: ${v.getDotPath(parsed.issues[0]) ?? 'it'} is wrong.`);
  const { characters, settings, tokenizer = JSON.stringify({ kind: 'characters', characters }), ...rest } = parsed.output;
  const facts = factsOfTokenizer(tokenizer);
  return { ...rest, tokenizer, tokenizerKind: facts.kind, settings: checkedSettings(settings, facts) };
}

/** What a run begins with that does not begin with fresh weights. */
export interface Beginning {
  readonly config: DecoderConfig;
  readonly tokenizer: Tokenizer;
  /** By the config's parameter layout. */
  readonly readWeights: () => Promise<ArrayBuffer>;
}

export interface ComposedRun {
  readonly description: RunDescription;
  readonly tokens: Uint32Array<ArrayBuffer>;
}

/** What figures are made of; `tokens` is null while the tokenizer is only planned, and `vocabularySize` then the most it can be. */
export interface TextFacts {
  readonly kind: TokenizerKind;
  readonly characters: number;
  readonly tokens: number | null;
  readonly vocabularySize: number;
}

/** `characters`: of the text; a tokenizer by character has as many tokens. */
export function factsOfText({ kind, tokenizer, tokens }: TokenizedText, characters = tokens.length): TextFacts {
  return { kind, characters, tokens: tokens.length, vocabularySize: tokenizer.vocabularySize };
}

/** Bytes stand for characters: nobody counted those. */
export function factsOfData({ tokenizer, bytes, tokens }: PreparedData): TextFacts {
  return { ...factsOfTokenizer(tokenizer), characters: bytes, tokens };
}

/**
 * Fills a preset in with what a person changed; the model is `beginning`'s, if there is one. Throws `RunError` when the result can't be
 * trained.
 */
function composeSettings(given: CreateSettings, { kind, characters, tokens, vocabularySize }: TextFacts, beginning: Beginning | null): RunSettings {
  const { data } = given;
  const { settings: defaults } = presetById(given.preset);
  const contextLength = given.contextLength ?? defaults.contextLength;
  const rowLayout = given.rowLayout ?? (data?.hasWeights === true ? 'packed' : 'text');
  const tooShort = rowLayout === 'text' ? textProblem(tokens ?? characters, contextLength, kind === 'characters' ? 'characters' : 'tokens') : null;
  if (tooShort) throw new RunError(tooShort);
  const rowsPerStep = given.rowsPerStep ?? defaults.rowsPerStep;
  const localSteps = given.localSteps ?? defaults.localSteps;
  // A preset's numbers of steps are those of a run without local ones.
  const fewer = (steps: number): number => (steps === 0 ? 0 : Math.max(1, Math.round(steps / localSteps)));
  const steps = given.steps ?? fewer(defaults.steps);
  const model =
    beginning === null
      ? { ...defaults.model, ...given.model, vocab_size: vocabularySize, max_position_embeddings: contextLength }
      : { ...beginning.config, dropout: given.model?.dropout ?? 0, max_position_embeddings: Math.max(beginning.config.max_position_embeddings, contextLength) };
  const shapeProblem = configProblem(model);
  if (shapeProblem !== null) throw badSettings(`${shapeProblem}.`);
  const optimizer = { ...defaults.optimizer, ...given.optimizer };
  return checkedSettings(
    {
      model,
      steps,
      rowsPerStep,
      rowsPerMicrobatch: given.rowsPerMicrobatch ?? Math.min(defaults.rowsPerMicrobatch, rowsPerStep),
      contextLength,
      order: given.order ?? defaults.order,
      seed: given.seed ?? defaults.seed,
      codec: given.codec ?? defaults.codec,
      localSteps,
      precision: given.precision ?? defaults.precision,
      keepDocumentsApart: given.keepDocumentsApart ?? (data !== undefined && data.documents > 1),
      rowLayout,
      evalEvery: given.evalEvery ?? fewer(defaults.evalEvery),
      patience: given.patience ?? defaults.patience,
      optimizer: {
        ...optimizer,
        // A peak below the preset's floor, or a run shorter than its warm-up, is a wish, not a mistake.
        minLearningRate: given.optimizer?.minLearningRate ?? Math.min(optimizer.minLearningRate, optimizer.learningRate),
        warmupSteps: given.optimizer?.warmupSteps ?? Math.min(fewer(optimizer.warmupSteps), Math.floor(steps / 5)),
      },
      objective: data?.objective ?? given.objective ?? plainLearning.objective,
      labelSmoothing: given.labelSmoothing ?? plainLearning.labelSmoothing,
      frozen: given.frozen ?? plainLearning.frozen,
    },
    { kind, vocabularySize },
  );
}

/** Throws `RunError` when the result can't be trained, or its tokenizer can't travel. */
export function composeRun(given: CreateSettings, tokenized: TokenizedText, beginning: Beginning | null = null): ComposedRun {
  const preset = presetById(given.preset);
  const { kind, tokenizer, tokens } = tokenized;
  const facts = given.data === undefined ? factsOfText(tokenized) : factsOfData(given.data);
  const settings = composeSettings(given, facts, beginning);
  const serialized = tokenizer.serialize();
  if (serialized.length > mostSerializedCharacters) {
    throw badSettings(`The tokenizer takes ${serialized.length} characters, and a room can send at most ${mostSerializedCharacters} to whoever joins.`);
  }
  const known = tokenizer.encodeKnown(preset.samplePrompt);
  const prompt = given.data?.opening ?? tokenizer.decode(known.length > 0 ? known : tokens.subarray(0, Math.min(8, settings.contextLength)));
  const title = given.title ?? given.data?.title ?? preset.title;
  return { description: { title, preset: given.preset, owner: null, validationBytesPerToken: null, ...(beginning !== null && { begins: 'files' as const }), prompt, tokenizer: serialized, tokenizerKind: kind, settings }, tokens };
}

/** The figures of the landing page. Never throws for settings a person can type: they come back as `problem`. */
export function estimateRun(given: CreateSettings, facts: TextFacts, beginning: Beginning | null = null): RunEstimate {
  const { kind, characters, tokens, vocabularySize } = facts;
  try {
    return { ...figures(composeSettings(given, facts, beginning)), isByCharacter: kind === 'characters', vocabularySize, characters, tokens, problem: null };
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    const settings = { ...plainLearning, keepDocumentsApart: false, rowLayout: 'text' as const, ...presetById(given.preset).settings };
    const model = { ...settings.model, vocab_size: 1, max_position_embeddings: settings.contextLength };
    return { ...figures({ ...settings, model }), isByCharacter: kind === 'characters', vocabularySize: 0, characters, tokens, problem: error.problem };
  }
}

function figures(settings: RunSettings): Pick<RunEstimate, 'settings' | 'parameterCount' | 'memoryBytes' | 'expectedInitialLoss' | 'tokensPerStep'> {
  return {
    settings,
    parameterCount: parameterCount(settings.model),
    memoryBytes: estimateMemoryBytes(settings),
    expectedInitialLoss: Math.log(settings.model.vocab_size),
    tokensPerStep: rowsOfStep(settings) * settings.contextLength,
  };
}

/** All that devices learn from before their weights are the same again. */
export function rowsOfStep({ rowsPerStep, localSteps }: Pick<RunSettings, 'rowsPerStep' | 'localSteps'>): number {
  return rowsPerStep * localSteps;
}

/** How the coordinator draws its batches from a corpus: both together decide every row. */
export function batchOptions({ preset, settings }: RunDescription): CorpusOptions {
  const { rowsPerMicrobatch, contextLength, order, seed, keepDocumentsApart, rowLayout } = settings;
  const { validationShare } = presetById(preset);
  return { rowsPerStep: rowsOfStep(settings), rowsPerMicrobatch, contextLength, order, seed, keepDocumentsApart, rowLayout, validationShare };
}

/** Of a text that is in memory. */
export function batchesOf(description: RunDescription, tokens: Uint32Array): MemoryBatchSource {
  return memoryBatches(textCorpus(tokens), batchOptions(description));
}

/** The description with what only whoever has the corpus can say: how long the tokens are that its validation scores. */
export async function withValidationBytes(description: RunDescription, corpus: TokenCorpus, tokenizer: Tokenizer): Promise<RunDescription> {
  if (description.settings.evalEvery === 0) return description;
  const { validation } = await openBatches(corpus, batchOptions(description));
  return { ...description, validationBytesPerToken: bytesPerScoredToken(validation, tokenizer) };
}

export function trainerSettings({ settings }: RunDescription): TrainerSettings {
  const { model, contextLength, rowsPerMicrobatch, optimizer, steps, seed, codec, localSteps, precision, labelSmoothing, frozen, keepDocumentsApart } = settings;
  return { model, contextLength, rowsPerMicrobatch, optimizer, steps, seed, codec, localSteps, precision, labelSmoothing, frozen, keepDocumentsApart };
}

/** What to tell a person whose device can't compute as the run asks; null when it can. */
export function precisionNotice(asked: Precision, used: Precision): string | null {
  return asked === 'mixed' && used === 'f32' ? 'This GPU has no usable 16-bit numbers: this device computes in 32 bits.' : null;
}
