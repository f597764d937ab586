/** A device's own steps between two of the room's, against the same steps taken by trainers without any. */
import { afterEach, describe, expect, test } from 'vitest';
import { corpusBatches } from '../../src/data/batches.ts';
import type { MemoryBatchSource } from '../../src/data/types.ts';
import type { EngineOptions } from '../../src/engine/index.ts';
import type { Precision } from '../../src/model/decoder.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import { groupsOf } from '../../src/trainer/local-groups.ts';
import type { GradientJob, Trainer, TrainerSettings } from '../../src/trainer/types.ts';
import { oddSettings } from '../following-contract.ts';
import { relativeError } from './check-op.ts';
import { nodeGpu } from './harness.ts';

const localSteps = 3;
const microbatchesPerStep = 7;
const rounds = 4;
const limits = { maxStorageBufferBindingBytes: 16 * 1024, maxBufferBytes: 24 * 1024 };
const odd = oddSettings(6);
/** Dropout draws by the room's step, which here is not that of the trainer compared with. */
const plain: TrainerSettings = { ...odd, model: { ...odd.model, dropout: 0 }, steps: 16 * localSteps, optimizer: { ...odd.optimizer, warmupSteps: 2 * localSteps } };

/** A step of the room is as many of AdamW. */
function withLocalSteps(outer: { readonly outerLearningRate: number; readonly outerMomentum: number }): TrainerSettings {
  return { ...plain, localSteps, steps: 16, optimizer: { ...plain.optimizer, warmupSteps: 2, ...outer } };
}

const source: MemoryBatchSource = corpusBatches(
  Uint32Array.from({ length: 300 }, (_, at) => (at * at) % plain.model.vocab_size),
  { rowsPerStep: microbatchesPerStep, rowsPerMicrobatch: 1, contextLength: plain.contextLength, order: 'shuffled', seed: 5, validationShare: 0 },
);

/** Of the room's step. */
function jobOf(round: number, indices: readonly number[]): GradientJob {
  return { assignment: `${round}:${indices.join()}`, step: round, microbatches: indices.map((index) => ({ index, rows: source.draw(round, index) })) };
}

/** The device's steps of this job, taken by a trainer that knows of no room. */
async function stepsOfJob(alone: Trainer, { step: round, microbatches }: GradientJob): Promise<number> {
  let weight = 0;
  for (const [at, group] of groupsOf(microbatches, localSteps).entries()) {
    const step = round * localSteps + at;
    await alone.beginStep(step);
    const { weightSum } = await alone.computeGradients({ assignment: String(step), step, microbatches: group });
    await alone.addOwnContribution(String(step));
    await alone.commit(step, weightSum, { encodeUpdate: false, encodeGradient: false });
    weight += weightSum;
  }
  return weight;
}

async function open(settings: TrainerSettings, engineOptions: EngineOptions = { limits }): Promise<{ readonly trainer: Trainer; readonly precision: Precision }> {
  const trainer = createGpuTrainer({ gpu: nodeGpu(), engineOptions });
  const { precision } = await trainer.prepare(settings);
  await trainer.initialize();
  return { trainer, precision };
}

async function weightsOf(trainer: Trainer): Promise<Float32Array> {
  return new Float32Array((await trainer.replica()).bytes);
}

test('groups of micro-batches are in order, as equal as can be, and none is empty', () => {
  expect(groupsOf([1, 2, 3, 4, 5, 6, 7], 3)).toEqual([[1, 2], [3, 4], [5, 6, 7]]);
  expect(groupsOf([1, 2], 30)).toEqual([[1], [2]]);
  expect(groupsOf([1, 2, 3], 1)).toEqual([[1, 2, 3]]);
});

