import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openZip, zipStream } from '../../src/checkpoint/archive.ts';
import { ModelFileError, blobSource, memorySource } from '../../src/checkpoint/bytes.ts';
import { ggufStream } from '../../src/checkpoint/gguf.ts';
import { encodeNumbers, decodeNumbers } from '../../src/checkpoint/number-formats.ts';
import { safetensorsStream } from '../../src/checkpoint/safetensors.ts';
import { CharacterTokenizer } from '../../src/data/character-tokenizer.ts';
import { TokenizerError } from '../../src/data/errors.ts';
import { ggufTokenizer } from '../../src/data/gguf-tokenizer.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { ggufOutput } from '../../src/trainer/exchange/gguf-model.ts';
import { huggingFaceOutputs } from '../../src/trainer/exchange/hugging-face-model.ts';
import { openModel } from '../../src/trainer/exchange/model-source.ts';
import { runFileOutput } from '../../src/trainer/exchange/run-file.ts';
import type { RunParts } from '../../src/trainer/exchange/run-file.ts';
import { bpeFiles } from '../llama-cpp/bpe.ts';
import { collected, filesOf, joined, single, tinyConfig, tinyModel } from './model-files.ts';

const types = ['llama', 'qwen3'] as const;

describe('a Hugging Face folder', () => {
  it.each(types)('that was written is read: configuration, weights and tokenizer of a %s', async (type) => {
    const model = tinyModel(tinyConfig(type, { tie_word_embeddings: type === 'qwen3' }));
    const read = await openModel(filesOf(huggingFaceOutputs(model, 'f32')));
    expect(read.config).toEqual(model.config);
    expect(read.tokenizer).toEqual(bpeFiles);
    expect(await read.readWeights?.()).toEqual(model.weights);
  });

  it.each(['bf16', 'f16'] as const)('in %s has the rounded weights, and says so', async (type) => {
    const model = tinyModel(tinyConfig('llama'));
    const files = filesOf(huggingFaceOutputs(model, type));
    const format = type === 'bf16' ? 'BF16' : 'F16';
    const weights = await (await openModel(files)).readWeights?.();
    expect(weights).toEqual(decodeNumbers(encodeNumbers(model.weights, format), format));
    const config = files.get('config.json');
    expect(new TextDecoder().decode(await config?.read(0, config.size))).toContain(type === 'bf16' ? '"bfloat16"' : '"float16"');
  });

  it('tells generation where a text ends', async () => {
    const files = filesOf(huggingFaceOutputs(tinyModel(tinyConfig('llama')), 'f32'));
    const source = files.get('generation_config.json');
    expect(JSON.parse(new TextDecoder().decode(await source?.read(0, source.size)))).toEqual({ bos_token_id: null, eos_token_id: 256 });
  });

  /** The same model with its weights in two files. */
  function sharded(change: (map: Record<string, string>) => void = () => undefined) {
    const model = tinyModel(tinyConfig('llama'));
    const entries = parameterLayoutOf(model.config).entries.map(({ name, shape, offsetElements, lengthElements }) => ({
      name,
      shape,
      format: 'F32' as const,
      values: model.weights.subarray(offsetElements, offsetElements + lengthElements),
    }));
    const map = Object.fromEntries(entries.map(({ name }, at) => [name, `model-0000${at < 5 ? 1 : 2}-of-00002.safetensors`]));
    const files = new Map(filesOf(huggingFaceOutputs(model, 'f32')));
    files.delete('model.safetensors');
    for (const shard of [1, 2]) {
      const name = `model-0000${shard}-of-00002.safetensors`;
      files.set(name, memorySource(name, joined(safetensorsStream(entries.filter((_, at) => (at < 5) === (shard === 1))).chunks())));
    }
    change(map);
    const index = new TextEncoder().encode(JSON.stringify({ metadata: {}, weight_map: map }));
    files.set('model.safetensors.index.json', memorySource('model.safetensors.index.json', index));
    return { model, files };
  }

  it('may have its weights in several files', async () => {
    const { model, files } = sharded();
    expect(await (await openModel(files)).readWeights?.()).toEqual(model.weights);
  });

  it.each([
    ['names model-9.safetensors, which is not there', (map: Record<string, string>) => (map['model.norm.weight'] = 'model-9.safetensors')],
    ['which model.safetensors.index.json does not name', (map: Record<string, string>) => delete map['model.norm.weight']],
    ['which model.safetensors.index.json places in', (map: Record<string, string>) => (map['model.norm.weight'] = 'model-00001-of-00002.safetensors')],
    ['places x in files that do not have them', (map: Record<string, string>) => (map['x'] = 'model-00001-of-00002.safetensors')],
  ])('is refused when its index %s', async (message, change) => {
    const { files } = sharded((map) => void change(map));
    await expect(openModel(files)).rejects.toThrow(message);
  });

  it.each([
    ['config.json: model_type "gpt2" is not supported', 'config.json', { model_type: 'gpt2' }],
    ['config.json: num_hidden_layers 1000000000 is more than 1024', 'config.json', { ...tinyConfig('llama'), num_hidden_layers: 1e9 }],
    ['config.json: rope_scaling', 'config.json', { ...tinyConfig('llama'), rope_scaling: { rope_type: 'yarn' } }],
    ['tokenizer.json has 279 tokens, and the model’s vocab_size is 200', 'config.json', tinyConfig('llama', { vocab_size: 200 })],
    ['tokenizer.json: is not valid JSON', 'tokenizer.json', '{"model": '],
    ['tokenizer.json: is not a JSON object', 'tokenizer.json', 7],
  ])('is refused with “%s”', async (message, file, content) => {
    const files = new Map(filesOf(huggingFaceOutputs(tinyModel(tinyConfig('llama')), 'f32')));
    files.set(file, memorySource(file, new TextEncoder().encode(typeof content === 'string' ? content : JSON.stringify(content))));
    await expect(openModel(files)).rejects.toThrow(message);
  });

  it.each([
    ['the config asks for [320, 64]', tinyConfig('llama', { hidden_size: 64 })],
    ['the weights lack model.layers.2.', tinyConfig('llama', { num_hidden_layers: 3 })],
    ['the config\'s model has no model.layers.1.', tinyConfig('llama', { num_hidden_layers: 1 })],
    ['the weights lack lm_head.weight', tinyConfig('llama', { tie_word_embeddings: false })],
  ])('whose weights are others says so: %s', async (message, config) => {
    const files = new Map(filesOf(huggingFaceOutputs(tinyModel(tinyConfig('llama')), 'f32')));
    files.set('config.json', memorySource('config.json', new TextEncoder().encode(JSON.stringify(config))));
    await expect((await openModel(files)).readWeights?.()).rejects.toThrow(message);
  });

  it('without a configuration is none', async () => {
    await expect(openModel(new Map([['a.txt', memorySource('a.txt', new Uint8Array(3))], ['b.txt', memorySource('b.txt', new Uint8Array(3))]]))).rejects.toThrow('there is no config.json among 2 files');
  });
});

