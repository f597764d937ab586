import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bitsPerByteOf, byteLengthOf, bytesPerScoredToken, perplexityOf } from '../../src/data/bits-per-byte.ts';
import { CharacterTokenizer } from '../../src/data/character-tokenizer.ts';
import { ReplyText } from '../../src/data/reply-text.ts';
import { scoringRows } from '../../src/data/scoring-rows.ts';

/** A token for each byte of UTF-8, as byte-level tokenizers have where nothing was merged. */
const bytewise = {
  encode: (text: string): number[] => [...new TextEncoder().encode(text)],
  decode: (ids: Iterable<number>): string => new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(ids)),
};
const wellFormed = fc.string({ unit: 'grapheme', maxLength: 12 });

describe('a reply as its tokens come', () => {
  test('shows only beginnings of what it becomes, whole characters, and all of it in the end', () => {
    fc.assert(
      fc.property(wellFormed, (text) => {
        const reply = new ReplyText(bytewise);
        let before = '';
        for (const id of bytewise.encode(text)) {
          const { text: shown } = reply.push(id);
          expect(text.startsWith(shown) && shown.startsWith(before)).toBe(true);
          before = shown;
        }
        expect(reply.end()).toBe(text);
      }),
    );
  });

  test('ends before the stop string that is complete first, and never shows a part of it', () => {
    const small = fc.string({ unit: fc.constantFrom('a', 'b', 'ä'), maxLength: 12 });
    fc.assert(
      fc.property(small, fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'ä'), minLength: 1, maxLength: 3 }), { maxLength: 3 }), (text, stops) => {
        const reply = new ReplyText(bytewise, stops);
        const endsIn = (part: string) => stops.map((stop) => part.indexOf(stop)).filter((at) => at >= 0);
        const [ends = []] = Array.from(text, (_, at) => endsIn(text.slice(0, at + 1))).filter(({ length }) => length > 0);
        const expected = ends.length > 0 ? text.slice(0, Math.min(...ends)) : text;
        let isStopped = false;
        for (const id of bytewise.encode(text)) {
          const soFar = reply.push(id);
          expect(expected.startsWith(soFar.text)).toBe(true);
          ({ isStopped } = soFar);
        }
        expect([reply.end(), isStopped]).toEqual([expected, ends.length > 0]);
      }),
    );
  });

  test('what began like a stop string and was none comes after all', () => {
    const reply = new ReplyText(bytewise, ['###']);
    const shown = bytewise.encode('a##b').map((id) => reply.push(id).text);
    expect(shown).toEqual(['a', 'a', 'a', 'a##b']);
  });
});

describe('a text as rows to score', () => {
  test('has every token but the first few as a target once, behind the token before it', () => {
    const sizes = fc.record({ rows: fc.integer({ min: 1, max: 3 }), contextLength: fc.integer({ min: 1, max: 7 }) });
    fc.assert(
      fc.property(fc.uint32Array({ minLength: 2, maxLength: 60 }), fc.integer({ min: 1, max: 4 }), sizes, (ids, firstScored, shape) => {
        const pairs = [...scoringRows(ids, firstScored, shape)].flatMap(({ inputIds, targets, lossWeights }) =>
          [...targets].flatMap((target, at) => ((lossWeights[at] ?? 0) > 0 ? [[inputIds[at], target]] : [])),
        );
        expect(pairs).toEqual([...ids.keys()].slice(firstScored).map((at) => [ids[at - 1], ids[at]]));
      }),
    );
  });
});

describe('losses as figures', () => {
  test('a model that guesses among V tokens has perplexity V and, by the byte, log₂ V bits', () => {
    expect(perplexityOf(Math.log(50))).toBeCloseTo(50, 10);
    expect(bitsPerByteOf(Math.log(256), 1)).toBeCloseTo(8, 10);
    expect(bitsPerByteOf(Math.log(65_536), 4)).toBeCloseTo(4, 10);
  });

  test('bytes of the scored text are counted, whatever tokens it is made of', () => {
    const text = 'aä€😀b';
    const characters = CharacterTokenizer.fromText(text);
    const rowsOf = (ids: ArrayLike<number>, scored: (at: number) => boolean) => ({
      rows: 1,
      contextLength: ids.length,
      inputIds: new Uint32Array(ids.length),
      targets: Uint32Array.from(ids),
      lossWeights: Float32Array.from(ids, (_, at) => (scored(at) ? 0.5 : 0)),
    });
    const [byCharacter, byByte] = [characters.encode(text), bytewise.encode(text)];
    expect(bytesPerScoredToken([rowsOf(byCharacter, () => true)], characters)).toBe(byteLengthOf(text) / 5);
    expect(bytesPerScoredToken([rowsOf(byCharacter, (at) => at > 0)], characters)).toBe(10 / 4);
    // A row that begins within the ä.
    expect(bytesPerScoredToken([rowsOf(byByte, (at) => at > 1)], bytewise)).toBe(1);
    expect(bytesPerScoredToken([rowsOf(byByte, () => false)], bytewise)).toBeNull();
  });
});