describe('local steps', () => {
  const opened: Trainer[] = [];
  const opens = async (settings: TrainerSettings): Promise<Trainer> => {
    const { trainer } = await open(settings);
    opened.push(trainer);
    return trainer;
  };
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((trainer) => trainer.dispose()));
  });

  test('of a device that is alone, whose changes are taken as they are, are AdamW', async () => {
    const [room, alone] = await Promise.all([opens(withLocalSteps({ outerLearningRate: 1, outerMomentum: 0 })), opens(plain)]);
    for (let round = 0; round < rounds; round++) {
      const job = jobOf(round, Array.from({ length: microbatchesPerStep }, (_, index) => index));
      await room.beginStep(round);
      const { weightSum } = await room.computeGradients(job);
      await room.addOwnContribution(job.assignment);
      expect(await room.commit(round, weightSum, { encodeUpdate: false, encodeGradient: false })).toMatchObject({ applied: true });
      await stepsOfJob(alone, job);
      expect(relativeError(await weightsOf(room), await weightsOf(alone)), `round ${round}`).toBeLessThan(1e-6);
    }
  });

  test('of two devices, each with moments of its own, come to the mean by tokens, with outer momentum', async () => {
    const outer = { outerLearningRate: 0.7, outerMomentum: 0.9 };
    const [leader, member] = await Promise.all([opens(withLocalSteps(outer)), opens(withLocalSteps(outer))]);
    const alone = await Promise.all([opens(plain), opens(plain)]);
    const velocity = new Float64Array((await weightsOf(leader)).length);
    const shares = [[0, 1, 2, 3], [4, 5, 6]];
    for (let round = 0; round < rounds; round++) {
      const before = await weightsOf(leader);
      const [own, other] = shares.map((share) => jobOf(round, share)) as [GradientJob, GradientJob];
      await leader.beginStep(round);
      const results = [await leader.computeGradients(own), await member.computeGradients(other)];
      await leader.addOwnContribution(own.assignment);
      await leader.addContribution(round, await member.takeContribution(other.assignment));
      const weightSum = results.reduce((sum, result) => sum + result.weightSum, 0);
      const { update } = await leader.commit(round, weightSum, { encodeUpdate: true, encodeGradient: false });
      await member.applyUpdate(round, update ?? new ArrayBuffer(0));
      expect((await member.replica()).hash).toBe((await leader.replica()).hash);

      const expected = Float64Array.from(before);
      const mean = new Float64Array(before.length);
      for (const [at, trainer] of alone.entries()) {
        const { firstMoments, secondMoments } = await trainer.masterState();
        await trainer.restore({ step: round * localSteps, weights: before.slice().buffer, firstMoments, secondMoments });
        const weight = await stepsOfJob(trainer, at === 0 ? own : other);
        (await weightsOf(trainer)).forEach((value, i) => (mean[i] = (mean[i] ?? 0) + (((before[i] ?? 0) - value) * weight) / weightSum));
      }
      mean.forEach((change, i) => {
        velocity[i] = outer.outerMomentum * (velocity[i] ?? 0) + change;
        expected[i] = (expected[i] ?? 0) - outer.outerLearningRate * (change + outer.outerMomentum * (velocity[i] ?? 0));
      });
      expect(relativeError(await weightsOf(leader), expected), `round ${round}`).toBeLessThan(1e-5);
    }
  });

  test('learn in mixed precision what they learn in f32, where the adapter has f16', async ({ skip }) => {
    const settings = withLocalSteps({ outerLearningRate: 1, outerMomentum: 0 });
    const [exact, mixed] = await Promise.all([open(settings, {}), open({ ...settings, precision: 'mixed' }, {})]);
    opened.push(exact.trainer, mixed.trainer);
    if (mixed.precision !== 'mixed') skip('this adapter has no usable f16');
    const losses = await Promise.all(
      [exact, mixed].map(async ({ trainer }) => {
        const all: number[] = [];
        for (let round = 0; round < rounds; round++) {
          const job = jobOf(round, Array.from({ length: microbatchesPerStep }, (_, index) => index));
          await trainer.beginStep(round);
          const { lossSum, weightSum } = await trainer.computeGradients(job);
          await trainer.addOwnContribution(job.assignment);
          expect(await trainer.commit(round, weightSum, { encodeUpdate: false, encodeGradient: false })).toMatchObject({ applied: true });
          all.push(lossSum / weightSum);
        }
        return all;
      }),
    );
    const [inF32 = [], inF16 = []] = losses;
    expect(inF32).toHaveLength(rounds);
    inF16.forEach((loss, round) => expect(Math.abs(loss / (inF32[round] ?? Number.NaN) - 1), `round ${round}`).toBeLessThan(0.01));
    expect(inF16.at(-1)).toBeLessThan(inF16[0] ?? 0);
  });

  test('leave the replica as it is, also for samples and evaluations in between, and forget a job that was cancelled', async () => {
    const room = await opens(withLocalSteps({ outerLearningRate: 1, outerMomentum: 0 }));
    const { hash } = await room.replica();
    const loss = await room.evaluate([source.draw(0, 0)]);
    const job = jobOf(0, [0, 1, 2]);
    const computing = room.computeGradients(job);
    room.cancel(job.assignment);
    expect(await computing).toMatchObject({ cancelled: true });
    await expect(room.takeContribution(job.assignment)).rejects.toThrow(RangeError);
    await room.computeGradients(job);
    expect((await room.replica()).hash).toBe(hash);
    expect(await room.evaluate([source.draw(0, 0)])).toBe(loss);
  });
});
