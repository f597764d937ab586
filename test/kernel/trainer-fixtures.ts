/** Small runs for the trainer's tests. */
import { corpusBatches } from '../../src/data/batches.ts';
import type { ScheduleChange } from '../../src/optim/index.ts';
import type { MemoryBatchSource, MicrobatchRows } from '../../src/data/types.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import type { CommitResult, GradientJob, Trainer, TrainerSettings } from '../../src/trainer/types.ts';
import { nodeGpu } from './harness.ts';

/** A decoder of odd sizes on rows of 12 tokens of `abc…`; 3 micro-batches of 2 rows make a step. */
export const settings: TrainerSettings = {
  model: {
    model_type: 'qwen3',
    vocab_size: 5,
    hidden_size: 20,
    intermediate_size: 28,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
    max_position_embeddings: 12,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000,
    tie_word_embeddings: true,
    initializer_range: 0.02,
    dropout: 0.1,
  },
  contextLength: 12,
  rowsPerMicrobatch: 2,
  optimizer: {
    learningRate: 1e-2,
    minLearningRate: 1e-3,
    warmupSteps: 4,
    schedule: 'cosine',
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weightDecay: 0.1,
    gradientClip: 1,
  },
  steps: 100,
  seed: 3,
};

export const pattern = [0, 1, 2];

export function patternSource(): MemoryBatchSource {
  const tokens = Uint32Array.from({ length: 300 }, (_, at) => pattern[at % pattern.length] ?? 0);
  return corpusBatches(tokens, {
    rowsPerStep: 6,
    rowsPerMicrobatch: settings.rowsPerMicrobatch,
    contextLength: settings.contextLength,
    order: 'shuffled',
    seed: settings.seed,
    validationShare: 0,
  });
}

/** A trainer with its run planned. Weights are undefined. */
export async function preparedTrainer(gpu: GPU = nodeGpu(), changes: Partial<TrainerSettings> = {}): Promise<Trainer> {
  const trainer = createGpuTrainer({ gpu });
  await trainer.prepare({ ...settings, ...changes });
  return trainer;
}

export function jobOf(source: MemoryBatchSource, step: number, indices: readonly number[]): GradientJob {
  return {
    assignment: `${step}:${indices.join()}`,
    step,
    microbatches: indices.map((index) => ({ index, rows: source.draw(step, index) })),
  };
}

export const allIndices = [0, 1, 2];

export interface SoloStep extends CommitResult {
  readonly loss: number;
}

/** One step of a coordinator that is alone. */
export async function soloStep(
  trainer: Trainer,
  source: MemoryBatchSource,
  step: number,
  { rows: change = (rows) => rows, changes = [] }: { readonly rows?: (rows: MicrobatchRows) => MicrobatchRows; readonly changes?: readonly ScheduleChange[] } = {},
): Promise<SoloStep> {
  const job = jobOf(source, step, allIndices);
  const microbatches = job.microbatches.map(({ index, rows }) => ({ index, rows: change(rows) }));
  await trainer.beginStep(step);
  const { lossSum, weightSum } = await trainer.computeGradients({ ...job, microbatches });
  await trainer.addOwnContribution(job.assignment);
  return { ...(await trainer.commit(step, weightSum, { encodeUpdate: false, encodeGradient: false, changes })), loss: lossSum / weightSum };
}
