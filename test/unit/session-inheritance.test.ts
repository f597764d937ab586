/** What a successor is sent: in ranges without a gap, and what can't be right is refused before memory is set aside. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { InheritanceError, Pace, checkAnnounced, decodeCorpus, encodeCorpus, rangesOf } from '../../src/session/inheritance.ts';
import { pieceBytes } from '../../src/session/replica-copies.ts';

const largestShortVocabulary = 0x10000;
const vocabularySize = fc.oneof(fc.integer({ min: 1, max: 300_000 }), fc.constantFrom(1, largestShortVocabulary - 1, largestShortVocabulary, largestShortVocabulary + 1));

describe('a corpus on the wire', () => {
  it('comes back as it was, in two bytes a token where its vocabulary allows and in four where not', () => {
    const corpora = vocabularySize.chain((size) => fc.record({ size: fc.constant(size), ids: fc.array(fc.oneof(fc.nat(size - 1), fc.constant(size - 1)), { maxLength: 200 }) }));
    fc.assert(
      fc.property(corpora, ({ size, ids }) => {
        const tokens = Uint32Array.from(ids);
        const bytes = encodeCorpus(tokens, size);
        expect(bytes.byteLength).toBe(ids.length * (size <= largestShortVocabulary ? 2 : 4));
        expect(decodeCorpus(bytes, size)).toEqual(tokens);
      }),
    );
  });

  it('leaves the sender’s own tokens alone', () => {
    for (const size of [100, 100_000]) {
      const tokens = Uint32Array.from([1, 2, 3]);
      new Uint8Array(encodeCorpus(tokens, size)).fill(0);
      expect([...tokens]).toEqual([1, 2, 3]);
    }
  });

  it('is refused where a token was cut in two, or is none of the vocabulary', () => {
    fc.assert(
      fc.property(vocabularySize, fc.nat(50), fc.nat(50), fc.nat(), (size, before, after, beyond) => {
        const bytes = encodeCorpus(new Uint32Array(before + 1 + after), size);
        const width = size <= largestShortVocabulary ? 2 : 4;
        for (let cut = 1; cut < width; cut += 1) expect(() => decodeCorpus(bytes.slice(cut), size)).toThrow(InheritanceError);
        const limit = width === 2 ? largestShortVocabulary : 2 ** 32;
        if (size >= limit) return;
        const foreign = size + (beyond % (limit - size));
        if (width === 2) new Uint16Array(bytes)[before] = foreign;
        else new Uint32Array(bytes)[before] = foreign;
        expect(() => decodeCorpus(bytes, size)).toThrow(/ids that its tokenizer does not know/);
      }),
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
