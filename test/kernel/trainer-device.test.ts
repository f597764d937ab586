/** What the trainer does to the device, and what it does when the device is wrong, absent, too small or gone. */
import { MessageChannel } from 'node:worker_threads';
import { expose } from 'comlink';
import type { Endpoint } from 'comlink';
import 'fake-indexeddb/auto';
import { IDBFactory } from 'fake-indexeddb';
import { describe, expect, test } from 'vitest';
import { openCheckpointStore } from '../../src/checkpoint/store.ts';
import { connectTrainer } from '../../src/trainer/client.ts';
import { checkDevice } from '../../src/trainer/device-check.ts';
import { openBestWeights } from '../../src/checkpoint/best-weights.ts';
import { keepProblemsOfErrors } from '../../src/trainer/error-transfer.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import storedAnswer from '../../src/trainer/known-answer.json' with { type: 'json' };
import { storageOf, workerApi } from '../../src/trainer/worker-api.ts';
import { watchedGpu } from '../wrapped-gpu.ts';
import { nodeGpu } from './harness.ts';
import { allIndices, jobOf, patternSource, preparedTrainer, settings, soloStep } from './trainer-fixtures.ts';

const source = patternSource();

describe('the device check', () => {
  test('finds this adapter right, and measures its speed', async () => {
    const report = await checkDevice(nodeGpu());
    expect(report.problem).toBeNull();
    expect(report.probeTokensPerSecond).toBeGreaterThan(0);
    expect(report.name).not.toBe('');
  });

  test('finds a driver that gets one kernel wrong', async () => {
    let broken = 0;
    const gpu = watchedGpu(nodeGpu(), (device) => {
      const create = device.createShaderModule.bind(device);
      device.createShaderModule = (descriptor) => {
        const code = descriptor.code.replaceAll('+ f32(b[i])', '+ 1.01 * f32(b[i])');
        if (code !== descriptor.code) broken++;
        return create({ ...descriptor, code });
      };
    });
    const { problem, probeTokensPerSecond } = await checkDevice(gpu);
    expect(broken, 'no shader was changed: this test tests nothing').toBeGreaterThan(0);
    expect(problem).toMatchObject({ code: 'wrong-results' });
    expect(probeTokensPerSecond).toBe(0);
  });

  test('says which gradient is wrong', async () => {
    const [wrong] = storedAnswer.tensors.slice(5);
    const tensors = storedAnswer.tensors.map((tensor) =>
      tensor === wrong ? { ...tensor, projections: tensor.projections.map((value) => -value) } : tensor,
    );
    const { problem } = await checkDevice(nodeGpu(), { expected: { ...storedAnswer, tensors } });
    expect(problem?.code).toBe('wrong-results');
    expect(problem?.message).toContain(wrong?.name);
  });

  test('says so where there is no WebGPU, or no adapter', async () => {
    expect((await checkDevice(null)).problem).toMatchObject({ code: 'no-webgpu' });
    const empty = { requestAdapter: () => Promise.resolve(null) } as unknown as GPU;
    expect((await checkDevice(empty)).problem).toMatchObject({ code: 'no-webgpu' });
  });
});

describe('the device', () => {
  test('after warm-up gets no new buffers or pipelines, and one submit per micro-batch beside a fixed few per step', async () => {
    const counts = { buffers: 0, pipelines: 0, submits: 0 };
    const gpu = watchedGpu(nodeGpu(), (device) => {
      const { queue } = device;
      const [buffer, pipeline, submit] = [
        device.createBuffer.bind(device),
        device.createComputePipelineAsync.bind(device),
        queue.submit.bind(queue),
      ];
      device.createBuffer = (descriptor) => (counts.buffers++, buffer(descriptor));
      device.createComputePipelineAsync = (descriptor) => (counts.pipelines++, pipeline(descriptor));
      queue.submit = (commands) => (counts.submits++, submit(commands));
    });
    const trainer = await preparedTrainer(gpu);
    await trainer.initialize();
    let step = 0;
    async function submitsOfStep(microbatches: number): Promise<number> {
      const before = counts.submits;
      const job = jobOf(source, step, Array.from({ length: microbatches }, (_, index) => index % allIndices.length));
      await trainer.beginStep(step);
      const { weightSum } = await trainer.computeGradients(job);
      await trainer.addOwnContribution(job.assignment);
      await trainer.commit(step, weightSum, { encodeUpdate: true, encodeGradient: false });
      step++;
      return counts.submits - before;
    }
    await submitsOfStep(3);
    const warm = { ...counts };
    const submits = [await submitsOfStep(3), await submitsOfStep(3), await submitsOfStep(7)];
    expect({ buffers: counts.buffers, pipelines: counts.pipelines }).toEqual({ buffers: warm.buffers, pipelines: warm.pipelines });
    expect(submits[1]).toBe(submits[0]);
    expect((submits[2] ?? 0) - (submits[1] ?? 0), 'submits of four more micro-batches').toBe(4);
    await trainer.dispose();
  });

  test('when lost is reported once, and every call then says so', async () => {
    let lose = (): void => undefined;
    const gpu = watchedGpu(nodeGpu(), (device) => {
      lose = () => {
        device.destroy();
      };
    });
    const trainer = await preparedTrainer(gpu);
    await trainer.initialize();
    const job = jobOf(source, 0, allIndices);
    const running = trainer.computeGradients(job);
    const outcome = running.catch((error: unknown) => error);
    lose();
    expect(await trainer.whenLost()).toMatchObject({ code: 'gpu-lost' });
    await outcome;
    await expect(trainer.computeGradients(job)).rejects.toMatchObject({ problem: { code: 'gpu-lost' } });
    await expect(trainer.sample({ promptIds: [0], maxNewTokens: 1, temperature: 0, seed: 1 })).rejects.toMatchObject({
      problem: { code: 'gpu-lost' },
    });
    await trainer.dispose();
  });

  test('too small for the run is reported as out of memory', async () => {
    const trainer = createGpuTrainer({ gpu: nodeGpu(), engineOptions: { clampToDefaultLimits: true } });
    const model = { ...settings.model, vocab_size: 4_000_000 };
    await expect(trainer.prepare({ ...settings, model })).rejects.toMatchObject({
      problem: { code: 'out-of-memory', message: expect.stringMatching(/this run takes weights 306 MiB, gradients 306 MiB, and 1,221 MiB more/) as unknown },
    });
    await trainer.prepare(settings);
    expect(await trainer.initialize(), 'a smaller run still fits').toMatch(/^[0-9a-f]{16}$/);
    await trainer.dispose();
  });

  test('is let go when the trainer is disposed, and calls say that', async () => {
    const trainer = createGpuTrainer({ gpu: nodeGpu() });
    await trainer.dispose();
    await expect(trainer.prepare(settings)).rejects.toMatchObject({ problem: { code: 'trainer-closed' } });
  });
});

