/** Small decoders with weights that tell, and our own greedy text of them: what other programs are compared with. */
import { parseConfig } from '../../src/model/config.ts';
import { initialWeights } from '../../src/model/initial.ts';
import type { DecoderConfig } from '../../src/model/types.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import { nodeGpu } from './harness.ts';

export const contextLength = 128;

export function tinyDecoder(type: 'llama' | 'qwen3', vocabularySize: number, isTied: boolean): DecoderConfig {
  return parseConfig({
    model_type: type,
    vocab_size: vocabularySize,
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 24,
    max_position_embeddings: contextLength,
    rope_theta: 10_000,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: isTied,
    // Large enough that every layer has a say in which token comes next.
    initializer_range: 0.3,
  });
}

/** Fresh weights whose norms are not all one. */
export function tellingWeights(config: DecoderConfig): Float32Array<ArrayBuffer> {
  return initialWeights(config, 11).map((value, at) => (value === 1 ? 1 + 0.3 * Math.sin(at) : value));
}

export async function greedyText(config: DecoderConfig, weights: Float32Array<ArrayBuffer>, promptIds: readonly number[], maxNewTokens: number): Promise<readonly number[]> {
  const trainer = createGpuTrainer({ gpu: nodeGpu() });
  try {
    const optimizer = { learningRate: 1e-3, minLearningRate: 0, warmupSteps: 0, schedule: 'constant', beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0, gradientClip: 0 } as const;
    await trainer.prepare({ model: config, contextLength, rowsPerMicrobatch: 1, optimizer, steps: 1, seed: 1 });
    await trainer.loadReplica(0, weights.slice().buffer);
    return (await trainer.sample({ promptIds, maxNewTokens, temperature: 0, seed: 1 })).ids;
  } finally {
    await trainer.dispose();
  }
}
