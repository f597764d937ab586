/** What a successor is sent: in ranges without a gap, and what can't be right is refused before memory is set aside. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { PieceWriter, piecesInMemory } from '../../src/data/token-pieces.ts';
import type { PieceCorpus } from '../../src/data/token-pieces.ts';
import type { TokenDocument } from '../../src/data/types.ts';
import { InheritanceError, Pace, checkAnnounced, decodeCorpus, encodeCorpus, rangesOf } from '../../src/session/inheritance.ts';
import { pieceBytes } from '../../src/session/replica-copies.ts';

const largestShortVocabulary = 0x10000;
const vocabularySize = fc.oneof(fc.integer({ min: 1, max: 300_000 }), fc.constantFrom(1, largestShortVocabulary - 1, largestShortVocabulary, largestShortVocabulary + 1));

async function bytesOf(corpus: PieceCorpus): Promise<ArrayBuffer> {
  const sent = encodeCorpus(corpus);
  const bytes = new Uint8Array(sent.byteLength);
  let at = 0;
  for await (const part of sent.parts()) {
    bytes.set(new Uint8Array(part), at);
    at += part.byteLength;
  }
  expect(at).toBe(sent.byteLength);
  return bytes.buffer;
}

async function corpusOf(size: number, documents: readonly TokenDocument[]): Promise<PieceCorpus> {
  const pieces: ArrayBuffer[] = [];
  const writer = new PieceWriter(size, (piece) => void pieces.push(piece));
  for (const document of documents) await writer.add(document);
  return piecesInMemory(await writer.finish(), pieces);
}

describe('a corpus on the wire', () => {
  it('comes back as it was, documents, weights and all', async () => {
    const weights = fc.option(fc.constantFrom(0, 0.5, 1), { nil: null });
    const corpora = vocabularySize.chain((size) =>
      fc.record({ size: fc.constant(size), documents: fc.array(fc.tuple(fc.array(fc.nat(size - 1), { minLength: 1, maxLength: 50 }), weights), { minLength: 1, maxLength: 6 }) }),
    );
    await fc.assert(
      fc.asyncProperty(corpora, async ({ size, documents }) => {
        const sent = await corpusOf(size, documents.map(([ids, weight]) => ({ ids: Uint32Array.from(ids), weights: weight === null ? null : Float32Array.from(ids, (_, at) => weight * (at % 2)) })));
        const received = decodeCorpus(await bytesOf(sent), size);
        expect(received.index).toEqual(sent.index);
        expect(await received.read(0, received.index.tokenCount)).toEqual(await sent.read(0, sent.index.tokenCount));
      }),
      { numRuns: 50 },
    );
  });

  it('that was cut, or changed anywhere, is refused or is a corpus of the vocabulary all the same', async () => {
    const size = 300;
    const good = new Uint8Array(await bytesOf(await corpusOf(size, [5, 1, 40].map((length) => ({ ids: Uint32Array.from({ length }, (_, at) => at * 7), weights: new Float32Array(length).fill(0.5) })))));
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length), fc.array(fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) }), { maxLength: 3 }), async (length, changes) => {
        const bent = good.slice(0, length);
        for (const { at, value } of changes) bent[at] = value;
        try {
          const { index, read } = decodeCorpus(bent.buffer, size);
          const { ids, weights } = await read(0, index.tokenCount);
          expect(ids.every((id) => id < size)).toBe(true);
          expect(weights?.every((weight) => weight >= 0 && Number.isFinite(weight)) ?? true).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(InheritanceError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

/** Small, or about a whole number of pieces. */
const byteLength = fc.oneof(
  fc.nat(2000),
  fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: -2, max: 2 })).map(([pieces, more]) => pieces * pieceBytes + more),
);

test('ranges cover everything from beginning to end without a gap, in pieces of at most 256 KiB', () => {
  fc.assert(
    fc.property(byteLength, (whole) => {
      let covered = 0;
      for (const { offset, byteLength: length } of rangesOf(whole)) {
        expect(offset).toBe(covered);
        expect(length).toBeGreaterThan(0);
        expect(length).toBeLessThanOrEqual(pieceBytes);
        covered += length;
      }
      expect(covered).toBe(whole);
    }),
  );
});

describe('what is announced to a successor', () => {
  const own = { flatBytes: 404, parts: ['firstMoments', 'secondMoments'] } as const;
  const announced = { masterBytes: 404, masterParts: own.parts, corpusBytes: 10 };

  it('is taken when it is of this model and run', () => {
    expect(() => {
      checkAnnounced(announced, own);
    }).not.toThrow();
  });

  it.each<readonly [string, object, string]>([
    ['another size', { masterBytes: 400 }, 'a master state of 400 bytes was announced, and this model’s has 404'],
    ['other parts', { masterParts: ['firstMoments'] }, 'firstMoments were announced, and this run has firstMoments, secondMoments'],
    ['a corpus over 1 GiB', { corpusBytes: 2 ** 30 + 1 }, 'a corpus of 1073741825 bytes was announced'],
  ])('is refused with %s', (_, change, message) => {
    expect(() => {
      checkAnnounced({ ...announced, ...change }, own);
    }).toThrow(new InheritanceError(message));
  });
});

test('more of a master state is handed over at once as long as the network takes it quickly, and less when it does not', async () => {
  let nowMs = 0;
  const pace = new Pace(() => nowMs);
  const sizes: number[] = [];
  for (const tookMs of [10, 10, 10, 400, 400, 10]) {
    sizes.push(pace.bytesAtOnce / pieceBytes);
    await pace.measured(Promise.resolve().then(() => (nowMs += tookMs)));
  }
  expect(sizes).toEqual([1, 2, 4, 8, 4, 2]);
});