describe('a GGUF file', () => {
  it.each(types)('that was written is read: a %s', async (type) => {
    const model = tinyModel(tinyConfig(type, { tie_word_embeddings: type === 'llama', rms_norm_eps: 1e-6, rope_theta: 500_000 }));
    const read = await openModel(single('m.gguf', joined(ggufOutput(model, 'f32', 'm.gguf').chunks())));
    // The range of initial weights is nothing that llama.cpp asks for.
    expect(read.config).toEqual(model.config);
    expect(read.name).toBe('tiny');
    expect(read.tokenizer?.config).toMatchObject({ eos_token: '<|endoftext|>' });
    expect(ggufTokenizer(read.tokenizer ?? bpeFiles, 320)).toEqual(ggufTokenizer(bpeFiles, 320));
    expect(await read.readWeights?.()).toEqual(model.weights);
  });

  it.each(['f16', 'q8_0'] as const)('in %s has the size it said, and nearly the weights', async (type) => {
    const model = tinyModel(tinyConfig('llama', { intermediate_size: 40 }));
    const output = ggufOutput(model, type, 'm.gguf');
    const bytes = joined(output.chunks());
    expect(bytes.length).toBe(output.size);
    const weights = await (await openModel(single('m.gguf', bytes))).readWeights?.();
    const furthest = model.weights.reduce((most, value, at) => Math.max(most, Math.abs(value - (weights?.[at] ?? NaN))), 0);
    expect(furthest).toBeGreaterThan(0);
    expect(furthest).toBeLessThan(type === 'f16' ? 1e-4 : 1e-3);
  });

  it('has our characters, half a surrogate pair excepted', async () => {
    const tokenizer = new CharacterTokenizer(['\n', ' ', '\\', 'é', '🙂', '\0', '\t']);
    const model = { ...tinyModel(tinyConfig('llama', { vocab_size: 7 })), tokenizer: tokenizer.toHuggingFace(128) };
    const read = await openModel(single('m.gguf', joined(ggufOutput(model, 'f32', 'm.gguf').chunks())));
    expect(CharacterTokenizer.fromHuggingFace(read.tokenizer?.tokenizer)?.characters).toEqual(tokenizer.characters);
    const halved = new CharacterTokenizer(['a', '\ud800']).toHuggingFace(8);
    expect(ggufTokenizer(halved, 3)).toMatchObject({ model: 'rwkv', tokens: ['a', '[PAD1]', '[PAD2]'], types: [1, 5, 5] });
  });

  it.each([
    ['gpt-2', String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, false],
    ['qwen2', String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`, false],
    ['llama-bpe', String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`, true],
  ])('has the pre-tokenizer %s by its expression', (name, Regex, ignoresMerges) => {
    const byteLevel = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };
    const tokenizer = {
      ...bpeFiles.tokenizer,
      model: { ...(bpeFiles.tokenizer as { readonly model: object }).model, ignore_merges: ignoresMerges },
      pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false }, byteLevel] },
    };
    expect(ggufTokenizer({ ...bpeFiles, tokenizer }, 320).pre).toBe(name);
    expect(ggufTokenizer(bpeFiles, 320).pre).toBe('gpt-2');
  });

  it('needs a tokenizer that llama.cpp has a name for', () => {
    const other = { ...bpeFiles, tokenizer: { ...bpeFiles.tokenizer, pre_tokenizer: { type: 'Whitespace' } } };
    expect(() => ggufTokenizer(other, 320)).toThrow(TokenizerError);
    expect(() => ggufTokenizer(bpeFiles, 100)).toThrow('the tokenizer has 279 tokens, and the model 100');
    expect(() => ggufOutput({ ...tinyModel(tinyConfig('llama')), tokenizer: null }, 'f32', 'x')).toThrow('needs the model’s tokenizer');
  });

  const u32 = (value: number) => ({ type: 'u32', value }) as const;
  it.each([
    ['is not a GGUF file', () => new TextEncoder().encode('GGUFshort')],
    ['GGUF version 1 is not supported', () => edited((view) => view.setUint32(4, 1, true))],
    ['claims 4294967295 tensors', () => edited((view) => view.setUint32(8, 0xffffffff, true))],
    ['the number of tensors is', () => edited((view) => view.setBigUint64(8, 2n ** 60n, true))],
    ['the key of metadata entry 0 claims 1099511627776 bytes', () => edited((view) => view.setBigUint64(24, 2n ** 40n, true))],
    ['general.architecture "gpt2" is not supported', () => joined(ggufStream([['general.architecture', { type: 'string', value: 'gpt2' }], ['tokenizer.ggml.tokens', { type: 'strings', value: [] }]], []).chunks())],
    ['has no tokenizer', () => joined(ggufStream([['a', u32(1)]], []).chunks())],
    ['a is there twice', () => joined(ggufStream([['a', u32(1)], ['a', u32(2)]], []).chunks())],
    ['general.alignment is 3', () => joined(ggufStream([['general.alignment', u32(3)]], []).chunks())],
  ])('is refused with “%s”', async (message, bytes) => {
    await expect(openModel(single('m.gguf', bytes()))).rejects.toThrow(`m.gguf: ${message}`);
  });
});

