import { mkdtemp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CliHost } from '../../src/cli/command.ts';
import { parseCommand } from '../../src/cli/commands.ts';
import { exportOptions } from '../../src/cli/commands/export.ts';
import { importOptions } from '../../src/cli/commands/import.ts';
import { readWeights } from '../../src/cli/model-folder.ts';
import { withFiles } from '../../src/cli/node-files.ts';
import { huggingFaceOutputs } from '../../src/trainer/exchange/hugging-face-model.ts';
import { openModel } from '../../src/trainer/exchange/model-source.ts';
import { runFileOutput } from '../../src/trainer/exchange/run-file.ts';
import { joined, tinyConfig, tinyModel } from './model-files.ts';

const model = tinyModel(tinyConfig('llama'));
let folder = '';
const path = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cotrain-convert-'));
  await mkdir(path('model'));
  for (const output of huggingFaceOutputs(model, 'f32')) await writeFile(path(`model/${output.path}`), joined(output.chunks()));
});
afterAll(() => rm(folder, { recursive: true }));

/** Runs a command of the command line; returns what it printed. */
async function run(...words: readonly string[]): Promise<string> {
  const command = parseCommand(words);
  if (command.kind === 'help') return command.text;
  let printed = '';
  const host: CliHost = {
    openTrainer: () => {
      throw new Error('the GPU was opened');
    },
    progress: { begin: () => undefined, advance: () => undefined, end: () => undefined },
    warn: () => undefined,
    print: (text) => (printed += text),
    isInterrupted: () => false,
    openModel: () => Promise.reject(new Error('the GPU was opened')),
    isTerminal: false,
  };
  await command.run(host);
  return printed;
}

describe('export and import', () => {
  it('explain themselves', async () => {
    expect(await run('export', '--help')).toContain('--to gguf');
    expect(await run('import', '-h')).toContain('--from PATH');
    expect(await run()).toMatch(/train [^]*\n {2}export .*\n {2}import /);
  });

  it('read their options', () => {
    expect(exportOptions(['--model', 'm', '--to', 'gguf', '--type=q8_0', '--out', 'o'])).toEqual({ from: 'm', out: 'o', target: { kind: 'gguf', type: 'q8_0' } });
    expect(exportOptions(['--model', 'm', '--to', 'hf', '--out', 'o'])).toMatchObject({ target: { kind: 'hf', type: 'f32' } });
    expect(importOptions(['--from', 'f', '--out', 'o'])).toEqual({ from: 'f', out: 'o', target: { kind: 'hf', type: 'f32' } });
    expect(() => exportOptions(['--model', 'm', '--to', 'onnx', '--out', 'o'])).toThrow('--to takes hf, gguf, not “onnx”');
    expect(() => exportOptions(['--model', 'm', '--to', 'gguf', '--type', 'bf16', '--out', 'o'])).toThrow('--type takes f32, f16, q8_0, not “bf16”');
    expect(() => importOptions(['--from', 'f'])).toThrow('--out is missing');
  });

  it('make a GGUF of a folder, a zip of the GGUF and a folder of the zip, with the same weights', async () => {
    expect(await run('export', '--model', path('model'), '--to', 'gguf', '--out', path('new/m.gguf'))).toMatch(/m\.gguf: [\d,]+ bytes of f32\n/);
    await run('export', '--model', path('new/m.gguf'), '--to', 'hf', '--out', path('m.zip'));
    await run('import', '--from', path('m.zip'), '--out', path('back'));
    expect((await readdir(path('back'))).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']);
    expect(await readWeights(path('back'), model.config)).toEqual(model.weights);
    expect((await readdir(path('new'))).sort()).toEqual(['m.gguf']);
  });

  it('train starts from the folder’s weights in bf16 too', async () => {
    await run('export', '--model', path('model'), '--to', 'hf', '--type', 'bf16', '--out', path('half'));
    const weights = await readWeights(path('half'), model.config);
    expect(weights?.every((value, at) => Math.abs(value - (model.weights[at] ?? 0)) <= Math.abs(value) / 128)).toBe(true);
  });

  it('make of a saved run its model, its settings and its curve', async () => {
    const output = runFileOutput(
      {
        ...model,
        facts: { title: 'A run', run: JSON.stringify({ settings: { steps: 5, seed: 3, model: {} } }), steps: 5, createdAtMs: 1, name: 'Ada' },
        checkpoint: { term: 1, step: 2, savedAtMs: 1, startedAtMs: 1, loss: 2, history: '[{"step":0,"loss":2.5}]' },
        optimizer: {},
        corpus: null,
      },
      'run',
    );
    await writeFile(path('a.cotrain.safetensors'), joined(output.chunks()));
    await run('import', '--from', path('a.cotrain.safetensors'), '--out', path('from-run'));
    expect(JSON.parse(await readFile(path('from-run/run.json'), 'utf8'))).toEqual({ steps: 5, seed: 3 });
    expect(JSON.parse(await readFile(path('from-run/history.json'), 'utf8'))).toEqual([{ step: 0, loss: 2.5 }]);
    expect(await withFiles(path('from-run'), async (files) => (await openModel(new Map([...files].filter(([name]) => !/run|history/.test(name))))).readWeights?.())).toEqual(model.weights);
  });

  it('name what is wrong, and leave nothing half-written', async () => {
    await writeFile(path('half.gguf'), (await readFile(path('new/m.gguf'))).subarray(0, 5000));
    await expect(run('import', '--from', path('nothing'), '--out', path('x'))).rejects.toThrow('nothing does not exist');
    await expect(run('import', '--from', path('half.gguf'), '--out', path('x'))).rejects.toThrow('half.gguf: tokenizer.ggml.token_type claims 320 values');
    await mkdir(path('empty'));
    await expect(run('import', '--from', path('empty'), '--out', path('x'))).rejects.toThrow('there is no file');
    await writeFile(path('empty/config.json'), JSON.stringify(model.config));
    await expect(run('export', '--model', path('empty'), '--to', 'hf', '--out', path('x'))).rejects.toThrow('has a configuration and no weights');
    expect(await readdir(folder)).not.toContain('x');
  });
});
