/** A whole run when no buffer or binding holds all weights, nor even the embedding: it must be the run that it is elsewhere. */
import { expect, test } from 'vitest';
import { corpusBatches } from '../../src/data/batches.ts';
import { partLengths } from '../../src/engine/ranges.ts';
import { attention, attentionOp } from '../../src/engine/ops/attention.ts';
import { linear, matmulNT } from '../../src/engine/ops/matmul.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import type { EngineOptions } from '../../src/engine/index.ts';
import { checkOp } from './check-op.ts';
import { freshEngine, nodeGpu, sharedEngine } from './harness.ts';
import { allIndices, jobOf, settings as smallSettings, soloStep } from './trainer-fixtures.ts';

const limits = { maxStorageBufferBindingBytes: 160 * 1024, maxBufferBytes: 192 * 1024, maxDispatchFlops: 1e6 };

test.each([
  // Rows of whole quads and not; more than the least piece of 128 rows in each direction; a depth that is split.
  { rows: 300, out: 260, depth: 24 },
  { rows: 150, out: 131, depth: 37 },
  { rows: 8, out: 520, depth: 1030 },
])('a product of $rows rows from $depth to $out that would run too long is cut, and agrees with f64', async ({ rows, out, depth }) => {
  const engine = await freshEngine({ limits: { maxDispatchFlops: 1e4 } });
  const x = { shape: [rows, depth], dtype: 'f32' } as const;
  const w = { shape: [out, depth], dtype: 'f32' } as const;
  const lowering = matmulNT.lower({ inputs: [x, w], outputs: [{ shape: [rows, out], dtype: 'f32' }], accumulate: [false], attrs: {}, adapter: engine.profile });
  expect(lowering.dispatches.filter(({ label }) => label.startsWith('matmul NT'))).toHaveLength(Math.ceil(rows / 128));
  await checkOp(engine, {
    parameters: { x: [rows, depth], w: [out, depth], residual: [rows, out] },
    build: (graph, tensor) => linear(graph, tensor('x'), tensor('w'), tensor('residual')),
    seed: rows + out + depth,
  });
  engine.destroy();
});

test.each([
  { forceKernels: 'software', pieces: 5 },
  { forceKernels: 'gpu', pieces: 3 },
] as const)('attention that would run too long is cut, and agrees with f64 (kernels for $forceKernels)', async ({ forceKernels, pieces }) => {
  const [batch, time, heads, kvHeads, size] = [2, 37, 4, 2, 12];
  const flops = (4 * batch * heads * time * (time + 1) * size) / 2;
  const engine = await freshEngine({ forceKernels, limits: { maxDispatchFlops: flops / pieces } });
  const shape = [batch, time, heads, size];
  const spec = (count: number) => ({ shape: [batch, time, count, size], dtype: 'f32' }) as const;
  const outputs = [spec(heads), { shape: [batch, heads, time], dtype: 'f32' } as const];
  const lowering = attentionOp.lower({ inputs: [spec(heads), spec(kvHeads), spec(kvHeads)], outputs, accumulate: [false, false], attrs: {}, adapter: engine.profile });
  expect(lowering.dispatches).toHaveLength(pieces);
  await checkOp(engine, {
    parameters: { q: shape, k: [batch, time, kvHeads, size], v: [batch, time, kvHeads, size] },
    build: (graph, tensor) => attention(graph, tensor('q'), tensor('k'), tensor('v')),
    seed: 5,
  });
  engine.destroy();
});

const { profile } = await sharedEngine();

test.each([
  { tied: true, precision: 'f32', rounding: 1e-5 },
  { tied: false, precision: 'f32', rounding: 1e-5 },
  // Gradients of the head's input are added up in f16 from range to range.
  ...(profile.hasF16 ? [{ tied: true, precision: 'mixed', rounding: 1e-3 } as const] : []),
] as const)('small limits change no loss beyond rounding (tied head: $tied, $precision)', async ({ tied, precision, rounding }) => {
  // The embedding alone is 170 KiB: two ranges of rows, in two buffers.
  const model = { ...smallSettings.model, vocab_size: 303, hidden_size: 144, num_hidden_layers: 2, tie_word_embeddings: tied };
  const settings = { ...smallSettings, model, precision };
  expect(partLengths(parameterLayoutOf(model), limits).length).toBeGreaterThan(2);
  const tokens = Uint32Array.from({ length: 400 }, (_, at) => (at * 89 + (at >> 3)) % model.vocab_size);
  const source = corpusBatches(tokens, { ...smallSettings, rowsPerStep: 6, order: 'shuffled', validationShare: 0 });

  async function steps(engineOptions: EngineOptions) {
    const trainer = createGpuTrainer({ gpu: nodeGpu(), engineOptions });
    expect(await trainer.prepare(settings)).toMatchObject({ precision });
    const hashes = [await trainer.initialize()];
    const losses: number[] = [];
    for (let step = 0; step < 3; step++) {
      const { loss, replicaHash } = await soloStep(trainer, source, step);
      losses.push(loss);
      hashes.push(replicaHash);
    }
    losses.push(await trainer.evaluate(jobOf(source, 3, allIndices).microbatches.map(({ rows }) => rows)));
    const state = await trainer.masterState();
    const { ids: sampled } = await trainer.sample({ promptIds: [5, 7], maxNewTokens: 3, temperature: 0, seed: 1 });
    const restored = createGpuTrainer({ gpu: nodeGpu(), engineOptions });
    await restored.prepare(settings);
    expect(await restored.restore(state)).toBe(hashes.at(-1));
    const next = [await soloStep(trainer, source, 3), await soloStep(restored, source, 3)];
    expect(next[1], 'a run restored from its checkpoint goes on as it would have').toEqual(next[0]);
    await trainer.dispose();
    await restored.dispose();
    return { hashes, losses, sampled };
  }
  const [narrow, wide] = [await steps({ limits }), await steps({})];
  expect(narrow.hashes[0], 'initial weights').toBe(wide.hashes[0]);
  expect(narrow.sampled).toEqual(wide.sampled);
  for (const [step, loss] of wide.losses.entries()) expect(Math.abs((narrow.losses[step] ?? 0) / loss - 1), `step ${step}`).toBeLessThan(rounding);
});
