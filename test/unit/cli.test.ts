import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseCommand } from '../../src/cli/commands.ts';
import { evalOptions } from '../../src/cli/commands/eval.ts';
import { sampleOptions } from '../../src/cli/commands/sample.ts';
import { trainOptions } from '../../src/cli/commands/train.ts';
import { progressOn } from '../../src/cli/progress.ts';
import { parseRunFile } from '../../src/cli/run-file.ts';
import { train } from '../../src/cli/train.ts';
import { cacheFolder, fileTuningStore } from '../../src/cli/tuning-file.ts';

describe('the command line', () => {
  it('explains itself and its command', () => {
    expect(parseCommand(['--help'])).toMatchObject({ kind: 'help', text: expect.stringContaining('train') as unknown });
    expect(parseCommand([])).toMatchObject({ kind: 'help' });
    expect(parseCommand(['train', '--help'])).toMatchObject({ text: expect.stringContaining('--save-gradients') as unknown });
  });

  it('reads the options of train', () => {
    const words = ['--model', 'm', '--data', 'd.txt', '--run=r.json', '--out', 'o', '--save-gradients', '3', '--debug', '2'];
    expect(trainOptions(words)).toEqual({ model: 'm', data: ['d.txt'], column: null, run: 'r.json', out: 'o', saveGradients: 3, debug: 2 });
    expect(parseCommand(['train', ...words])).toMatchObject({ kind: 'work' });
  });

  it('reads the options of sample and eval', () => {
    const words = ['--model', 'm', '--prompt', 'p', '--top-k', '5', '--stop', 'a', '--stop', 'b', '--context', '64'];
    expect(sampleOptions(words)).toEqual({
      ...{ model: 'm', prompt: 'p', maxTokens: 200, temperature: 0.8, topK: 5, topP: 1, minP: 0, repetitionPenalty: 1 },
      ...{ seed: 1, stop: ['a', 'b'], context: 64, format: null },
    });
    expect(evalOptions(['--model', 'm', '--data', 'd'])).toEqual({ model: 'm', data: 'd', context: null, rows: 1, objective: { kind: 'assistant' } });
  });

  it.each([
    ['“fly”', ['fly']],
    ['--data is missing', ['train', '--run', 'r', '--out', 'o']],
    ['--out is missing', ['train', '--run', 'r', '--data', 'd']],
    ["'--speed'", ['train', '--speed', '9']],
    ["'--data", ['train', '--data', '--run', 'r']],
    ['“x”', ['train', '--data', 'd', '--run', 'r', '--out', 'o', '--save-gradients', 'x']],
    ['--prompt is missing', ['sample', '--model', 'm']],
    ['--temperature takes a number, not “hot”', ['sample', '--model', 'm', '--prompt', 'p', '--temperature', 'hot']],
    ['--format takes text, json, not “xml”', ['sample', '--model', 'm', '--prompt', 'p', '--format', 'xml']],
    ['--data is missing', ['eval', '--model', 'm']],
    ['--rows takes at least 1', ['eval', '--model', 'm', '--data', 'd', '--rows', '0']],
    ['from 0 to 4, not “9”', ['train', '--data', 'd', '--run', 'r', '--out', 'o', '--debug', '9']],
  ])('names what is wrong: %s', (message, words) => {
    expect(() => parseCommand(words)).toThrow(message);
    expect(() => parseCommand(words)).toThrow(/^[^\n]*$/);
  });
});

describe('progress', () => {
  function written(isTTY: boolean) {
    let text = '';
    let nowMs = 0;
    const progress = progressOn({ isTTY, write: (part: string) => (text += part) }, () => nowMs);
    return { progress, text: () => text, wait: (ms: number) => (nowMs += ms) };
  }

  it('is a bar with what is left on a terminal', () => {
    const { progress, text, wait } = written(true);
    progress.begin({ task: 'train', unit: 'steps', total: 4, title: 'a run' });
    wait(30_000);
    progress.advance(1, ['loss 2.5']);
    progress.end();
    expect(text()).toBe('a run\n\r[======                  ] 1 of 4 steps  loss 2.5  1:30 left\x1b[K\n');
  });

  it('counts alone where nobody knows how much there is', () => {
    const { progress, text } = written(true);
    progress.begin({ task: 'tokenize', unit: 'documents', total: null });
    progress.advance(1200);
    expect(text()).toBe('\r1,200 documents\x1b[K');
  });

  it('is a line of JSON a second, and a last one, elsewhere', () => {
    const { progress, text, wait } = written(false);
    progress.begin({ task: 'train', unit: 'steps', total: 5, title: 'a run' });
    for (let done = 1; done <= 5; done++) {
      progress.advance(done, ['loss'], { loss: 1 / done });
      wait(400);
    }
    progress.end();
    const lines = text().trim().split('\n').map((line) => JSON.parse(line) as unknown);
    expect(lines).toMatchObject([{ done: 1 }, { done: 4 }, { task: 'train', unit: 'steps', done: 5, total: 5, loss: 0.2 }]);
  });

  it('says nothing of work that never began', () => {
    const { progress, text } = written(false);
    progress.end();
    expect(text()).toBe('');
  });
});

