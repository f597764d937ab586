/** Training with f16 activations: how far from f32 it is, and what becomes of jobs whose numbers f16 can't hold. */
import { expect, test } from 'vitest';
import type { MicrobatchRows } from '../../src/data/types.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import type { GradientJob, Trainer, TrainerSettings } from '../../src/trainer/types.ts';
import { withoutFeatures } from '../wrapped-gpu.ts';
import { relativeError } from './check-op.ts';
import { nodeGpu, sharedEngine } from './harness.ts';
import { allIndices, jobOf, patternSource, settings, soloStep } from './trainer-fixtures.ts';

const { profile } = await sharedEngine();
const source = patternSource();

async function opened(precision: 'f32' | 'mixed', model: Partial<TrainerSettings['model']> = {}): Promise<Trainer> {
  const trainer = createGpuTrainer({ gpu: nodeGpu() });
  const info = await trainer.prepare({ ...settings, model: { ...settings.model, ...model }, precision });
  expect(info.precision).toBe(precision);
  await trainer.initialize();
  return trainer;
}

async function gradientsOf(trainer: Trainer, job: GradientJob) {
  const { lossSum } = await trainer.computeGradients(job);
  return { lossSum, gradients: new Float32Array(await trainer.takeContribution(job.assignment)) };
}

function changed(job: GradientJob, change: (rows: MicrobatchRows) => Partial<MicrobatchRows>): GradientJob {
  return { ...job, microbatches: job.microbatches.map(({ index, rows }) => ({ index, rows: { ...rows, ...change(rows) } })) };
}

test.skipIf(!profile.hasF16)('it learns as f32 does', async () => {
  const [exact, mixed] = [await opened('f32'), await opened('mixed')];
  for (let step = 0; step < 30; step++) {
    const [wanted, got] = [await soloStep(exact, source, step), await soloStep(mixed, source, step)];
    expect(Math.abs(got.loss - wanted.loss), `loss of step ${step}`).toBeLessThan(0.005 * wanted.loss);
    expect(Math.abs(got.gradNorm - wanted.gradNorm), `gradient norm of step ${step}`).toBeLessThan(0.05 * wanted.gradNorm);
  }
  await Promise.all([exact.dispose(), mixed.dispose()]);
});

test.skipIf(!profile.hasF16)('gradients that overflow f16 at one scale are computed again at a smaller one', async () => {
  const [exact, mixed] = [await opened('f32'), await opened('mixed')];
  // At the first scale of 64 a cotangent of the logits is 64 × 4,000, and f16 ends at 65,504.
  const job = changed(jobOf(source, 0, allIndices), ({ lossWeights }) => ({ lossWeights: lossWeights.map((weight) => weight * 4000) }));
  const [wanted, got] = [await gradientsOf(exact, job), await gradientsOf(mixed, job)];
  expect(got.lossSum / wanted.lossSum).toBeCloseTo(1, 3);
  expect(relativeError(got.gradients, wanted.gradients)).toBeLessThan(1e-2);
  expect(got.gradients, 'computed in f16 all the same').not.toEqual(wanted.gradients);
  await Promise.all([exact.dispose(), mixed.dispose()]);
});

test.skipIf(!profile.hasF16)('a job that f16 can’t hold at any scale is computed in f32', async () => {
  // Weights of about 1,000: gate times up is past what f16 holds.
  const [exact, mixed] = [await opened('f32', { initializer_range: 1000 }), await opened('mixed', { initializer_range: 1000 })];
  const job = jobOf(source, 0, allIndices);
  const [wanted, got] = [await gradientsOf(exact, job), await gradientsOf(mixed, job)];
  expect(Number.isFinite(wanted.lossSum)).toBe(true);
  expect(got).toEqual(wanted);
  await Promise.all([exact.dispose(), mixed.dispose()]);
});

test('f32 is what a GPU without f16 computes with', async () => {
  const trainer = createGpuTrainer({ gpu: withoutFeatures(nodeGpu(), ['shader-f16']) });
  expect(await trainer.prepare({ ...settings, precision: 'mixed' })).toMatchObject({ precision: 'f32' });
  await trainer.dispose();
});
