/**
 * What can be trained with one click: texts and the settings that suit them. Plain values under the run file's names;
 * the session adds what depends on the text (vocabulary) and on what a person changes.
 */
import { fitsContext } from './batches.ts';

/** A decoder's hyperparameters but for those that follow from text and context. */
export interface PresetModel {
  readonly model_type: 'llama' | 'qwen3';
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly rms_norm_eps: number;
  readonly rope_theta: number;
  readonly tie_word_embeddings: boolean;
  readonly initializer_range: number;
  readonly dropout: number;
}

export interface PresetOptimizer {
  readonly learningRate: number;
  readonly minLearningRate: number;
  readonly warmupSteps: number;
  readonly schedule: 'cosine' | 'linear' | 'constant';
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  readonly gradientClip: number;
}

export interface PresetSettings {
  readonly model: PresetModel;
  readonly steps: number;
  readonly rowsPerStep: number;
  readonly rowsPerMicrobatch: number;
  readonly contextLength: number;
  readonly order: 'shuffled' | 'sequential';
  readonly seed: number;
  readonly codec: 'auto';
  readonly localSteps: 1;
  readonly precision: 'f32';
  readonly evalEvery: number;
  readonly patience: 0;
  readonly optimizer: PresetOptimizer;
}

export interface Preset {
  readonly id: 'repeated-pattern' | 'tiny-rhyme' | 'counting-list' | 'moby-dick' | 'own-text';
  readonly title: string;
  /** One sentence for the landing page. */
  readonly description: string;
  readonly text:
    | { readonly kind: 'inline'; readonly text: string }
    /** Served by the page's own server at this path, see moby-dick-source.mjs. */
    | { readonly kind: 'asset'; readonly path: string }
    | { readonly kind: 'given' };
  /** Share of the corpus held out, at its end. */
  readonly validationShare: number;
  /** What samples start from; characters that the text lacks are left out. */
  readonly samplePrompt: string;
  readonly settings: PresetSettings;
}

const sharedModel = {
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  tie_word_embeddings: true,
  initializer_range: 0.02,
  dropout: 0,
} as const;

/** Two layers learn to look back and copy, which is all that a periodic text needs. */
const memorizingModel: PresetModel = {
  ...sharedModel,
  model_type: 'qwen3',
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
};

const smallModel: PresetModel = {
  ...sharedModel,
  model_type: 'llama',
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  head_dim: 32,
};

const mediumModel: PresetModel = {
  ...sharedModel,
  model_type: 'qwen3',
  hidden_size: 320,
  intermediate_size: 896,
  num_hidden_layers: 8,
  num_attention_heads: 10,
  num_key_value_heads: 5,
  head_dim: 32,
};

/** Sizes on offer for a person's own text. */
export const modelSizes = {
  tiny: { title: 'Tiny: two layers, learns a few lines by heart', model: memorizingModel },
  small: { title: 'Small: four layers, 0.9 million parameters, learns how words look', model: smallModel },
  medium: { title: 'Medium: eight layers, 9 million parameters, wants real GPUs', model: mediumModel },
} as const;

export type ModelSize = keyof typeof modelSizes;

const memorizingSettings: PresetSettings = {
  model: memorizingModel,
  steps: 300,
  rowsPerStep: 4,
  rowsPerMicrobatch: 1,
  contextLength: 64,
  order: 'shuffled',
  seed: 1,
  codec: 'auto',
  localSteps: 1,
  precision: 'f32',
  evalEvery: 0,
  patience: 0,
  optimizer: {
    learningRate: 3e-3,
    minLearningRate: 3e-4,
    warmupSteps: 20,
    schedule: 'cosine',
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weightDecay: 0.1,
    gradientClip: 1,
  },
};

const bookSettings: PresetSettings = {
  model: smallModel,
  steps: 1000,
  rowsPerStep: 16,
  rowsPerMicrobatch: 2,
  contextLength: 128,
  order: 'shuffled',
  seed: 1,
  codec: 'auto',
  localSteps: 1,
  precision: 'f32',
  evalEvery: 100,
  patience: 0,
  optimizer: { ...memorizingSettings.optimizer, warmupSteps: 50 },
};

/** Long enough for any context on offer to fit many times. */
const periodicCharacters = 4096;

function periodic(line: string): Preset['text'] {
  return { kind: 'inline', text: line.repeat(Math.ceil(periodicCharacters / line.length)) };
}

export const presets: readonly Preset[] = [
  {
    id: 'repeated-pattern',
    title: 'Repeated pattern',
    description: 'abcabcabc… Three characters: the smallest thing a model can learn.',
    text: periodic('abc'),
    validationShare: 0,
    samplePrompt: 'a',
    settings: memorizingSettings,
  },
  {
    id: 'tiny-rhyme',
    title: 'Tiny rhyme',
    description: 'One line made of eleven characters. To know what follows “no”, the model has to look further back.',
    text: periodic('no rain at the door and no star on the shore '),
    validationShare: 0,
    samplePrompt: 'no rain ',
    settings: memorizingSettings,
  },
  {
    id: 'counting-list',
    title: 'Counting list',
    description: 'The digits in order, again and again: 0123456789.',
    text: periodic('0123456789 '),
    validationShare: 0,
    samplePrompt: '0',
    settings: memorizingSettings,
  },
  {
    id: 'moby-dick',
    title: 'Moby-Dick',
    description: 'Melville’s novel, 1.2 million characters: spelling and quotation marks first, then words, then something like sentences.',
    text: { kind: 'asset', path: 'corpora/moby-dick.txt' },
    validationShare: 0.1,
    samplePrompt: 'The whale ',
    settings: bookSettings,
  },
  {
    id: 'own-text',
    title: 'Your own text',
    description: 'Paste or drop any plain text: letters, a diary, a language we have never heard of.',
    text: { kind: 'given' },
    validationShare: 0.1,
    samplePrompt: '',
    settings: bookSettings,
  },
];

export function presetById(id: Preset['id']): Preset {
  const preset = presets.find((candidate) => candidate.id === id);
  if (preset === undefined) throw new RangeError(`no preset is called ${id}`);
  return preset;
}

/** Why a text can't be trained on with this context, as a person should read it; null when it can. */
export function textProblem(
  tokenCount: number,
  contextLength: number,
  /** What a token is called. */
  unit: 'characters' | 'tokens' = 'characters',
): { readonly code: 'text-too-short'; readonly message: string; readonly whatToDo: string } | null {
  if (fitsContext(tokenCount, contextLength)) return null;
  return {
    code: 'text-too-short',
    message:
      tokenCount === 0
        ? 'There is no text yet.'
        : `The text has ${tokenCount} ${unit}, and the model looks at ${contextLength} at a time.`,
    whatToDo:
      tokenCount === 0
        ? 'Paste some text, or drop a .txt file.'
        : `Give it a longer text, or set the context to ${Math.max(2, tokenCount)} or less.`,
  };
}