describe('the run file', () => {
  it('fills in what is left out', () => {
    const { run, unknownKeys } = parseRunFile('{"steps": 20, "optimizer": {"learningRate": 0.01}}', 'run.json');
    expect(unknownKeys).toEqual([]);
    expect(run).toEqual({
      model: null,
      steps: 20,
      rowsPerStep: 8,
      rowsPerMicrobatch: 2,
      contextLength: 128,
      order: 'shuffled',
      seed: 1,
      codec: 'fp32',
      localSteps: 1,
      precision: 'f32',
      evalEvery: 0,
      patience: 0,
      optimizer: {
        learningRate: 0.01,
        minLearningRate: 1e-4,
        warmupSteps: 0,
        schedule: 'cosine',
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weightDecay: 0.1,
        gradientClip: 1,
      },
      objective: { kind: 'everything' },
      labelSmoothing: 0,
      frozen: { embeddings: false, layers: 0 },
    });
  });

  it('cuts a micro-batch to the step and reports keys that nothing reads', () => {
    const { run, unknownKeys } = parseRunFile('{"rowsPerStep": 3, "rowsPerMicrobatch": 8, "stepz": 1, "optimizer": {"lr": 1}}', 'run.json');
    expect(run.rowsPerMicrobatch).toBe(3);
    expect(unknownKeys).toEqual(['stepz', 'optimizer.lr']);
  });

  it.each([
    ['run.json is not valid JSON', '{"steps": '],
    ['run.json is not a JSON object', '[1]'],
    ['steps should be at least 1', '{"steps": 0}'],
    ['steps should be', '{"steps": 1.5}'],
    ['steps should be number, and is "300"', '{"steps": "300"}'],
    ['labelSmoothing should be', '{"labelSmoothing": 1.5}'],
    ['objective.kind should be', '{"objective": {"kind": "answers"}}'],
    ['objective.byRole.robot should be', '{"objective": {"kind": "weights", "byRole": {"robot": 1}}}'],
    ['frozen.layers should be', '{"frozen": {"layers": -1}}'],
    ['order should be ("shuffled" | "sequential"), and is "random"', '{"order": "random"}'],
    ['codec should be ("auto" | "fp32" | "bf16" | "int8" | "int2"), and is "int3"', '{"codec": "int3"}'],
    ['optimizer.beta1 should be below 1', '{"optimizer": {"beta1": 1}}'],
    ['optimizer.schedule should be', '{"optimizer": {"schedule": "step"}}'],
  ])('is refused with “%s”', (message, text) => {
    expect(() => parseRunFile(text, 'run.json')).toThrow(message);
  });
});

describe('train, before it opens a GPU', () => {
  let folder = '';
  const path = (name: string) => join(folder, name);
  const config = { model_type: 'llama', vocab_size: 5, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2 };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cotrain-cli-'));
    await writeFile(path('text.txt'), 'abcdef');
    await writeFile(path('rows.jsonl'), '{"input_ids": [1, 2, 9]}\n');
    await writeFile(path('data.csv'), 'a,b\n1,2\n');
    await writeFile(path('data.zip'), 'PK');
    await writeFile(path('no-model.json'), '{}');
    await writeFile(path('run.json'), JSON.stringify({ model: config, steps: 3, contextLength: 4 }));
    await writeFile(path('long.json'), JSON.stringify({ model: { ...config, vocab_size: 6 }, contextLength: 100 }));
    await writeFile(path('gpt.json'), JSON.stringify({ model: { ...config, model_type: 'gpt2' } }));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it.each([
    ['nowhere.json does not exist', { run: 'nowhere.json' }],
    ['no model: give --model DIR', { run: 'no-model.json' }],
    ['the model folder nowhere does not exist', { model: 'nowhere' }],
    ['model_type "gpt2" is not supported', { run: 'gpt.json' }],
    ['nothing.txt does not exist', { data: 'nothing.txt' }],
    ['expected a file of a kind', { data: 'data.zip' }],
    ['data.csv, row 1: none of "a", "b" is known for text', { data: 'data.csv' }],
    ['rows.jsonl:1: input_ids[2] is 9', { data: 'rows.jsonl' }],
    ["the model's vocab_size is 5, and the text has 6", {}],
    ['set the context to 6 or less', { run: 'long.json' }],
  ])('refuses with “%s”', async (message, changes: { readonly run?: string; readonly data?: string; readonly model?: string }) => {
    const options = { model: changes.model ?? null, data: [path(changes.data ?? 'text.txt')], column: null, run: path(changes.run ?? 'run.json'), out: path('out'), saveGradients: null, debug: 0 } as const;
    const host = {
      openTrainer: () => {
        throw new Error('the GPU was opened');
      },
      progress: { begin: () => undefined, step: () => undefined, end: () => undefined },
      warn: () => undefined,
      isInterrupted: () => false,
    };
    await expect(train(options, host)).rejects.toThrow(message);
  });
});

describe('the file of fastest kernels', () => {
  it('lies in the cache folder that the environment names, if it is absolute', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/caches' })).toBe('/caches/cotrain');
    for (const environment of [{}, { XDG_CACHE_HOME: '' }, { XDG_CACHE_HOME: 'here' }]) {
      expect(cacheFolder(environment)).toBe(join(homedir(), '.cache', 'cotrain'));
    }
  });

  it('remembers several adapters, and holds nothing while it is missing or damaged', async () => {
    const parent = await mkdtemp(join(tmpdir(), 'cotrain-tuning-'));
    const folder = join(parent, 'cotrain');
    const store = fileTuningStore(folder);
    expect(await store.load('one')).toBeUndefined();
    await store.save('one', { version: 1 });
    await store.save('two', { version: 2 });
    expect([await store.load('one'), await fileTuningStore(folder).load('two')]).toEqual([{ version: 1 }, { version: 2 }]);
    await writeFile(join(folder, 'tuning.json'), '{"one":');
    expect(await store.load('one')).toBeUndefined();
    await rm(parent, { recursive: true });
  });
});
