/** A model of GPT-2 small's size within WebGPU's default limits, which the device enforces: planned, and trained for one step. */
import { expect, test } from 'vitest';
import { parameterCount } from '../../src/model/parameters.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import { nodeGpu, sharedEngine } from './harness.ts';
import { settings } from './trainer-fixtures.ts';

const longestContext = 1024;
/** A step at the whole context takes 0.8 TFLOP: a minute and a half on lavapipe with two cores. */
const contextLength = process.env['COTRAIN_TEST_LARGE'] === '1' ? longestContext : 64;
const model = {
  ...settings.model,
  model_type: 'llama',
  vocab_size: 50_257,
  hidden_size: 768,
  intermediate_size: 2048,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  num_key_value_heads: 12,
  head_dim: 64,
  max_position_embeddings: longestContext,
  dropout: 0,
} as const;
const { profile } = await sharedEngine();
const engineOptions = { clampToDefaultLimits: true };

test('124 million parameters at context 1,024 and 50,257 tokens are planned', async () => {
  expect(Math.round(parameterCount(model) / 1e6)).toBe(124);
  const trainer = createGpuTrainer({ gpu: nodeGpu(), engineOptions });
  const { gpuBytes } = await trainer.prepare({ ...settings, model, contextLength: longestContext, rowsPerMicrobatch: 1 });
  // Weights and gradients are 943 MiB.
  expect(gpuBytes).toBeLessThan(1.3e9);
  await trainer.dispose();
});

test.skipIf(profile.name.includes('SwiftShader'))(`they train for one step at context ${contextLength}`, async () => {
  const trainer = createGpuTrainer({ gpu: nodeGpu(), engineOptions });
  await trainer.prepare({ ...settings, model, contextLength, rowsPerMicrobatch: 1 });
  const before = await trainer.initialize();
  const inputIds = Uint32Array.from({ length: contextLength }, (_, at) => (at * 4871) % model.vocab_size);
  const targets = inputIds.map((_, at) => inputIds[at + 1] ?? 0);
  const lossWeights = Float32Array.from(inputIds, (_, at) => Number(at < contextLength - 1));
  const rows = { rows: 1, contextLength, inputIds, targets, lossWeights };
  const { lossSum, weightSum } = await trainer.computeGradients({ assignment: 'all', step: 0, microbatches: [{ index: 0, rows }] });
  expect(Math.abs(lossSum / weightSum / Math.log(model.vocab_size) - 1)).toBeLessThan(0.02);
  await trainer.beginStep(0);
  await trainer.addOwnContribution('all');
  const { applied, gradNorm, replicaHash } = await trainer.commit(0, weightSum, { encodeUpdate: false, encodeGradient: false });
  expect(applied).toBe(true);
  expect(gradNorm).toBeGreaterThan(0);
  expect(replicaHash).not.toBe(before);
  await trainer.dispose();
}, 300_000);