describe("across the worker's border", () => {
  function connected(indexedDb: IDBFactory) {
    keepProblemsOfErrors();
    const { port1, port2 } = new MessageChannel();
    const trainer = createGpuTrainer({ gpu: nodeGpu() });
    const storage = storageOf(trainer, () => openCheckpointStore({ indexedDb }), openBestWeights());
    expose(workerApi(trainer, storage), port1 as unknown as Endpoint);
    const connection = connectTrainer(port2 as unknown as Endpoint);
    return { ...connection, close: () => (port1.close(), port2.close(), trainer.dispose()) };
  }
  const facts = { room: 'den', term: 1, step: 2, savedAtMs: 5, startedAtMs: 1, loss: 1.5, history: '[]' };

  test('steps give the same results, buffers are moved, and checkpoints continue the run in another worker', async () => {
    const indexedDb = new IDBFactory();
    const first = connected(indexedDb);
    await first.trainer.prepare(settings);
    await first.trainer.initialize();
    for (let step = 0; step < 2; step++) await soloStep(first.trainer, source, step);
    const state = await first.trainer.masterState();
    const hash = await first.trainer.restore(state);
    expect(state.weights.byteLength, 'a buffer handed over is the caller’s no more').toBe(0);
    await first.storage.saveCheckpoint(facts);
    const late = { ...facts, step: 3 };
    await expect(first.storage.saveCheckpoint(late), 'a checkpoint of another step than the weights').rejects.toThrow('step');

    const second = connected(indexedDb);
    await second.trainer.prepare(settings);
    expect(await second.storage.restoreCheckpoint('den')).toEqual({ facts, replicaHash: hash, damagedNewer: 0 });
    expect(await soloStep(second.trainer, source, 2)).toEqual(await soloStep(first.trainer, source, 2));
    await first.close();
    await second.close();
  });

  test('a successor follows, its buffers are moved too, and what it refuses keeps its name', async () => {
    const [first, second] = [connected(new IDBFactory()), connected(new IDBFactory())];
    for (const { trainer } of [first, second]) await trainer.prepare(settings);
    await first.trainer.initialize();
    const { step, bytes } = await first.trainer.replica();
    const bytesOfAPart = bytes.byteLength;
    await second.trainer.loadReplica(step, bytes);
    expect(await second.trainer.beginFollowing()).toBe(step);
    const moved: ArrayBuffer[] = [];
    for (const part of ['firstMoments', 'secondMoments'] as const) {
      const range = await first.trainer.readMaster(part, 0, bytesOfAPart);
      await second.trainer.writeMaster(range.step, part, 0, range.bytes);
      moved.push(range.bytes);
    }
    const job = jobOf(source, step, allIndices);
    await first.trainer.beginStep(step);
    const { weightSum } = await first.trainer.computeGradients(job);
    await first.trainer.addOwnContribution(job.assignment);
    const { update, gradient, learningRate, replicaHash } = await first.trainer.commit(step, weightSum, { encodeUpdate: true, encodeGradient: true });
    const given = { update: update ?? new ArrayBuffer(0), gradient: gradient ?? new ArrayBuffer(0) };
    const refused = second.trainer.applyUpdate(step, given.update.slice(0), { gradient: new ArrayBuffer(4), weightSum, learningRate });
    await expect(refused).rejects.toMatchObject({ name: 'CodecError' });
    expect(await second.trainer.applyUpdate(step, given.update, { gradient: given.gradient, weightSum, learningRate })).toBe(replicaHash);
    expect(await second.trainer.masterState()).toEqual(await first.trainer.masterState());
    for (const { byteLength } of [...moved, given.update, given.gradient]) expect(byteLength).toBe(0);
    await Promise.all([first.close(), second.close()]);
  });

  test('errors keep their problem, and a dead worker rejects what is under way', async () => {
    const { trainer, fail, close } = connected(new IDBFactory());
    await expect(trainer.prepare({ ...settings, model: { ...settings.model, vocab_size: 2 ** 40 } })).rejects.toMatchObject({
      problem: { code: 'out-of-memory' },
    });
    const lost = trainer.whenLost();
    const pending = trainer.check().catch((error: unknown) => error);
    fail({ code: 'worker-failed', message: 'gone', whatToDo: 'Reload the page.' });
    expect(await pending).toMatchObject({ problem: { code: 'worker-failed' } });
    expect(await lost).toMatchObject({ code: 'worker-failed' });
    await close();
  });
});
