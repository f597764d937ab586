/**
 * The settings a person may change before a run, as a table, and how changes become what `create` takes. Which
 * combinations can run is for the session's estimate to say, not decided here.
 */
import { modelSizes } from '../data/presets.ts';
import type { ModelSize } from '../data/presets.ts';
import type { CreateSettings, PresetId, RunSettings } from '../session/types.ts';

interface FieldBase {
  readonly key: string;
  readonly group: 'Model' | 'Batch' | 'Optimizer' | 'Run';
  readonly label: string;
  /** One plain sentence. */
  readonly help: string;
  readonly read: (settings: RunSettings) => number | string;
}
export interface NumberField extends FieldBase {
  readonly kind: 'number';
  readonly min: number;
  readonly max: number;
  /** Granularity; 'any' for real numbers. */
  readonly step: number | 'any';
}
export interface ChoiceField extends FieldBase {
  readonly kind: 'choice';
  readonly choices: readonly { readonly value: string; readonly label: string }[];
}
export type SettingsField = NumberField | ChoiceField;

const codecChoices: readonly { readonly value: RunSettings['codec']; readonly label: string }[] = [
  { value: 'auto', label: 'chosen by the room: as exact as the network allows' },
  { value: 'fp32', label: '32-bit numbers, exact' },
  { value: 'bf16', label: '16-bit numbers: half the bytes' },
  { value: 'int8', label: '8-bit numbers: a quarter of the bytes' },
  { value: 'int2', label: '2-bit numbers: a fifteenth of the bytes, for local steps' },
];

export function codecInWords(codec: RunSettings['codec']): string {
  return codecChoices.find(({ value }) => value === codec)?.label ?? codec;
}

