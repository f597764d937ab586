/** What a successor is sent: it arrives whole whatever its size, and what can't be right is refused before memory is set aside. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InheritanceBuilder, InheritanceError, decodeCorpus, encodeCorpus, piecesOf } from '../../src/session/inheritance.ts';
import type { Inheritance } from '../../src/session/inheritance.ts';

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

const pieceBytes = 256 * 1024;

/** Bytes that are different everywhere near, so that a piece in a wrong place shows. */
function bytesOf(length: number, seed: number): ArrayBuffer {
  const bytes = new Uint8Array(length);
  for (let at = 0, state = seed; at < length; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes.buffer;
}

const isSame = (a: ArrayBuffer, b: ArrayBuffer): boolean => Buffer.from(a).equals(Buffer.from(b));

/** Small, or about a whole number of pieces. */
const byteLength = fc.oneof(
  fc.nat(2000),
  fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: -2, max: 2 })).map(([pieces, more]) => pieces * pieceBytes + more),
);

describe('an inheritance', () => {
  it('is put together from its pieces, whatever its size', () => {
    fc.assert(
      fc.property(byteLength, byteLength, (momentsBytes, corpusBytes) => {
        const sent: Inheritance = { firstMoments: bytesOf(momentsBytes, 1), secondMoments: bytesOf(momentsBytes, 2), corpus: bytesOf(corpusBytes, 3) };
        const builder = new InheritanceBuilder({ momentsBytes, corpusBytes }, momentsBytes);
        for (const { part, offset, bytes } of piecesOf(sent)) builder.put(part, offset, bytes);
        const got = builder.whole();
        for (const part of ['firstMoments', 'secondMoments', 'corpus'] as const) expect(isSame(got[part], sent[part]), part).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  it('goes in pieces of at most 256 KiB, each part from its beginning to its end without a gap, the corpus first', () => {
    fc.assert(
      fc.property(byteLength, byteLength, (momentsBytes, corpusBytes) => {
        const received = { corpus: 0, firstMoments: 0, secondMoments: 0 };
        const order: string[] = [];
        const inheritance = { firstMoments: new ArrayBuffer(momentsBytes), secondMoments: new ArrayBuffer(momentsBytes), corpus: new ArrayBuffer(corpusBytes) };
        for (const { part, offset, bytes } of piecesOf(inheritance)) {
          if (order.at(-1) !== part) order.push(part);
          expect(offset).toBe(received[part]);
          expect(bytes.byteLength).toBeGreaterThan(0);
          expect(bytes.byteLength).toBeLessThanOrEqual(pieceBytes);
          received[part] += bytes.byteLength;
        }
        expect(received).toEqual({ corpus: corpusBytes, firstMoments: momentsBytes, secondMoments: momentsBytes });
        expect(order).toEqual(['corpus', 'firstMoments', 'secondMoments'].filter((part) => received[part as keyof typeof received] > 0));
      }),
      { numRuns: 40 },
    );
  });

  it('is refused when its moments are not those of this model', () => {
    expect(() => new InheritanceBuilder({ momentsBytes: 400, corpusBytes: 10 }, 404)).toThrow(new InheritanceError('moments of 400 bytes were announced, and this model’s have 404'));
    expect(() => new InheritanceBuilder({ momentsBytes: 0, corpusBytes: 10 }, 404)).toThrow(InheritanceError);
  });

  it('is refused when its corpus is over 1 GiB, or this machine has no memory for it', () => {
    expect(() => new InheritanceBuilder({ momentsBytes: 4, corpusBytes: 2 ** 30 + 1 }, 4)).toThrow(new InheritanceError('a corpus of 1073741825 bytes was announced'));
    expect(() => new InheritanceBuilder({ momentsBytes: 2 ** 52, corpusBytes: 4 }, 2 ** 52)).toThrow(new InheritanceError('there is no memory for it'));
  });
});
