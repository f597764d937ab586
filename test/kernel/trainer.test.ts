/** The trainer on a real adapter: shared steps equal lone ones, and nothing wrong is ever applied. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { MicrobatchRows } from '../../src/data/types.ts';
import type { Trainer } from '../../src/trainer/types.ts';
import type { SoloStep } from './trainer-fixtures.ts';
import { allIndices, jobOf, patternSource, preparedTrainer, settings, soloStep } from './trainer-fixtures.ts';

const source = patternSource();

// Two trainers serve all tests: planning one takes seconds on a software adapter. Each test starts them afresh.
let trainer: Trainer;
let second: Trainer;
beforeAll(async () => {
  [trainer, second] = await Promise.all([preparedTrainer(), preparedTrainer()]);
});
beforeEach(async () => {
  await Promise.all([trainer.initialize(), second.initialize()]);
});
afterAll(async () => {
  await Promise.all([trainer.dispose(), second.dispose()]);
});

const prompt = [1, 2, 0, 1, 2, 0, 1, 2, 0];

function bytes(buffer: ArrayBuffer | null | undefined): Buffer {
  return Buffer.from(buffer ?? new ArrayBuffer(0));
}

describe('a step shared by two trainers', () => {
  test('has the loss of one that computes everything, and leaves both replicas bit-identical', async () => {
    const steps = 8;
    const lone: SoloStep[] = [];
    for (let step = 0; step < steps; step++) lone.push(await soloStep(trainer, source, step));
    const [coordinator, member] = [trainer, second];
    await coordinator.initialize();
    const replica = await coordinator.replica();
    expect(await member.loadReplica(replica.step, replica.bytes)).toBe(replica.hash);
    for (const [step, expected] of lone.entries()) {
      const [own, other] = [jobOf(source, step, [1]), jobOf(source, step, [2, 0])];
      await coordinator.beginStep(step);
      const results = await Promise.all([coordinator.computeGradients(own), member.computeGradients(other)]);
      await coordinator.addContribution(step, await member.takeContribution(other.assignment));
      await coordinator.addOwnContribution(own.assignment);
      const weightSum = results[0].weightSum + results[1].weightSum;
      const committed = await coordinator.commit(step, weightSum, { encodeUpdate: true, encodeGradient: false });
      const loss = (results[0].lossSum + results[1].lossSum) / weightSum;
      expect(Math.abs(loss - expected.loss) / expected.loss, `loss of step ${step}`).toBeLessThan(1e-4);
      expect(Math.abs(committed.gradNorm - expected.gradNorm) / expected.gradNorm, `norm of step ${step}`).toBeLessThan(1e-4);
      expect(committed.learningRate).toBe(expected.learningRate);
      expect(committed.update).not.toBeNull();
      expect(await member.applyUpdate(step, committed.update ?? new ArrayBuffer(0))).toBe(committed.replicaHash);
    }
    const [a, b] = [await coordinator.replica(), await member.replica()];
    expect(bytes(b.bytes).equals(bytes(a.bytes))).toBe(true);
    expect([b.step, b.hash]).toEqual([steps, a.hash]);
  });
});

describe.each(['bf16', 'int8'] as const)('contributions in %s', (codec) => {
  const [share, tolerance] = ({ bf16: [1 / 2, 2e-5], int8: [1 / 3.9, 2e-4] } as const)[codec];
  /** Slow enough that the fall of the loss, on which every difference grows, does not come before the end. */
  const optimizer = { ...settings.optimizer, learningRate: 1e-3, minLearningRate: 1e-4 };
  let alone: Trainer;
  let coordinator: Trainer;
  let member: Trainer;
  beforeAll(async () => {
    [alone, coordinator, member] = await Promise.all([preparedTrainer(undefined, { optimizer }), preparedTrainer(undefined, { codec, optimizer }), preparedTrainer(undefined, { codec, optimizer })]);
  });
  afterAll(async () => {
    await Promise.all([alone.dispose(), coordinator.dispose(), member.dispose()]);
  });

  test('take their share of the bytes, and the room learns as one that computes everything', async () => {
    const steps = 20;
    await alone.initialize();
    const lone: SoloStep[] = [];
    for (let step = 0; step < steps; step++) lone.push(await soloStep(alone, source, step));
    const fp32Bytes = (await alone.replica()).bytes.byteLength;
    await coordinator.initialize();
    const replica = await coordinator.replica();
    await member.loadReplica(replica.step, replica.bytes);
    for (const [step, expected] of lone.entries()) {
      const [own, other] = [jobOf(source, step, [1]), jobOf(source, step, [2, 0])];
      await coordinator.beginStep(step);
      const results = await Promise.all([coordinator.computeGradients(own), member.computeGradients(other)]);
      const contribution = await member.takeContribution(other.assignment);
      expect(contribution.byteLength).toBeLessThanOrEqual(share * fp32Bytes);
      await coordinator.addContribution(step, contribution);
      await coordinator.addOwnContribution(own.assignment);
      const weightSum = results[0].weightSum + results[1].weightSum;
      const committed = await coordinator.commit(step, weightSum, { encodeUpdate: true, encodeGradient: false });
      const loss = (results[0].lossSum + results[1].lossSum) / weightSum;
      expect(Math.abs(loss - expected.loss) / expected.loss, `loss of step ${step}`).toBeLessThan(tolerance);
      expect(await member.applyUpdate(step, committed.update ?? new ArrayBuffer(0))).toBe(committed.replicaHash);
    }
  });

  test('are refused as a whole when they can’t be any', async () => {
    await coordinator.initialize();
    await coordinator.beginStep(0);
    const wrong = new Uint8Array((await coordinator.replica()).bytes.byteLength).fill(255).buffer;
    await expect(coordinator.addContribution(0, wrong)).rejects.toMatchObject({ name: 'CodecError' });
  });
});