function whole(): Uint8Array<ArrayBuffer> {
  return joined(ggufOutput(tinyModel(tinyConfig('llama')), 'q8_0', 'm.gguf').chunks());
}

function edited(edit: (view: DataView) => void): Uint8Array {
  const bytes = whole();
  edit(new DataView(bytes.buffer));
  return bytes;
}

const run: RunParts = {
  ...tinyModel(tinyConfig('qwen3')),
  facts: { title: 'A run', run: '{"settings":{"steps":5,"model":{}}}', steps: 5, createdAtMs: 7, name: 'Ada' },
  checkpoint: { term: 2, step: 3, savedAtMs: 9, startedAtMs: 8, loss: 1.5, history: '[{"step":0}]' },
  optimizer: {},
  corpus: Uint32Array.of(1, 2, 319),
};

describe('a run file', () => {
  it('takes everything along', async () => {
    const { weights } = run;
    const moments = { firstMoments: weights.map((value) => value / 2).buffer, secondMoments: weights.map((value) => value * value).buffer };
    const output = runFileOutput({ ...run, optimizer: moments }, 'r.safetensors');
    const bytes = joined(output.chunks());
    expect(bytes.length).toBe(output.size);
    const read = await openModel(single('r.safetensors', bytes));
    expect(read).toMatchObject({ kind: 'run', name: 'tiny', config: run.config, tokenizer: bpeFiles, run: { facts: run.facts, checkpoint: run.checkpoint } });
    expect(await read.run?.readCorpus?.()).toEqual(run.corpus);
    expect(await read.run?.readState?.()).toEqual({ step: 3, weights: weights.buffer, ...moments });
  });

  it('without moments is a model to start from', async () => {
    const read = await openModel(single('r.safetensors', joined(runFileOutput({ ...run, corpus: null }, 'r').chunks())));
    expect(read.run).toMatchObject({ readState: null, readCorpus: null });
    expect(await read.readWeights?.()).toEqual(run.weights);
  });

  it('of another version, damaged, or of no run is refused by name', async () => {
    const file = (metadata: Record<string, string>) => single('r.safetensors', joined(safetensorsStream([], metadata).chunks()));
    await expect(openModel(file({ 'cotrain.version': '2' }))).rejects.toThrow('r.safetensors: is a run file of version 2');
    await expect(openModel(file({}))).rejects.toThrow('r.safetensors: has tensors and nothing that says what model');
    await expect(openModel(file({ 'cotrain.version': '1', 'cotrain.config': '{}' }))).rejects.toThrow('r.safetensors: model_type is missing');
    await expect(
      openModel(file({ 'cotrain.version': '1', 'cotrain.config': JSON.stringify(tinyConfig('llama')), 'cotrain.checkpoint': '{"step":-1}' })),
    ).rejects.toThrow('cotrain.checkpoint is damaged');
  });
});

