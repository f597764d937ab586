/** What people give the page: files, links, settings. */
import { describe, expect, it } from 'vitest';
import { browserProblem, readPastedLink } from '../../src/app/problem.ts';
import { createSettings, readNumber, settingsFields, sizeOf, withSize } from '../../src/app/settings-fields.ts';
import type { NumberField } from '../../src/app/settings-fields.ts';
import { modelSizes } from '../../src/data/presets.ts';
import { decodeText, maxTextBytes, readTextFile } from '../../src/app/text-file.ts';
import type { RunSettings } from '../../src/session/types.ts';

const code = (result: { readonly problem: { readonly code: string } | null }): string | undefined => result.problem?.code;

describe('a text file', () => {
  it('is read as UTF-8, without its byte-order mark and with one kind of line end', async () => {
    const result = await readTextFile(new File(['\uFEFFZwölf\r\nBoxkämpfer\rjagen\n'], 'text.TXT'));
    expect(result).toEqual({ text: 'Zwölf\nBoxkämpfer\njagen\n', problem: null });
  });

  it('of another kind is refused by its name', async () => {
    const result = await readTextFile(new File(['%PDF-1.7'], 'book.pdf', { type: 'application/pdf' }));
    expect(code(result)).toBe('unsupported-file');
    expect(result.problem?.message).toContain('book.pdf');
  });

  it('that is empty, or holds only blanks, is refused', async () => {
    expect(code(await readTextFile(new File([], 'a.txt')))).toBe('empty-file');
    expect(code(await readTextFile(new File([' \n\t '], 'a.txt')))).toBe('empty-file');
  });

  it('that is too large is refused before it is read', async () => {
    const huge = { name: 'huge.txt', type: 'text/plain', size: maxTextBytes + 1, arrayBuffer: () => Promise.reject(new Error('was read')) };
    const result = await readTextFile(huge as unknown as File);
    expect(code(result)).toBe('file-too-large');
    expect(result.problem?.message).toContain('20 MB');
  });

  it('that can no longer be read says so', async () => {
    const gone = { name: 'gone.txt', type: 'text/plain', size: 3, arrayBuffer: () => Promise.reject(new Error('gone')) };
    expect(code(await readTextFile(gone as unknown as File))).toBe('unreadable-file');
  });

  it('in another encoding, or with binary data in it, is refused', () => {
    expect(code(decodeText('latin.txt', Uint8Array.of(0x5a, 0xfc, 0x67)))).toBe('unsupported-file');
    expect(code(decodeText('binary.txt', Uint8Array.of(0x41, 0, 0x42)))).toBe('unsupported-file');
  });
});

describe('a pasted room link', () => {
  const fragment = 'room=Zk3vUq8rT1aB&key=V4nq0c9sJ2pLxWm7YtR5uEoHgKdFbQaZ';
  const address = { room: 'Zk3vUq8rT1aB', key: 'V4nq0c9sJ2pLxWm7YtR5uEoHgKdFbQaZ' };

  it.each([`https://192.168.1.20:8443/#${fragment}`, `  https://host/#${fragment}\n`, `#${fragment}`, fragment])(
    'is understood as %j',
    (pasted) => {
      expect(readPastedLink(pasted)).toEqual({ address, problem: null });
    },
  );

  it.each(['https://192.168.1.20:8443/#room=Zk3vUq8rT1aB', 'https://host/', 'hello', ''])('that is not whole (%j) comes back with what to do', (pasted) => {
    const { address: none, problem } = readPastedLink(pasted);
    expect(none).toBeNull();
    expect(problem?.code).toBe('bad-link');
    expect(problem?.whatToDo).not.toBe('');
  });
});

describe('a browser', () => {
  it('is told about its address first, since without a secure one WebGPU is hidden anyway', () => {
    expect(browserProblem({ isSecureContext: false, hasWebGpu: false })?.code).toBe('insecure-context');
    expect(browserProblem({ isSecureContext: true, hasWebGpu: false })?.code).toBe('no-webgpu');
    expect(browserProblem({ isSecureContext: true, hasWebGpu: true })).toBeNull();
  });
});