describe('training alone', () => {
  test('learns the pattern, and a greedy sample continues it past the context', async () => {
    let loss = Number.NaN;
    for (let step = 0; step < 60; step++) ({ loss } = await soloStep(trainer, source, step));
    expect(loss).toBeLessThan(0.3); // ln 5 = 1.61 before; the first token of a row can't be known, and dropout is on.
    const held = await trainer.evaluate([source.draw(1000, 0), source.draw(1000, 1)]);
    expect(held).toBeLessThan(0.2);
    const { ids: sampled } = await trainer.sample({ promptIds: prompt, maxNewTokens: 15, temperature: 0, seed: 1 });
    expect(sampled).toEqual([1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
  });

  test('starts near the loss of guessing', async () => {
    const { loss } = await soloStep(trainer, source, 0);
    expect(Math.abs(loss - Math.log(settings.model.vocab_size)) / Math.log(settings.model.vocab_size)).toBeLessThan(0.05);
  });

  test('goes on bit-identically from a restored state', async () => {
    for (let step = 0; step < 3; step++) await soloStep(trainer, source, step);
    await soloStep(second, source, 0); // What it did before must not matter.
    const hash = await second.restore(await trainer.masterState());
    expect(hash).toBe((await trainer.replica()).hash);
    for (let step = 3; step < 6; step++) {
      const [a, b] = [await soloStep(trainer, source, step), await soloStep(second, source, step)];
      expect(b).toEqual(a);
    }
  });

  test('follows a changed schedule from its step on, the same after a restore', async () => {
    const changes = [{ step: 1, learningRate: 5e-3, steps: 50 }];
    const begun = await soloStep(trainer, source, 0, { changes });
    const state = await trainer.masterState();
    const changed = await soloStep(trainer, source, 1, { changes });
    await second.restore(state);
    const restored = await soloStep(second, source, 1, { changes });
    expect([begun.learningRate, changed.learningRate]).toEqual([1e-2 / 5, (5e-3 * 2) / 5]);
    expect(restored).toEqual(changed);
  });

  test('gives bit-identical gradients ten times over', async () => {
    const job = jobOf(source, 0, allIndices);
    const answers: { lossSum: number; gradients: Buffer }[] = [];
    for (let repeat = 0; repeat < 10; repeat++) {
      const { lossSum } = await trainer.computeGradients(job);
      answers.push({ lossSum, gradients: bytes(await trainer.takeContribution(job.assignment)) });
    }
    const [first] = answers;
    for (const { lossSum, gradients } of answers) {
      expect(lossSum).toBe(first?.lossSum);
      expect(gradients.equals(first?.gradients ?? Buffer.of())).toBe(true);
    }
    expect(first?.gradients.some((byte) => byte !== 0)).toBe(true);
  });

  test('draws dropout by micro-batch: the same index alone or in company gives the same loss, another does not', async () => {
    const rows = source.draw(0, 0);
    const lossOf = async (index: number): Promise<number> => {
      const { lossSum } = await trainer.computeGradients({ assignment: 'a', step: 0, microbatches: [{ index, rows }] });
      return lossSum;
    };
    const alone = await lossOf(0);
    const both = await trainer.computeGradients(jobOf(source, 0, [1, 0]));
    const other = await trainer.computeGradients(jobOf(source, 0, [1]));
    expect(both.lossSum - other.lossSum).toBeCloseTo(alone, 4);
    expect(await lossOf(7)).not.toBe(alone);
  });
});

describe('the sum of a step', () => {
  let good: ArrayBuffer;
  beforeEach(async () => {
    const job = jobOf(source, 0, [0]);
    await trainer.computeGradients(job);
    good = await trainer.takeContribution(job.assignment);
  });

  async function sums(): Promise<Buffer> {
    const gradients = await trainer.namedGradients(0, 1);
    return Buffer.concat([...gradients.values()].map((values) => Buffer.from(values.buffer.slice(0))));
  }

  test.each([
    ['holds a number that is not finite', () => withValue(good, 11, Number.NaN)],
    ['is infinite somewhere', () => withValue(good, 0, Infinity)],
    ['is too short', () => good.slice(0, -4)],
    ['is empty', () => new ArrayBuffer(0)],
  ])('refuses a contribution that %s, and stays as it was', async (_, make) => {
    await trainer.beginStep(0);
    await trainer.addContribution(0, good.slice(0));
    const before = await sums();
    await expect(trainer.addContribution(0, make())).rejects.toThrow(/contribution/);
    expect((await sums()).equals(before)).toBe(true);
    expect(before.some((byte) => byte !== 0)).toBe(true);
  });

  test('refuses a contribution to another step', async () => {
    await trainer.beginStep(0);
    await expect(trainer.addContribution(1, good.slice(0))).rejects.toThrow('step');
  });

  test('starts at nothing: what an earlier attempt added is gone', async () => {
    await trainer.beginStep(0);
    await trainer.addContribution(0, good.slice(0));
    const once = await sums();
    await trainer.addContribution(0, good.slice(0));
    expect((await sums()).equals(once)).toBe(false);
    await trainer.beginStep(0);
    await trainer.addContribution(0, good.slice(0));
    expect((await sums()).equals(once)).toBe(true);
  });
});

function withValue(buffer: ArrayBuffer, at: number, value: number): ArrayBuffer {
  const copy = new Float32Array(buffer.slice(0));
  copy[at] = value;
  return copy.buffer;
}

describe('a step that is not finite', () => {
  test('is not applied; weights and moments stay, and the next good step is as if it had not been', async () => {
    for (const each of [trainer, second]) await soloStep(each, source, 0);
    const before = await trainer.replica();
    const poison = (rows: MicrobatchRows): MicrobatchRows => ({
      ...rows,
      lossWeights: rows.lossWeights.map((weight, at) => (at === 3 ? Infinity : weight)),
    });
    const refused = await soloStep(trainer, source, 1, { rows: (rows) => poison(rows) }).catch((error: unknown) => error);
    expect(refused, 'a weight sum that is no number').toBeInstanceOf(RangeError);

    const job = jobOf(source, 1, allIndices);
    const poisoned = job.microbatches.map(({ index, rows }) => ({ index, rows: poison(rows) }));
    await trainer.beginStep(1);
    const { lossSum } = await trainer.computeGradients({ ...job, microbatches: poisoned });
    expect(Number.isFinite(lossSum)).toBe(false);
    await trainer.addOwnContribution(job.assignment);
    const committed = await trainer.commit(1, 60, { encodeUpdate: true, encodeGradient: false });
    expect(committed).toMatchObject({ applied: false, update: null, replicaHash: before.hash });
    expect(await trainer.replica()).toEqual(before);
    expect(await trainer.explainNonFinite({ ...job, microbatches: poisoned })).toMatch(
      /first op .* is linearCrossEntropy with model\.embed_tokens\.weight: \d+ of them, in micro-batch 0$/,
    );
    expect(await trainer.explainNonFinite(job)).toBeNull();
    expect(await soloStep(trainer, source, 1)).toEqual(await soloStep(second, source, 1));
  });
});

describe('calls', () => {
  test('cancelled before their turn compute nothing, and the sums can not be taken', async () => {
    const job = jobOf(source, 0, allIndices);
    const running = trainer.computeGradients(job);
    trainer.cancel(job.assignment);
    expect(await running).toMatchObject({ cancelled: true, tokens: 0 });
    await expect(trainer.takeContribution(job.assignment)).rejects.toThrow('no gradients');
    expect(await trainer.computeGradients(job), 'the same assignment may be tried again').toMatchObject({ cancelled: false });
  });

  test('cancelled under way stop after the micro-batch that is being written', async () => {
    const job = jobOf(source, 0, [0, 1, 2, 0, 1, 2]);
    const microbatches = job.microbatches.map(({ index, rows }, at) => ({
      index,
      rows: {
        ...rows,
        get inputIds() {
          if (at === 2) trainer.cancel(job.assignment);
          return rows.inputIds;
        },
      },
    }));
    const { cancelled, tokens } = await trainer.computeGradients({ ...job, microbatches });
    expect({ cancelled, tokens }).toEqual({
      cancelled: true,
      tokens: 3 * settings.rowsPerMicrobatch * settings.contextLength,
    });
    await expect(trainer.takeContribution(job.assignment)).rejects.toThrow('no gradients');
  });

  test.each([
    ['computing at a step the replica is not at', () => trainer.computeGradients(jobOf(source, 4, [0]))],
    ['updating from a step the replica is not at', () => trainer.applyUpdate(4, new ArrayBuffer(0))],
    ['beginning such a step', () => trainer.beginStep(4)],
    ['taking what nobody computed', () => trainer.takeContribution('x')],
    ['adding what nobody computed', () => trainer.addOwnContribution('x')],
    ['an update of another size', () => trainer.applyUpdate(0, new ArrayBuffer(8))],
    ['moments of another size', () =>
      trainer.restore({ step: 1, weights: new ArrayBuffer(4), firstMoments: new ArrayBuffer(4), secondMoments: new ArrayBuffer(4) })],
    ['rows of another length', () =>
      trainer.computeGradients({
        assignment: 'x',
        step: 0,
        microbatches: [{ index: 0, rows: { ...source.draw(0, 0), contextLength: 6, rows: 4 } }],
      })],
  ])('%s are refused in words, and the trainer goes on', async (_, call) => {
    await expect(call()).rejects.toThrow(/step|no gradients|bytes|tokens/);
    expect((await soloStep(trainer, source, 0)).applied).toBe(true);
  });

  test('a long sample does not hold up calls made after it', async () => {
    const order: string[] = [];
    const sampling = trainer
      .sample({ promptIds: prompt, maxNewTokens: 60, temperature: 1, seed: 1 })
      .then(({ ids }) => order.push(`sample of ${ids.length}`));
    await trainer.computeGradients(jobOf(source, 0, [0]));
    order.push('gradients');
    await sampling;
    expect(order).toEqual(['gradients', 'sample of 60']);
  });

  test('gradients are the same bit for bit while samples are drawn and weights are kept', async () => {
    const job = jobOf(source, 0, allIndices);
    const contribution = async (): Promise<Buffer> => {
      await trainer.computeGradients(job);
      return bytes(await trainer.takeContribution(job.assignment));
    };
    const alone = await contribution();
    let drawn = 0;
    const sampling = trainer.sample({ promptIds: prompt, maxNewTokens: 1000, temperature: 1, seed: 1, sample: 'long' }, () => void drawn++);
    const kept = await trainer.keepWeights();
    expect((await contribution()).equals(alone)).toBe(true);
    expect((await contribution()).equals(alone)).toBe(true);
    expect(drawn).toBeGreaterThan(0);
    trainer.stopSample('long');
    const { ids, end } = await sampling;
    expect([end, ids.length]).toEqual(['stopped', drawn]);
    await trainer.dropWeights(kept.id);
  });

  test('kept weights answer as they did when they were kept, whatever is learned since', async () => {
    const request = { promptIds: prompt, maxNewTokens: 20, temperature: 1, seed: 5 };
    const kept = await trainer.keepWeights();
    expect(kept).toMatchObject({ step: 0, bytes: (await trainer.replica()).bytes.byteLength });
    const before = await trainer.sample(request);
    for (let step = 0; step < 20; step++) await soloStep(trainer, source, step);
    const after = await trainer.sample(request);
    expect(await trainer.sample({ ...request, weights: kept.id })).toMatchObject({ ids: before.ids, fromStep: 0, toStep: 0 });
    expect(after).toMatchObject({ fromStep: 20, toStep: 20 });
    expect(after.ids).not.toEqual(before.ids);
    const late = trainer.sample({ ...request, weights: kept.id });
    await trainer.dropWeights(kept.id);
    expect((await late).ids).toEqual(before.ids);
    await expect(trainer.sample({ ...request, weights: kept.id })).rejects.toMatchObject({ problem: { code: 'kept-weights-gone' } });
    expect((await soloStep(trainer, source, 20)).applied).toBe(true);
  });
});
