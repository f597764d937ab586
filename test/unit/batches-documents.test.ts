/** Batches of several documents: what may be seen, what is asked for, what is held out, and that all of it is known beforehand. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { memoryBatches, openBatches, weightOf } from '../../src/data/batches.ts';
import type { CorpusOptions } from '../../src/data/batches.ts';
import { memoryCorpus } from '../../src/data/corpus.ts';
import type { MicrobatchRows, TokenDocument } from '../../src/data/types.ts';

const base: CorpusOptions = { rowsPerStep: 5, rowsPerMicrobatch: 2, contextLength: 8, order: 'shuffled', seed: 3, validationShare: 0, keepDocumentsApart: true };
const steps = 6;
/** Token t of document d is d · stride + t, so that every token says where it is from. */
const stride = 100;

function documentsOf(lengths: readonly number[], weights: (document: number) => Float32Array | null = () => null): TokenDocument[] {
  return lengths.map((length, document) => ({ ids: Uint32Array.from({ length }, (_, at) => document * stride + at), weights: weights(document) }));
}

const lengthsOf = (most: number) => fc.array(fc.integer({ min: 1, max: most }), { minLength: 2, maxLength: 12 });

function microbatches(source: ReturnType<typeof memoryBatches>): MicrobatchRows[] {
  return Array.from({ length: steps }, (_, step) => Array.from({ length: source.microbatchesPerStep }, (_each, index) => source.draw(step, index))).flat();
}

/** Each position of the rows with the place in its row. */
function* positions({ rows, contextLength, inputIds, targets, lossWeights, documentStarts }: MicrobatchRows) {
  for (let at = 0; at < rows * contextLength; at++) {
    const place = at % contextLength;
    const start = documentStarts?.[at] ?? 0;
    const visible = [...inputIds.subarray(at - place + start, at + 1)];
    yield { place, start, visible, id: inputIds[at] ?? 0, target: targets[at] ?? 0, weight: lossWeights[at] ?? 0 };
  }
}

const documentOf = (id: number): number => Math.floor(id / stride);