const defaults: RunSettings = {
  model: {
    model_type: 'qwen3',
    vocab_size: 11,
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    max_position_embeddings: 128,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000,
    tie_word_embeddings: true,
    initializer_range: 0.02,
    dropout: 0,
  },
  steps: 300,
  rowsPerStep: 8,
  rowsPerMicrobatch: 2,
  contextLength: 32,
  order: 'shuffled',
  seed: 1,
  codec: 'fp32',
  localSteps: 1,
  precision: 'f32',
  keepDocumentsApart: false,
  rowLayout: 'text',
  evalEvery: 0,
  patience: 0,
  objective: { kind: 'everything' },
  labelSmoothing: 0,
  frozen: { embeddings: false, layers: 0 },
  optimizer: {
    learningRate: 0.003,
    minLearningRate: 0.0003,
    warmupSteps: 10,
    schedule: 'cosine',
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weightDecay: 0.1,
    gradientClip: 1,
  },
};

describe('settings', () => {
  it('left alone are the preset and nothing else', () => {
    expect(createSettings('tiny-rhyme', defaults, {}, { name: 'Ada' })).toEqual({ preset: 'tiny-rhyme', name: 'Ada' });
  });

  it('send only what was changed, each where the run file has it', () => {
    expect(createSettings('moby-dick', defaults, { steps: 50, learningRate: 0.01, schedule: 'linear', layers: 3 })).toEqual({
      preset: 'moby-dick',
      steps: 50,
      model: { num_hidden_layers: 3 },
      optimizer: { learningRate: 0.01, schedule: 'linear' },
    });
  });

  it('keep the preset’s proportions when the width changes', () => {
    expect(createSettings('own-text', defaults, { hidden: 256, heads: 8 }, { text: 'abc' })).toEqual({
      preset: 'own-text',
      text: 'abc',
      model: { hidden_size: 256, intermediate_size: 512, num_attention_heads: 8, num_key_value_heads: 4, head_dim: 32 },
    });
  });

  it('in another size take that size’s whole model, and single changes on top of it', () => {
    const small = createSettings('own-text', defaults, { size: 'small' }).model;
    expect(small).toEqual(modelSizes.small.model);
    expect(createSettings('own-text', defaults, { size: 'small', hidden: 256 }).model).toEqual({
      ...modelSizes.small.model,
      hidden_size: 256,
      intermediate_size: 768,
      head_dim: 64,
    });
  });

  it('drop what was typed for the old shape when another size is chosen', () => {
    expect(withSize({ layers: 7, hidden: 96, heads: 3, steps: 10 }, 'tiny')).toEqual({ size: 'tiny', steps: 10 });
  });

  it('give every head its own keys where heads can’t be shared evenly', () => {
    expect(createSettings('own-text', defaults, { heads: 1 }).model).toMatchObject({ num_attention_heads: 1, num_key_value_heads: 1, head_dim: 64 });
  });

  it('find the named size they amount to', () => {
    expect(sizeOf(defaults)).toBe('tiny');
    expect(sizeOf({ ...defaults, model: { ...defaults.model, num_hidden_layers: 3 } })).toBeNull();
  });

  it('have one sentence each and read their value from the run file', () => {
    for (const field of settingsFields) {
      expect(field.help, field.key).toMatch(/^[A-Z].*\.$/);
      expect(field.read(defaults), field.key).toBeDefined();
    }
  });
});

describe('a number typed into a setting', () => {
  const field = (key: string): NumberField => {
    const found = settingsFields.find((candidate) => candidate.key === key);
    if (found?.kind !== 'number') throw new Error(`no number field ${key}`);
    return found;
  };

  it.each([
    ['steps', '300', 300],
    ['steps', ' 300 ', 300],
    ['steps', '0', null],
    ['steps', '2.5', null],
    ['steps', '', null],
    ['steps', 'many', null],
    ['learningRate', '3e-4', 0.0003],
    ['learningRate', '0,001', 0.001],
    ['learningRate', '-1', null],
    ['dropout', '0.95', null],
  ])('for %s: %j is %j', (key, typed, value) => {
    expect(readNumber(field(key), typed)).toBe(value);
  });
});