describe('an archive', () => {
  const outputs = huggingFaceOutputs(tinyModel(tinyConfig('llama')), 'f32');

  it('is a folder, with a folder in it or without', async () => {
    for (const prefix of ['', 'tiny-model/']) {
      const bytes = await collected(zipStream(outputs.map((output) => ({ ...output, path: `${prefix}${output.path}` }))));
      const read = await openModel(single('m.zip', bytes));
      expect(read.name).toBe(prefix === '' ? 'm' : 'tiny-model');
      expect(await read.readWeights?.()).toEqual(tinyModel(read.config).weights);
    }
  });

  /** Deflated, as other programs pack. */
  async function packed(files: readonly (readonly [string, Uint8Array<ArrayBuffer>])[]): Promise<Uint8Array<ArrayBuffer>> {
    const { BlobReader, BlobWriter, ZipWriter } = await import('@zip.js/zip.js');
    const writer = new ZipWriter(new BlobWriter(), { level: 6, useWebWorkers: false });
    for (const [name, bytes] of files) await writer.add(name, new BlobReader(new Blob([bytes])));
    return new Uint8Array(await (await writer.close()).arrayBuffer());
  }

  it('may be compressed: it is inflated as it is read', async () => {
    const bytes = await packed(outputs.map(({ path, chunks }) => [path, joined(chunks())]));
    const read = await openModel(new Map([['m.zip', blobSource('m.zip', new Blob([bytes]))]]));
    expect(await read.readWeights?.()).toEqual(tinyModel(read.config).weights);
  });

  it('that would swell beyond reason is not unpacked', async () => {
    const bytes = await packed([['model.safetensors', new Uint8Array(2 ** 25)]]);
    await expect(openZip(memorySource('bomb.zip', bytes))).rejects.toThrow(/^bomb\.zip: "model\.safetensors" claims to unpack \d+ bytes to 33554432/);
  });

  it('whose entries claim less than they have is refused when they are read', async () => {
    const bytes = await packed([['config.json', new TextEncoder().encode(' '.repeat(5000))]]);
    const view = new DataView(bytes.buffer);
    // The central directory’s record: its size is at 24.
    for (let at = 0; at + 4 <= bytes.length; at++) if (view.getUint32(at, true) === 0x02014b50) view.setUint32(at + 24, 6000, true);
    const files = await openZip(memorySource('lie.zip', bytes));
    await expect(files.get('config.json')?.read(0, 6000)).rejects.toThrow('lie.zip/config.json: can\'t be unpacked');
  });

  it.each(['../x', '/etc/x', 'a/../../x', 'c:\\x'])('with the name %s is refused', async (name) => {
    const bytes = await packed([['aaaaaaaaaaaaaaaa'.slice(0, name.length), Uint8Array.of(1)]]);
    const from = new TextEncoder().encode('a'.repeat(name.length));
    const to = new TextEncoder().encode(name);
    for (let at = 0; at + from.length <= bytes.length; at++) if (from.every((byte, index) => bytes[at + index] === byte)) bytes.set(to, at);
    await expect(openZip(memorySource('m.zip', bytes))).rejects.toThrow(/m\.zip: .* leads out of the archive/);
  });
});

