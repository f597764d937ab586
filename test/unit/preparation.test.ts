/** From documents to tokens in pieces, kept in a browser's storage, found again after a reload, and gone with their run. */
import 'fake-indexeddb/auto';
import { IDBFactory } from 'fake-indexeddb';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { openCheckpointStore } from '../../src/checkpoint/store.ts';
import type { CheckpointStore } from '../../src/checkpoint/store.ts';
import type { RunRecord } from '../../src/checkpoint/types.ts';
import { CharacterTokenizer } from '../../src/data/character-tokenizer.ts';
import { memoryCorpus } from '../../src/data/corpus.ts';
import { characterTokenizerMaker, prepareCorpus } from '../../src/data/preparation.ts';
import type { PreparationProgress } from '../../src/data/preparation.ts';
import { fileOfBlob } from '../../src/data/sources/data-file.ts';
import { readDocuments } from '../../src/data/sources/documents.ts';
import { PieceWriter, piecesInMemory, tokensPerPiece } from '../../src/data/token-pieces.ts';
import type { Tokenizer } from '../../src/data/tokenizer.ts';
import type { TokenDocument } from '../../src/data/types.ts';
import { openCorpus } from '../../src/session/corpora.ts';
import { keepCorpus } from '../../src/trainer/keep-corpus.ts';

async function written(documents: readonly TokenDocument[], vocabularySize = 100_000) {
  const pieces: ArrayBuffer[] = [];
  const writer = new PieceWriter(vocabularySize, (piece) => void pieces.push(piece));
  for (const document of documents) await writer.add(document);
  return { corpus: piecesInMemory(await writer.finish(), pieces), pieces };
}

/** The characters of a text, and a mark behind each document but the last. */
function marked(text: string): Tokenizer {
  const plain = CharacterTokenizer.fromText(text);
  return {
    vocabularySize: plain.vocabularySize + 1,
    endOfText: plain.vocabularySize,
    encode: (given) => plain.encode(given),
    encodeMarked: (given) => plain.encode(given),
    encodeKnown: (given) => plain.encodeKnown(given),
    decode: (ids) => plain.decode(ids),
    streamDecoder: () => plain.streamDecoder(),
    specialId: () => null,
    serialize: () => plain.serialize(),
    toHuggingFace: (length) => plain.toHuggingFace(length),
  };
}

describe('tokens in pieces', () => {
  it('are read as they were written, from anywhere to anywhere', async () => {
    const documents = fc.array(fc.record({ length: fc.integer({ min: 1, max: tokensPerPiece + 5 }), kind: fc.constantFrom('plain', 'weighted', 'labelled') }), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(documents, fc.constantFrom(60_000, 100_000), fc.nat(), fc.nat(), async (shapes, vocabularySize, one, other) => {
        const all = shapes.map(({ length, kind }): TokenDocument => {
          const ids = Uint32Array.from({ length }, (_, at) => (at * 31) % vocabularySize);
          const weights = kind === 'plain' ? null : Float32Array.from(ids, (id) => (id >> 6) % 3);
          return { ids, weights, ...(kind === 'labelled' && { labels: ids.map((id) => (id + 1) % vocabularySize) }) };
        });
        const { corpus } = await written(all, vocabularySize);
        const expected = memoryCorpus(all);
        expect(corpus.index).toEqual(expected.index);
        const [start, end] = [one % corpus.index.tokenCount, 1 + (other % corpus.index.tokenCount)].sort((a, b) => a - b) as [number, number];
        const [found, right] = [await corpus.read(start, end), expected.read(start, end)];
        expect(found.ids).toEqual(right.ids);
        expect(found.labels ?? found.ids).toEqual(right.labels ?? right.ids);
        const ones = new Float32Array(end - start).fill(1);
        expect(found.weights ?? ones).toEqual(right.weights ?? ones);
      }),
      { numRuns: 15 },
    );
  });

  it('take two bytes each where the vocabulary allows it, and equal weights nearly nothing', async () => {
    const ids = new Uint32Array(10_000).fill(7);
    const bytesOf = async (weights: Float32Array | null, vocabularySize = 65_536) => (await written([{ ids, weights }], vocabularySize)).pieces[0]?.byteLength ?? 0;
    expect(await bytesOf(null)).toBe(8 + 20_000);
    expect(await bytesOf(null, 65_537)).toBe(8 + 40_000);
    expect(await bytesOf(new Float32Array(10_000).fill(0.5))).toBe(8 + 20_000 + 12);
  });
});

