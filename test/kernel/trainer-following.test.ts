/** A successor on a real adapter, whose flat buffers are in several parts. */
import { expect, test } from 'vitest';
import { CodecError } from '../../src/codec/types.ts';
import { partLengths } from '../../src/engine/ranges.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import type { Trainer, TrainerSettings } from '../../src/trainer/types.ts';
import { followingContract, oddSettings } from '../following-contract.ts';
import { nodeGpu } from './harness.ts';

const seed = 4;
const settings = oddSettings(seed);
const layout = parameterLayoutOf(settings.model);
const limits = { maxStorageBufferBindingBytes: 16 * 1024, maxBufferBytes: 24 * 1024 };

async function open(run: TrainerSettings): Promise<Trainer> {
  const trainer = createGpuTrainer({ gpu: nodeGpu(), engineOptions: { limits } });
  await trainer.prepare(run);
  return trainer;
}

followingContract('the GPU', seed, open, (trainer) => trainer.dispose());
followingContract('the GPU', seed, open, (trainer) => trainer.dispose(), { codec: 'int8' });
followingContract('the GPU', seed, open, (trainer) => trainer.dispose(), { codec: 'auto', localSteps: 2 });

test('a gradient whose norm f32 can not hold is refused, and nothing has changed', async () => {
  expect(partLengths(layout, limits).length).toBeGreaterThan(1);
  const trainer = await open(settings);
  await trainer.initialize();
  const { step, bytes, hash } = await trainer.replica();
  await trainer.beginFollowing();
  const gradient = new Float32Array(layout.totalElements).fill(1e30).buffer;
  await expect(trainer.applyUpdate(step, bytes.slice(0), { gradient, weightSum: 1, learningRate: 1e-3 })).rejects.toThrow(CodecError);
  expect((await trainer.replica()).hash).toBe(hash);
  const zeros = new ArrayBuffer(bytes.byteLength);
  for (const part of ['firstMoments', 'secondMoments'] as const) await trainer.writeMaster(step, part, 0, zeros.slice(0));
  expect(new Float32Array((await trainer.masterState()).secondMoments).every((value) => value === 0)).toBe(true);
  await trainer.dispose();
});