describe('whatever is wrong with a file', () => {
  const files = {
    gguf: whole(),
    safetensors: joined(runFileOutput({ ...run, corpus: null }, 'r').chunks()),
  };

  it.each(Object.keys(files) as (keyof typeof files)[])('cut short anywhere, a %s is refused by name', async (kind) => {
    const bytes = files[kind];
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: bytes.length - 1 }), async (length) => {
        const read = openModel(single('f', bytes.slice(0, length))).then(({ readWeights }) => readWeights?.());
        await expect(read).rejects.toThrow(ModelFileError);
      }),
      { numRuns: 60 },
    );
  });

  it.each(Object.keys(files) as (keyof typeof files)[])('with other bytes in its header, a %s is read or refused by name, and memory is taken for no more than it has', async (kind) => {
    const bytes = files[kind];
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat({ max: 4000 }), fc.nat({ max: 255 })), { minLength: 1, maxLength: 8 }), async (changes) => {
        const changed = bytes.slice();
        for (const [at, value] of changes) changed[at] = value;
        const reads = { most: 0 };
        const source = { name: 'f', size: changed.length, read: (offset: number, length: number) => {
          reads.most = Math.max(reads.most, length);
          return memorySource('f', changed).read(offset, length);
        } };
        try {
          const { readWeights } = await openModel(new Map([['f', source]]));
          const weights = await readWeights?.();
          expect((weights?.length ?? 0) * 4).toBeLessThan(16 * changed.length);
        } catch (error) {
          expect(error).toBeInstanceOf(ModelFileError);
        }
        expect(reads.most).toBeLessThanOrEqual(changed.length);
      }),
      { numRuns: 150 },
    );
  });
});