describe('preparing', () => {
  const files = [fileOfBlob('a.txt', new Blob(['abc'])), fileOfBlob('b.jsonl', new Blob(['{"text":"cab"}\n{"text":""}\n{"text":"b"}\n'])), fileOfBlob('c.csv', new Blob(['text\nabba\n']))];
  const prepare = async (tokenizer: Parameters<typeof prepareCorpus>[0]['tokenizer'], more: Partial<Parameters<typeof prepareCorpus>[0]> = {}) => {
    const pieces: ArrayBuffer[] = [];
    const prepared = await prepareCorpus({ documents: (onBytes) => readDocuments(files, { onBytes }), tokenizer, sink: (piece) => void pieces.push(piece), ...more });
    return { ...prepared, corpus: piecesInMemory(prepared, pieces) };
  };

  it('makes a tokenizer of all texts in a first pass, and documents of each in a second', async () => {
    const { corpus, tokenizer, bytes, index } = await prepare(characterTokenizerMaker());
    expect(tokenizer?.decode((await corpus.read(0, index.tokenCount)).ids)).toBe('abccabbabba');
    expect([...index.starts]).toEqual([0, 3, 6, 7, 11]);
    expect(bytes).toBe(files.reduce((sum, { size }) => sum + (size ?? 0), 0));
  });

  it('puts the end-of-text token between documents, and behind the last one none', async () => {
    const { corpus, index } = await prepare(marked('abc'));
    expect([...(await corpus.read(0, index.tokenCount)).ids]).toEqual([0, 1, 2, 3, 2, 0, 1, 3, 1, 3, 0, 1, 1, 0]);
    expect([...index.starts]).toEqual([0, 4, 8, 10, 14]);
  });

  it('keeps the parts of a large text one document', async () => {
    async function* parts() {
      yield { kind: 'text' as const, place: 'a', text: 'ab' };
      yield { kind: 'text' as const, place: 'a, part 2', text: 'ca', continues: true as const };
      yield { kind: 'text' as const, place: 'b', text: 'c' };
    }
    const { corpus, index } = await prepare(marked('abc'), { documents: () => parts() });
    expect([...(await corpus.read(0, index.tokenCount)).ids]).toEqual([0, 1, 2, 0, 3, 2]);
    expect([...index.starts]).toEqual([0, 5, 6]);
  });

  it('lets conversations be converted by whoever knows them', async () => {
    const { index } = await prepare(CharacterTokenizer.fromText('abc'), {
      convert: ({ record }, tokenizer) => (record['text'] === 'abba' ? [{ ids: tokenizer.encode('ab'), weights: Float32Array.of(0, 0.5) }] : null),
    });
    expect([...(index.weightSums ?? [])]).toEqual([NaN, NaN, NaN, 0.5]);
  });

  it('says how far it is, and stops between two documents when it is asked to', async () => {
    const told: PreparationProgress[] = [];
    await prepare(characterTokenizerMaker(), { onProgress: (progress) => told.push(progress) });
    expect(told[0]?.stage).toBe('learning');
    expect(told.at(-1)?.stage).toBe('tokenizing');
    expect(told.at(-1)).toMatchObject({ documents: 5, tokens: 11 });
    const stop = new AbortController();
    let documents = 0;
    async function* endless() {
      for (;;) {
        documents += 1;
        if (documents === 1000) stop.abort(new Error('enough'));
        yield { kind: 'text' as const, place: 'x', text: 'abc' };
      }
    }
    await expect(prepare(CharacterTokenizer.fromText('abc'), { documents: endless, signal: stop.signal })).rejects.toThrow('enough');
    expect(documents).toBe(1000);
  });

  it('names the document whose text the tokenizer can’t express, and a data set without text', async () => {
    await expect(prepare(CharacterTokenizer.fromText('ab'))).rejects.toThrow('a.txt: the vocabulary has no character "c"');
    await expect(prepare(CharacterTokenizer.fromText('ab'), { documents: () => readDocuments([fileOfBlob('b.jsonl', new Blob(['{"text":""}\n']))]) })).rejects.toThrow('the data has no text');
  });
});

