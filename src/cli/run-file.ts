/** The run file (DESIGN §5): JSON text in, complete settings out, but for the model, which may be in a folder. */
import * as v from 'valibot';
import { codecChoices } from '../codec/types.ts';
import { everything, objectiveSchema } from '../data/chats/objective.ts';
import { frozenSchema, nothingFrozen } from '../model/frozen.ts';
import type { RunSettings } from '../session/types.ts';
import { CliError } from './errors.ts';

export interface RunFile extends Omit<RunSettings, 'model' | 'keepDocumentsApart' | 'rowLayout'> {
  /** Absent: if the data has several documents. */
  readonly keepDocumentsApart?: boolean;
  /** Absent: `packed` for documents with loss weights, `single` for pre-tokenized rows, else `text`. */
  readonly rowLayout?: RunSettings['rowLayout'];
  /** A folder, a Hugging Face config object, or nothing. */
  readonly model: string | Readonly<Record<string, unknown>> | null;
}

const count = (least: number) => v.pipe(v.number(), v.safeInteger(), v.minValue(least));
const finite = (least: number) => v.pipe(v.number(), v.finite(), v.minValue(least));
const share = v.pipe(v.number(), v.minValue(0), v.ltValue(1));

const optimizerEntries = {
  learningRate: v.optional(finite(0), 1e-3),
  minLearningRate: v.optional(finite(0), 1e-4),
  warmupSteps: v.optional(count(0), 0),
  schedule: v.optional(v.picklist(['cosine', 'linear', 'constant']), 'cosine'),
  beta1: v.optional(share, 0.9),
  beta2: v.optional(share, 0.95),
  epsilon: v.optional(finite(0), 1e-8),
  weightDecay: v.optional(finite(0), 0.1),
  gradientClip: v.optional(finite(0), 1),
  outerLearningRate: v.exactOptional(finite(0)),
  outerMomentum: v.exactOptional(share),
  method: v.exactOptional(v.picklist(['adamw', 'muon'])),
  momentum: v.exactOptional(share),
  matrixRate: v.exactOptional(finite(0)),
};

const entries = {
  model: v.optional(v.union([v.string(), v.record(v.string(), v.unknown())])),
  steps: v.optional(count(1), 300),
  rowsPerStep: v.optional(count(1), 8),
  rowsPerMicrobatch: v.optional(count(1), 2),
  contextLength: v.optional(count(2), 128),
  order: v.optional(v.picklist(['shuffled', 'sequential']), 'shuffled'),
  seed: v.optional(v.pipe(count(0), v.maxValue(2 ** 32 - 1)), 1),
  codec: v.optional(v.picklist(codecChoices), 'fp32'),
  localSteps: v.optional(count(1), 1),
  precision: v.optional(v.picklist(['f32', 'mixed']), 'f32'),
  keepDocumentsApart: v.exactOptional(v.boolean()),
  rowLayout: v.exactOptional(v.picklist(['text', 'packed', 'single'])),
  evalEvery: v.optional(count(0), 0),
  patience: v.optional(count(0), 0),
  optimizer: v.optional(v.object(optimizerEntries), {}),
  objective: v.optional(objectiveSchema, everything),
  labelSmoothing: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0),
  frozen: v.optional(frozenSchema, nothingFrozen),
};

const runFileSchema = v.object(entries);

/**
 * Settings of a run file's text, and the keys in it that mean nothing here. Throws `CliError` naming file and key. A
 * micro-batch of more rows than a step has is cut to the step: the batch is the same.
 */
export function parseRunFile(text: string, fileName: string): { readonly run: RunFile; readonly unknownKeys: readonly string[] } {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new CliError(`${fileName} is not valid JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new CliError(`${fileName} is not a JSON object`);
  const result = v.safeParse(runFileSchema, json);
  if (!result.success) {
    const [issue] = result.issues;
    const key = v.getDotPath(issue) ?? 'a key';
    const expected = issue.requirement === undefined ? (issue.expected ?? 'another value') : issue.message.replace(/^Invalid \w+: Expected /, '');
    throw new CliError(`${fileName}: ${key} should be ${readable(expected)}, and is ${issue.received}`);
  }
  const { model = null, ...settings } = result.output;
  return {
    run: { ...settings, model, rowsPerMicrobatch: Math.min(settings.rowsPerMicrobatch, settings.rowsPerStep) },
    unknownKeys: unknownKeysOf(json),
  };
}

/** Valibot's “>=1 but received 0” without what was received. */
function readable(expected: string): string {
  return expected.replace(/ (but|and) received .*$/, '').replace(/^>=/, 'at least ').replace(/^<=/, 'at most ').replace(/^</, 'below ');
}

function unknownKeysOf(json: object): string[] {
  const optimizer = 'optimizer' in json && typeof json.optimizer === 'object' && json.optimizer !== null ? json.optimizer : {};
  return [
    ...Object.keys(json).filter((key) => !(key in entries)),
    ...Object.keys(optimizer).filter((key) => !(key in optimizerEntries)).map((key) => `optimizer.${key}`),
  ];
}
