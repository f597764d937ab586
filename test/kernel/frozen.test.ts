/** Frozen tensors and smoothed labels in a room's trainers: nothing of a replica, a codec or a checkpoint needs to know of them. */
import { expect, test } from 'vitest';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { allIndices, jobOf, patternSource, preparedTrainer, settings, soloStep } from './trainer-fixtures.ts';

const frozen = { embeddings: true, layers: 1 };
const source = patternSource();

test('what is frozen stays bit for bit in leader and member, whose contributions and updates are as coarse as can be, and all else moves', async () => {
  const changes = { frozen, codec: 'int2', optimizer: { ...settings.optimizer, weightDecay: 0.5 } } as const;
  const [leader, member] = [await preparedTrainer(undefined, changes), await preparedTrainer(undefined, changes)];
  await leader.initialize();
  const { bytes } = await leader.replica();
  const before = new Float32Array(bytes.slice(0));
  await member.loadReplica(0, bytes);
  for (let step = 0; step < 3; step++) {
    await leader.beginStep(step);
    let weight = 0;
    for (const [trainer, indices] of [[leader, [0]], [member, [1, 2]]] as const) {
      const job = jobOf(source, step, indices);
      weight += (await trainer.computeGradients(job)).weightSum;
      if (trainer === leader) await leader.addOwnContribution(job.assignment);
      else await leader.addContribution(step, await trainer.takeContribution(job.assignment));
    }
    const { update, replicaHash } = await leader.commit(step, weight, { encodeUpdate: true, encodeGradient: true });
    expect(await member.applyUpdate(step, update ?? new ArrayBuffer(0))).toBe(replicaHash);
  }
  const after = new Float32Array((await member.replica()).bytes);
  const { masterWeights = new ArrayBuffer(0), firstMoments } = await leader.masterState();
  const [master, moments] = [new Float32Array(masterWeights), new Float32Array(firstMoments)];
  for (const { name, offsetElements, lengthElements } of parameterLayoutOf(settings.model).entries) {
    const isFrozen = name === 'model.embed_tokens.weight' || name.startsWith('model.layers.0.');
    const range = [offsetElements, offsetElements + lengthElements] as const;
    const stays = (values: Float32Array): boolean => values.subarray(...range).every((value, at) => value === before[offsetElements + at]);
    expect([stays(after), stays(master)], name).toEqual([isFrozen, isFrozen]);
    expect(moments.subarray(...range).every((value) => value === 0), name).toBe(isFrozen);
  }
  await Promise.all([leader.dispose(), member.dispose()]);
});

test('labels are smoothed in training, and never in an evaluation', async () => {
  const model = { ...settings.model, dropout: 0 };
  const [smooth, plain] = [await preparedTrainer(undefined, { model, labelSmoothing: 0.3 }), await preparedTrainer(undefined, { model })];
  const rows = jobOf(source, 0, allIndices).microbatches.map((microbatch) => microbatch.rows);
  await Promise.all([smooth.initialize(), plain.initialize()]);
  expect(await smooth.evaluate(rows)).toBe(await plain.evaluate(rows));
  for (let step = 0; step < 12; step++) await soloStep(smooth, source, step);
  const { step, bytes } = await smooth.replica();
  await plain.loadReplica(step, bytes);
  expect(await smooth.evaluate(rows)).toBe(await plain.evaluate(rows));
  const job = { ...jobOf(source, 0, allIndices), step };
  const [smoothed, unsmoothed] = [await smooth.computeGradients(job), await plain.computeGradients(job)];
  expect(smoothed.lossSum / smoothed.weightSum).toBeGreaterThan(1.05 * (unsmoothed.lossSum / unsmoothed.weightSum));
  expect(unsmoothed.lossSum / unsmoothed.weightSum).toBeCloseTo(await plain.evaluate(rows), 4);
  await Promise.all([smooth.dispose(), plain.dispose()]);
});
