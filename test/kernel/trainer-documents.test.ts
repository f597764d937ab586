/** A trainer whose run keeps documents apart: rows that several share teach it what rows of their own would. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memoryBatches } from '../../src/data/batches.ts';
import type { CorpusOptions } from '../../src/data/batches.ts';
import { memoryCorpus } from '../../src/data/corpus.ts';
import type { Trainer, TrainerSettings } from '../../src/trainer/types.ts';
import { relativeError } from './check-op.ts';
import { jobOf, preparedTrainer, settings } from './trainer-fixtures.ts';

const model = { ...settings.model, dropout: 0 };
const documents = [5, 3, 4, 7, 5].map((length, document) => ({
  ids: Uint32Array.from({ length }, (_, at) => (3 * document + at * at) % model.vocab_size),
  weights: Float32Array.from({ length }, (_, at) => (at + document) % 3),
}));
const corpus = memoryCorpus(documents);
const options: CorpusOptions = { rowsPerStep: 2, rowsPerMicrobatch: 2, contextLength: 12, order: 'sequential', seed: 1, validationShare: 0 };
const packed = memoryBatches(corpus, { ...options, rowLayout: 'packed', keepDocumentsApart: true });
const single = memoryBatches(corpus, { ...options, rowsPerStep: documents.length, rowLayout: 'single' });

const trainers: Trainer[] = [];
async function learned(changes: Partial<TrainerSettings>, source: typeof packed): Promise<{ readonly lossSum: number; readonly weightSum: number; readonly gradients: Float32Array }> {
  const trainer = await preparedTrainer(undefined, { model, ...changes });
  trainers.push(trainer);
  await trainer.initialize();
  await trainer.beginStep(0);
  const job = jobOf(source, 0, Array.from({ length: source.microbatchesPerStep }, (_, index) => index));
  const { lossSum, weightSum } = await trainer.computeGradients(job);
  await trainer.addOwnContribution(job.assignment);
  const named = await trainer.namedGradients(0, weightSum);
  return { lossSum, weightSum, gradients: Float32Array.from([...named.values()].flatMap((values) => [...values])) };
}

let together: Awaited<ReturnType<typeof learned>>;
let apart: Awaited<ReturnType<typeof learned>>;
beforeAll(async () => {
  together = await learned({ keepDocumentsApart: true }, packed);
  apart = await learned({}, single);
});
afterAll(async () => {
  for (const trainer of trainers) await trainer.dispose();
});

describe('a trainer that keeps documents apart', () => {
  it('has the loss and the gradients of documents in rows of their own', () => {
    expect(packed.microbatchesPerStep).toBeLessThan(single.microbatchesPerStep);
    expect(together.weightSum).toBe(apart.weightSum);
    expect(Math.abs(together.lossSum / apart.lossSum - 1)).toBeLessThan(1e-5);
    expect(relativeError(together.gradients, apart.gradients)).toBeLessThan(1e-5);
  });

  it('evaluates them so, and refuses rows that do not say where documents begin', async () => {
    const [trainer, other] = trainers;
    if (trainer === undefined || other === undefined) throw new Error('no trainers');
    expect(await trainer.evaluate([packed.draw(0, 0)])).toBeCloseTo(together.lossSum / together.weightSum, 5);
    await expect(trainer.evaluate([single.draw(0, 0)])).rejects.toThrow(RangeError);
    await expect(other.computeGradients(jobOf(packed, 0, [0]))).rejects.toThrow(/with documents’ borders/);
  });
});