export const settingsFields = [
  {
    key: 'layers', group: 'Model', kind: 'number', label: 'Layers', min: 1, max: 48, step: 1,
    help: 'How many times the text is looked at and thought over, one after another.',
    read: (s) => s.model.num_hidden_layers,
  },
  {
    key: 'hidden', group: 'Model', kind: 'number', label: 'Hidden size', min: 8, max: 4096, step: 8,
    help: 'How many numbers describe each position of the text; parameters grow with its square.',
    read: (s) => s.model.hidden_size,
  },
  {
    key: 'heads', group: 'Model', kind: 'number', label: 'Attention heads', min: 1, max: 64, step: 1,
    help: 'How many places a layer can look back to at once; has to divide the hidden size.',
    read: (s) => s.model.num_attention_heads,
  },
  {
    key: 'dropout', group: 'Model', kind: 'number', label: 'Dropout', min: 0, max: 0.9, step: 'any',
    help: 'Share of numbers switched off at random while training, against learning a small text by heart.',
    read: (s) => s.model.dropout,
  },
  {
    key: 'contextLength', group: 'Batch', kind: 'number', label: 'Context length', min: 2, max: 8192, step: 1,
    help: 'How many tokens back the model can see: characters, or pieces of words.',
    read: (s) => s.contextLength,
  },
  {
    key: 'rowsPerStep', group: 'Batch', kind: 'number', label: 'Rows per step', min: 1, max: 4096, step: 1,
    help: 'How many pieces of text each step learns from; all devices share them.',
    read: (s) => s.rowsPerStep,
  },
  {
    key: 'rowsPerMicrobatch', group: 'Batch', kind: 'number', label: 'Rows per micro-batch', min: 1, max: 256, step: 1,
    help: 'The smallest share a device can take; smaller pieces spread better over many devices.',
    read: (s) => s.rowsPerMicrobatch,
  },
  {
    key: 'order', group: 'Batch', kind: 'choice', label: 'Order of the text',
    choices: [{ value: 'shuffled', label: 'shuffled' }, { value: 'sequential', label: 'from start to end' }],
    help: 'Whether pieces are drawn from anywhere or read in order.',
    read: (s) => s.order,
  },
  {
    key: 'learningRate', group: 'Optimizer', kind: 'number', label: 'Learning rate', min: 0, max: 1, step: 'any',
    help: 'How far each step moves the weights: too small is slow, too large falls apart.',
    read: (s) => s.optimizer.learningRate,
  },
  {
    key: 'minLearningRate', group: 'Optimizer', kind: 'number', label: 'Lowest learning rate', min: 0, max: 1, step: 'any',
    help: 'Where the schedule ends.',
    read: (s) => s.optimizer.minLearningRate,
  },
  {
    key: 'method', group: 'Optimizer', kind: 'choice', label: 'Method',
    choices: [
      { value: 'adamw', label: 'AdamW' },
      { value: 'muon', label: 'Muon' },
    ],
    help: 'Muon makes all directions of a layer’s matrices learn alike: more from each step, at the cost of more computing, and with less to lose to few bytes.',
    read: (s) => s.optimizer.method ?? 'adamw',
  },
  {
    key: 'schedule', group: 'Optimizer', kind: 'choice', label: 'Schedule',
    choices: [
      { value: 'cosine', label: 'cosine' },
      { value: 'linear', label: 'linear' },
      { value: 'constant', label: 'constant' },
    ],
    help: 'How the learning rate falls from its peak to its lowest value.',
    read: (s) => s.optimizer.schedule,
  },
  {
    key: 'warmupSteps', group: 'Optimizer', kind: 'number', label: 'Warm-up steps', min: 0, max: 100_000, step: 1,
    help: 'The learning rate rises over this many steps, while the optimizer still knows little.',
    read: (s) => s.optimizer.warmupSteps,
  },
  {
    key: 'weightDecay', group: 'Optimizer', kind: 'number', label: 'Weight decay', min: 0, max: 10, step: 'any',
    help: 'Pulls weights a little towards zero at every step, so that none grows without need.',
    read: (s) => s.optimizer.weightDecay,
  },
  {
    key: 'gradientClip', group: 'Optimizer', kind: 'number', label: 'Largest gradient norm', min: 0, max: 1000, step: 'any',
    help: 'Steeper steps are shortened to this length; 0 never shortens.',
    read: (s) => s.optimizer.gradientClip,
  },
  {
    key: 'steps', group: 'Run', kind: 'number', label: 'Steps', min: 1, max: 10_000_000, step: 1,
    help: 'How many updates of the weights the run has.',
    read: (s) => s.steps,
  },
  {
    key: 'evalEvery', group: 'Run', kind: 'number', label: 'Validate every', min: 0, max: 1_000_000, step: 1,
    help: 'Steps between measurements on text that is never trained on; 0 for none.',
    read: (s) => s.evalEvery,
  },
  {
    key: 'patience', group: 'Run', kind: 'number', label: 'Stop early after', min: 0, max: 1_000_000, step: 1,
    help: 'Measurements in a row without a lower validation loss after which the run pauses; 0 for never. The best weights are kept either way.',
    read: (s) => s.patience,
  },
  {
    key: 'precision', group: 'Run', kind: 'choice', label: 'Precision',
    choices: [
      { value: 'f32', label: '32-bit' },
      { value: 'mixed', label: 'Mixed 16 and 32-bit' },
    ],
    help: 'Mixed precision moves half the bytes on GPUs that have 16-bit numbers; others compute in 32 bits as before.',
    read: (s) => s.precision,
  },
  {
    key: 'codec', group: 'Run', kind: 'choice', label: 'Sent as',
    choices: codecChoices,
    help: 'How finely devices tell each other what changes in a step. What is rounded off is not lost: it goes along with the next one.',
    read: (s) => s.codec,
  },
  {
    key: 'localSteps', group: 'Run', kind: 'number', label: 'Local steps', min: 1, max: 1000, step: 1,
    help: 'How many steps each device takes alone before weights are averaged, for slow networks: each of the room’s steps is then as many. 1 is exact; more learn a little less from the same text.',
    read: (s) => s.localSteps,
  },
  {
    key: 'seed', group: 'Run', kind: 'number', label: 'Seed', min: 0, max: 4_294_967_295, step: 1,
    help: 'Starts all chance in the run: the same seed gives the same run.',
    read: (s) => s.seed,
  },
] as const satisfies readonly SettingsField[];

export const fieldGroups = ['Model', 'Batch', 'Optimizer', 'Run'] as const;

export type FieldKey = (typeof settingsFields)[number]['key'];
/** What a person changed, by field; whatever isn't here stays the preset's. `size` replaces the preset's whole model. */
export type Edits = Readonly<Partial<Record<FieldKey, number | string>> & { size?: ModelSize }>;