describe('documents that are kept apart', () => {
  it('see and predict nothing of each other, in windows of a text and in packed rows', () => {
    fc.assert(
      fc.property(lengthsOf(20), fc.constantFrom('text' as const, 'packed' as const), fc.constantFrom('shuffled' as const, 'sequential' as const), (lengths, rowLayout, order) => {
        fc.pre(lengths.reduce((a, b) => a + b) >= base.contextLength && lengths.some((length) => length > 1));
        for (const rows of microbatches(memoryBatches(memoryCorpus(documentsOf(lengths)), { ...base, rowLayout, order }))) {
          for (const { visible, id, target, weight } of positions(rows)) {
            if (weight === 0) continue;
            expect(weight).toBe(1);
            expect(target).toBe(id + 1);
            expect(documentOf(target)).toBe(documentOf(id));
            expect(visible.every((each) => documentOf(each) === documentOf(id))).toBe(true);
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  it('leave no position unscored that has a next token in its row', () => {
    const source = memoryBatches(memoryCorpus(documentsOf([5, 1, 9, 3, 30])), { ...base, rowsPerStep: 4 });
    for (const rows of microbatches(source)) {
      const all = [...positions(rows)];
      all.forEach(({ id, place, weight }, at) => {
        if (place < base.contextLength - 1 && all[at + 1]?.id === id + 1) expect(weight).toBe(1);
      });
    }
  });

  it('run into each other where a run does not keep them apart', () => {
    const corpus = memoryCorpus(documentsOf([3, 2, 11]));
    const source = memoryBatches(corpus, { ...base, order: 'sequential', rowsPerStep: 1, rowsPerMicrobatch: 1, keepDocumentsApart: false });
    const { inputIds, targets, lossWeights, documentStarts } = source.draw(0, 0);
    expect([...inputIds]).toEqual([0, 1, 2, 100, 101, 200, 201, 202]);
    expect([...targets]).toEqual([1, 2, 100, 101, 200, 201, 202, 0]);
    expect([...lossWeights]).toEqual([1, 1, 1, 1, 1, 1, 1, 0]);
    expect(documentStarts).toBeUndefined();
  });
});

describe('a corpus', () => {
  const weighted = (lengths: readonly number[], seed: number) =>
    documentsOf(lengths, (document) =>
      (document + seed) % 3 === 0 ? null : Float32Array.from({ length: lengths[document] ?? 0 }, (_, at) => [0, 0.5, 2][(at * 7 + document + seed) % 3] ?? 0),
    );

  it('knows what each micro-batch weighs without reading it, and reads the same rows from anywhere', async () => {
    const layouts = fc.constantFrom('text' as const, 'packed' as const, 'single' as const);
    await fc.assert(
      fc.asyncProperty(lengthsOf(20), layouts, fc.nat(9), fc.boolean(), async (lengths, rowLayout, seed, keepDocumentsApart) => {
        const documents = rowLayout === 'text' ? documentsOf(lengths) : weighted(lengths, seed);
        const corpus = memoryCorpus(documents);
        const options = { ...base, rowLayout, seed, keepDocumentsApart, validationShare: 0.3 };
        let source;
        try {
          source = memoryBatches(corpus, options);
        } catch {
          return; // Too little for a row.
        }
        const elsewhere = await openBatches({ index: corpus.index, read: (start, end) => Promise.resolve(corpus.read(start, end)) }, options);
        expect(elsewhere.validation).toEqual(source.validation);
        for (let step = 0; step < steps; step++) {
          for (let index = 0; index < source.microbatchesPerStep; index++) {
            const rows = source.draw(step, index);
            expect(source.weightOfMicrobatch(step, index)).toBeCloseTo(weightOf(rows), 9);
            expect(await elsewhere.draw(step, index)).toEqual(rows);
          }
        }
      }),
    );
  });

  it('never trains on a document that is held out, whatever the rows', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 4, max: 20 }), { minLength: 4, maxLength: 20 }), fc.constantFrom('text' as const, 'packed' as const), fc.nat(5), (lengths, rowLayout, seed) => {
        const source = memoryBatches(memoryCorpus(documentsOf(lengths)), { ...base, rowLayout, seed, validationShare: 0.25 });
        const documentsIn = (all: readonly MicrobatchRows[]) =>
          new Set(all.flatMap((rows) => [...positions(rows)].filter(({ weight }) => weight > 0).map(({ id }) => documentOf(id))));
        const held = documentsIn(source.validation);
        const trained = documentsIn(microbatches(source));
        // Where no document is small enough, the end of the text is held out, which may cut one.
        const shared = [...held].filter((document) => trained.has(document));
        expect(shared.length).toBeLessThanOrEqual(held.size === 1 || shared.includes(lengths.length - 1) ? 1 : 0);
      }),
    );
  });

  it('holds out about its share of the tokens, by seed alone', () => {
    const corpus = memoryCorpus(documentsOf(Array.from({ length: 300 }, (_, at) => 5 + (at % 13))));
    const heldOut = (seed: number, contextLength = 8) => {
      const { validation } = memoryBatches(corpus, { ...base, contextLength, seed, rowLayout: 'packed', validationShare: 0.1, maxValidationRows: 1000 });
      return validation.flatMap((rows) => [...positions(rows)].filter(({ weight }) => weight > 0).map(({ id }) => id));
    };
    expect(heldOut(1).length / corpus.index.tokenCount).toBeGreaterThan(0.07);
    expect(heldOut(1).length / corpus.index.tokenCount).toBeLessThan(0.11);
    expect(new Set(heldOut(1).map(documentOf))).not.toEqual(new Set(heldOut(2).map(documentOf)));
    expect(new Set(heldOut(1, 17).map(documentOf))).toEqual(new Set(heldOut(1).map(documentOf)));
  });
});

describe('rows of documents', () => {
  const scored = (weights: readonly number[]): TokenDocument => ({ ids: Uint32Array.from(weights, (_, at) => at + 1), weights: Float32Array.from(weights) });

  it('hold whole documents, as many as fit, each once in every pass', () => {
    const lengths = [3, 4, 2, 8, 1, 5, 3];
    const source = memoryBatches(memoryCorpus(documentsOf(lengths, (document) => new Float32Array(lengths[document] ?? 0).fill(1))), { ...base, rowLayout: 'packed', order: 'sequential', rowsPerStep: 4, rowsPerMicrobatch: 4 });
    const rows = source.draw(0, 0);
    expect([...rows.inputIds.subarray(0, 8)]).toEqual([0, 1, 2, 100, 101, 102, 103, 0]);
    expect([...(rows.documentStarts ?? [])].slice(0, 8)).toEqual([0, 0, 0, 3, 3, 3, 3, 3]);
    expect([...rows.lossWeights.subarray(0, 8)]).toEqual([1, 1, 0, 1, 1, 1, 0, 0]);
    expect([...rows.inputIds.subarray(8, 16)]).toEqual([200, 201, 0, 0, 0, 0, 0, 0]);
    // A document of one token has nothing to predict.
    expect(source.leftOut).toEqual({ truncated: 0, unscored: 1 });
    expect(rows.inputIds.includes(400)).toBe(false);
  });

  it('cut off what is too long to be scored whole, and say how many there were', () => {
    const long = scored([0, 0, 0, 1, 1, 1, 1, 1, 1, 1]);
    const lost = scored([0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    const source = memoryBatches(memoryCorpus([long, lost, scored([0, 1])]), { ...base, rowLayout: 'packed', order: 'sequential', rowsPerStep: 1, rowsPerMicrobatch: 1 });
    expect(source.leftOut).toEqual({ truncated: 2, unscored: 1 });
    expect([...source.draw(0, 0).lossWeights]).toEqual([0, 0, 1, 1, 1, 1, 1, 0]);
    expect(source.weightOfMicrobatch(0, 0)).toBe(5);
    expect(source.weightOfMicrobatch(1, 0)).toBe(1);
  });

  it('go on with long texts in further rows', () => {
    const source = memoryBatches(memoryCorpus([{ ids: Uint32Array.from({ length: 20 }, (_, at) => at), weights: null }, scored([0, 1])]), { ...base, rowLayout: 'packed', order: 'sequential', rowsPerStep: 3, rowsPerMicrobatch: 3 });
    expect([...source.draw(0, 0).inputIds]).toEqual([...Array.from({ length: 20 }, (_, at) => at), 1, 2, 0, 0]);
    expect(source.leftOut.truncated).toBe(0);
  });

  it('predict labels where a data set has others than its ids', () => {
    const corpus = memoryCorpus([{ ids: Uint32Array.of(1, 2, 3), weights: Float32Array.of(0, 1, 1), labels: Uint32Array.of(1, 7, 8) }]);
    const { targets, lossWeights } = memoryBatches(corpus, { ...base, rowLayout: 'single', rowsPerStep: 1, rowsPerMicrobatch: 1 }).draw(0, 0);
    expect([...targets].slice(0, 2)).toEqual([7, 8]);
    expect([...lossWeights].slice(0, 3)).toEqual([1, 1, 0]);
  });

  it('without a scored token anywhere are refused', () => {
    expect(() => memoryBatches(memoryCorpus([scored([1, 0, 0])]), { ...base, rowLayout: 'packed' })).toThrow('no scored token');
  });
});
