/** A run of the command line that is stopped, saved as a run file and gone on with is the run that was never stopped. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { train } from '../../src/cli/train.ts';
import type { TrainHost } from '../../src/cli/train.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import { nodeGpu } from './harness.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cotrain-resume-'));
});
afterAll(() => rm(folder, { recursive: true }));

const model = { model_type: 'llama', hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, tie_word_embeddings: true, dropout: 0.1 };

/** Stops after so many steps. */
function hostFor(steps: number): TrainHost {
  let done = 0;
  return {
    openTrainer: () => createGpuTrainer({ gpu: nodeGpu() }),
    progress: { begin: () => undefined, step: () => (done += 1), end: () => undefined },
    warn: () => undefined,
    isInterrupted: () => done >= steps,
  };
}

it('has the same losses and ends with the same weights', async () => {
  const path = (name: string): string => join(folder, name);
  await writeFile(path('text.txt'), 'one two three four five six seven '.repeat(4));
  await writeFile(path('run.json'), JSON.stringify({ model, steps: 6, contextLength: 16, optimizer: { warmupSteps: 2 } }));
  const common = { model: null, data: [path('text.txt')], column: null, run: path('run.json'), saveGradients: null, debug: 0 } as const;
  await train({ ...common, out: path('whole') }, hostFor(6));
  await train({ ...common, out: path('parts'), saveRun: path('half.safetensors') }, hostFor(3));
  await train({ ...common, out: path('parts'), resume: path('half.safetensors') }, hostFor(6));
  const figures = async (out: string): Promise<unknown> =>
    (await readFile(path(`${out}/metrics.jsonl`), 'utf8')).trim().split('\n').map((line) => ({ ...(JSON.parse(line) as object), ms: 0 }));
  expect(await figures('parts')).toEqual(await figures('whole'));
  expect(await readFile(path('parts/model.safetensors'))).toEqual(await readFile(path('whole/model.safetensors')));

  const resume = path('half.safetensors');
  await writeFile(path('short.json'), JSON.stringify({ model, steps: 3, contextLength: 16 }));
  await writeFile(path('other.json'), JSON.stringify({ model: { ...model, hidden_size: 32 }, steps: 6, contextLength: 16 }));
  await expect(train({ ...common, run: path('short.json'), out: path('x'), resume }, hostFor(9))).rejects.toThrow('is at step 3, and the run has 3 steps');
  await expect(train({ ...common, run: path('other.json'), out: path('x'), resume }, hostFor(9))).rejects.toThrow('is another model than the run’s');
});
