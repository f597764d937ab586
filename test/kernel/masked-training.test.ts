/** Runs that score some tokens more than others, smooth their labels or leave tensors alone, against PyTorch's. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readSafetensors, writeSafetensors } from '../../src/checkpoint/safetensors.ts';
import { train } from '../../src/cli/train.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import { namedTensors, readMaskedTrace, relativeError } from '../golden/golden.ts';
import type { TracePoint } from '../golden/golden.ts';
import { nodeGpu } from './harness.ts';

const host = {
  openTrainer: () => createGpuTrainer({ gpu: nodeGpu() }),
  progress: { begin: () => undefined, step: () => undefined, end: () => undefined },
  warn: () => undefined,
  isInterrupted: () => false,
};

test.each([
  ['uneven masks, a fifth of the rows unscored', 'masked'],
  ['those and label smoothing of 0.1', 'smoothed'],
  ['those and frozen embeddings, their tied head and the first layer', 'frozen'],
] as const)('20 steps of AdamW with %s are PyTorch’s', async (_what, name) => {
  const golden = readMaskedTrace(name);
  const model = await mkdtemp(join(tmpdir(), 'cotrain-masked-'));
  try {
    const [run, data, out] = [join(model, 'run.json'), join(model, 'rows.jsonl'), join(model, 'out')];
    await writeFile(join(model, 'config.json'), JSON.stringify(golden.config));
    await writeFile(join(model, 'model.safetensors'), writeSafetensors(namedTensors(golden.initial)));
    await writeFile(run, JSON.stringify(golden.run));
    await writeFile(data, golden.rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    await train({ model, data: [data], column: null, run, out, saveGradients: null, debug: 0 }, host);

    const measured = (await readFile(join(out, 'metrics.jsonl'), 'utf8')).trim().split('\n').map((line) => JSON.parse(line) as TracePoint);
    expect(measured).toHaveLength(golden.run.steps);
    for (const [step, right] of golden.trace.entries()) {
      const { loss = 0, gradNorm = 0 } = measured[step] ?? {};
      expect(Math.abs(loss / right.loss - 1), `loss of step ${step}`).toBeLessThan(2e-4);
      expect(Math.abs(gradNorm / right.gradNorm - 1), `gradient norm of step ${step}`).toBeLessThan(2e-4);
    }
    const saved = await readSafetensors(await readFile(join(out, 'model.safetensors')));
    for (const [tensor, { data: right }] of namedTensors(golden.final)) {
      expect(relativeError(saved.get(tensor)?.data ?? [], right), tensor).toBeLessThan(1e-3);
    }
    if (golden.run.frozen === undefined) return;
    for (const [tensor, { data: before }] of namedTensors(golden.initial)) {
      const isFrozen = tensor.startsWith('model.embed_tokens.') || tensor.startsWith('model.layers.0.');
      expect(saved.get(tensor)?.data.every((value, at) => value === before[at]), `${tensor} is as it was`).toBe(isFrozen);
    }
  } finally {
    await rm(model, { recursive: true });
  }
});