describe('a corpus in a browser’s storage', () => {
  let indexedDb: IDBFactory;
  let store: CheckpointStore;
  const run: RunRecord = { room: 'den', key: 'k', title: 't', run: '{}', steps: 1, corpus: '', createdAtMs: 5, name: 'Ada' };
  const documents = [{ ids: Uint32Array.from({ length: 3 * tokensPerPiece }, (_, at) => at % 50_000), weights: null }, { ids: Uint32Array.of(1, 2), weights: Float32Array.of(1, 0.5) }];

  beforeEach(async () => {
    indexedDb = new IDBFactory();
    store = await openCheckpointStore({ indexedDb });
  });

  it('is found again after a reload, by the run that it belongs to', async () => {
    const { corpus } = await written(documents, 50_000);
    await store.saveRun({ ...run, corpus: await keepCorpus(store, corpus) });
    store.close();
    const again = await openCheckpointStore({ indexedDb });
    const found = await openCorpus(again, (await again.loadRun('den'))?.corpus ?? '', 50_000);
    expect(found.index).toEqual(corpus.index);
    expect(await found.read(tokensPerPiece - 3, 2 * tokensPerPiece + 3)).toEqual(await corpus.read(tokensPerPiece - 3, 2 * tokensPerPiece + 3));
    again.close();
  });

  it('goes with the last run that is trained on it', async () => {
    const corpus = await keepCorpus(store, (await written(documents)).corpus);
    await store.saveRun({ ...run, corpus });
    await store.saveRun({ ...run, room: 'attic', corpus });
    await store.remove('den');
    expect(await store.corpusIndex(corpus)).not.toBeNull();
    await store.remove('attic');
    expect(await store.corpusIndex(corpus)).toBeNull();
    expect(await store.corpusPiece(corpus, 0)).toBeNull();
  });

  it('that was never finished is none, and says so', async () => {
    await store.savePieces('half', 0, [new ArrayBuffer(8)]);
    await expect(openCorpus(store, 'half', 10)).rejects.toThrow('no longer in this browser’s storage');
  });

  it('of a run that an older page saved is opened as it lies', async () => {
    const old = new IDBFactory();
    await new Promise<void>((resolve, reject) => {
      const request = old.open('cotrain', 1);
      request.onupgradeneeded = () => {
        const database = request.result;
        database.createObjectStore('runs', { keyPath: 'room' });
        database.createObjectStore('corpora');
        database.createObjectStore('entries', { keyPath: 'sequence', autoIncrement: true }).createIndex('room', 'room');
        database.createObjectStore('pieces');
      };
      request.onsuccess = () => {
        const database = request.result;
        const transaction = database.transaction(['runs', 'corpora'], 'readwrite');
        const { corpus: _, ...facts } = run;
        transaction.objectStore('runs').put({ ...facts, corpusBytes: 12 });
        transaction.objectStore('corpora').put(Uint32Array.of(4, 5, 6), 'den');
        transaction.oncomplete = () => {
          database.close();
          resolve();
        };
        transaction.onerror = reject;
      };
    });
    const upgraded = await openCheckpointStore({ indexedDb: old });
    const corpus = await openCorpus(upgraded, (await upgraded.loadRun('den'))?.corpus ?? '', 10);
    expect([...(await corpus.read(0, 3)).ids]).toEqual([4, 5, 6]);
    await upgraded.remove('den');
    expect(await upgraded.loadRun('den')).toBeNull();
    upgraded.close();
  });
});
