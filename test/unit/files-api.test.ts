import { IDBFactory, IDBKeyRange } from 'fake-indexeddb';
import { beforeAll, describe, expect, it } from 'vitest';
import { openCheckpointStore } from '../../src/checkpoint/store.ts';
import { CharacterTokenizer } from '../../src/data/character-tokenizer.ts';
import { openCorpus } from '../../src/session/corpora.ts';
import { filesApi } from '../../src/trainer/exchange/files-api.ts';
import type { ExportRequest } from '../../src/trainer/exchange/files-api.ts';
import { exportChoices } from '../../src/trainer/exchange/sizes.ts';
import { tinyConfig, tinyModel } from './model-files.ts';

beforeAll(() => {
  Object.assign(globalThis, { IDBKeyRange });
});

const config = tinyConfig('llama', { vocab_size: 3 });
const { weights } = tinyModel(config);
const request: ExportRequest = {
  format: { kind: 'run' },
  name: 'A run',
  config,
  tokenizer: new CharacterTokenizer(['a', 'b', 'c']).toHuggingFace(128),
  state: { step: 4, weights: weights.buffer, firstMoments: weights.map((value) => value / 3).buffer, secondMoments: weights.map(Math.abs).buffer },
  facts: { title: 'A run', run: '{}', steps: 9, createdAtMs: 5, name: 'Ada' },
  checkpoint: { term: 2, step: 4, savedAtMs: 7, startedAtMs: 6, loss: 1, history: '[]' },
  corpus: Uint32Array.of(0, 1, 2, 1),
  target: null,
};

describe('what the files’ worker does', () => {
  it('keeps a whole run that it has written, and writes it again from there', async () => {
    const store = () => openCheckpointStore({ indexedDb: factory });
    const factory = new IDBFactory();
    const files = filesApi(store);
    let told = 0;
    const blob = await files.write(request, (bytes) => (told = bytes));
    expect(told).toBe(blob?.size);
    const given = await files.open([{ path: 'run.safetensors', blob: blob ?? new Blob() }]);
    expect(given).toMatchObject({ kind: 'run', name: 'A run', config, hasWeights: true, run: { isWhole: true, facts: request.facts } });
    await files.keepRun({ ...request.facts!, room: 'room-one', key: 'key' });
    const kept = await store();
    const corpus = (await kept.loadRun('room-one'))?.corpus;
    const { read, index } = await openCorpus(kept, corpus ?? '', config.vocab_size);
    expect((await read(0, index.tokenCount)).ids).toEqual(request.corpus);
    expect((await kept.loadCheckpoint('room-one'))?.checkpoint).toEqual({ ...request.checkpoint, room: 'room-one', state: request.state });
    kept.close();
    const again = await files.write({ ...request, checkpoint: null, state: { room: 'room-one' } }, () => undefined);
    expect(new Uint8Array((await again?.arrayBuffer()) ?? new ArrayBuffer(0))).toEqual(new Uint8Array((await blob?.arrayBuffer()) ?? new ArrayBuffer(0)));
  });

  it('gives the weights of what is open, and says how far it is', async () => {
    const files = filesApi();
    const blob = await files.write({ ...request, format: { kind: 'hf', type: 'f32' } }, () => undefined);
    await files.open([{ path: 'model.zip', blob: blob ?? new Blob() }]);
    const shares: number[] = [];
    expect(new Float32Array(await files.readWeights((share) => shares.push(share)))).toEqual(weights);
    expect(shares.at(-1)).toBe(1);
    await expect(files.keepRun({ ...request.facts!, room: 'r', key: 'k' })).rejects.toThrow('is not a whole run');
  });

  it('takes back what it has written into a file when writing fails', async () => {
    const done: string[] = [];
    const writable = { write: () => Promise.reject(new Error('the disk is full')), close: () => Promise.resolve(done.push('closed')), abort: () => Promise.resolve(done.push('aborted')) };
    const target = { createWritable: () => Promise.resolve(writable) } as unknown as FileSystemFileHandle;
    await expect(filesApi().write({ ...request, target }, () => undefined)).rejects.toThrow('the disk is full');
    expect(done).toEqual(['aborted']);
  });

  it.each(exportChoices(config, 2, 4))('says about how large $format becomes', async ({ format, bytes }) => {
    const blob = await filesApi().write({ ...request, format }, () => undefined);
    const extra = (blob?.size ?? 0) - bytes;
    // Names, configuration and tokenizer, some kilobytes; a zip's two headers for each file.
    expect(extra).toBeGreaterThan(0);
    expect(extra).toBeLessThan(12_000);
  });

  it('knows nothing before something is open', async () => {
    await expect(filesApi().readWeights(() => undefined)).rejects.toThrow('no file is open');
  });
});