export const sizeNames = Object.keys(modelSizes) as readonly ModelSize[];

/** The settings that single fields depart from: the preset's, in the chosen size. */
export function baseSettings(defaults: RunSettings, edits: Edits): RunSettings {
  return edits.size === undefined ? defaults : { ...defaults, model: { ...defaults.model, ...modelSizes[edits.size].model } };
}

/** The number typed, or null when it is none or outside the field's range. */
export function readNumber(field: NumberField, typed: string): number | null {
  const value = Number(typed.trim().replace(',', '.'));
  if (typed.trim() === '' || !Number.isFinite(value)) return null;
  if (value < field.min || value > field.max) return null;
  return field.step !== 'any' && !Number.isInteger(value) ? null : value;
}

/**
 * Width and heads can't change alone: head size, key/value heads and the feed-forward's width follow in the preset's own
 * proportions.
 */
function modelOf(defaults: RunSettings, edits: Edits): CreateSettings['model'] {
  const { size, layers, hidden, heads, dropout } = edits;
  const base = baseSettings(defaults, edits).model;
  const whole = size === undefined ? {} : modelSizes[size].model;
  const depth = typeof layers === 'number' ? { ...whole, num_hidden_layers: layers } : whole;
  const noise = typeof dropout === 'number' ? { dropout } : {};
  if (typeof hidden !== 'number' && typeof heads !== 'number') return { ...depth, ...noise };
  const width = typeof hidden === 'number' ? hidden : base.hidden_size;
  const headCount = typeof heads === 'number' ? heads : base.num_attention_heads;
  const headsPerKeyValue = base.num_attention_heads / base.num_key_value_heads;
  return {
    ...depth,
    ...noise,
    hidden_size: width,
    intermediate_size: Math.round((width * base.intermediate_size) / base.hidden_size),
    num_attention_heads: headCount,
    num_key_value_heads: headCount % headsPerKeyValue === 0 ? headCount / headsPerKeyValue : headCount,
    head_dim: width / headCount,
  };
}

const runKeys = ['contextLength', 'rowsPerStep', 'rowsPerMicrobatch', 'order', 'steps', 'evalEvery', 'patience', 'seed', 'precision', 'codec', 'localSteps'] as const;
const optimizerKeys = ['method', 'learningRate', 'minLearningRate', 'schedule', 'warmupSteps', 'weightDecay', 'gradientClip'] as const;

function pick(edits: Edits, keys: readonly FieldKey[]): Record<string, number | string> {
  const picked: Record<string, number | string> = {};
  for (const key of keys) {
    const value = edits[key];
    if (value !== undefined) picked[key] = value;
  }
  return picked;
}

/** `defaults` are the preset's own settings; without them (not known yet) the preset is taken as it is. */
export function createSettings(
  preset: PresetId,
  defaults: RunSettings | null,
  edits: Edits,
  extra: Pick<CreateSettings, 'text' | 'data' | 'name' | 'title' | 'tokenizer'> = {},
): CreateSettings {
  if (defaults === null || Object.keys(edits).length === 0) return { preset, ...extra };
  const model = modelOf(defaults, edits);
  const optimizer = pick(edits, optimizerKeys);
  return {
    preset,
    ...extra,
    ...pick(edits, runKeys),
    ...(model !== undefined && Object.keys(model).length > 0 ? { model } : {}),
    ...(Object.keys(optimizer).length > 0 ? { optimizer } : {}),
  };
}

/** Which of the named sizes the settings amount to, or null. */
export function sizeOf(settings: RunSettings): ModelSize | null {
  const { num_hidden_layers: layers, hidden_size: hidden, num_attention_heads: heads } = settings.model;
  const isThis = (size: ModelSize): boolean => {
    const { model } = modelSizes[size];
    return model.num_hidden_layers === layers && model.hidden_size === hidden && model.num_attention_heads === heads;
  };
  return sizeNames.find(isThis) ?? null;
}

/** Another size: what was typed for the old one's shape is dropped, the rest stays. */
export function withSize(edits: Edits, size: ModelSize): Edits {
  const { layers: _layers, hidden: _hidden, heads: _heads, ...rest } = edits;
  return { ...rest, size };
}
