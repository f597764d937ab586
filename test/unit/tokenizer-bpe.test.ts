import { Tokenizer as Library } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BpeTokenizer } from '../../src/data/bpe-tokenizer.ts';
import { trainMerges } from '../../src/data/bpe-training.ts';
import { characterOfId, idOfByte } from '../../src/data/byte-characters.ts';
import { trainedSpecialTokens } from '../../src/data/special-tokens.ts';
import { deserializeTokenizer, tokenizerFacts, tokenizerFromHuggingFace } from '../../src/data/serialized-tokenizer.ts';
import { WordCounter } from '../../src/data/word-counter.ts';
import type { WordLimits } from '../../src/data/word-counter.ts';
import { wordsOf } from '../../src/data/words.ts';
import { MergeTable } from '../../src/data/merge-table.ts';
import golden from '../golden/gpt2-tokens.json' with { type: 'json' };
import { lastBorder, nextBorder } from '../../src/data/text-borders.ts';
import { tokenizeText } from '../../src/data/tokenize-text.ts';
import { driven } from './driven.ts';
import { encodeReference, trainReference, wordsOfReference } from './tokenizer-reference.ts';

/** Few letters, so that pairs repeat and overlap; some of two, three and four bytes; what the word pattern treats specially. */
const letters = ['a', 'b', 'aa', 'ab', 'aba', ' ', '  ', '\n', "'s", "'re", "'", '1', '22', '.', 'é', 'ß', '日', '日本', '🐋', '\u0085', '\ufeff', '\u00a0'];
const textish = fc.oneof(fc.array(fc.constantFrom(...letters), { maxLength: 60 }).map((parts) => parts.join('')), fc.string({ unit: 'grapheme' }), fc.string({ unit: 'binary' }));
/** Any sequence of UTF-16 code units. */
const anyString = fc.oneof(textish, fc.array(fc.integer({ min: 0xd700, max: 0xe0ff })).map((units) => String.fromCharCode(...units)));
/** Text that UTF-8 can hold. */
const wellFormed = anyString.map((text) => new TextDecoder().decode(new TextEncoder().encode(text)));

const sentence = 'The whale, the white whale! He’s there; they’re there, he\'s there. 日本の鯨 🐋🐋 1851, 1851.\n\n  The sea, the sea. ';

function trained(texts: readonly string[], tokens: number): MergeTable {
  const counter = new WordCounter();
  for (const text of texts) {
    counter.add(text);
    counter.endDocument();
  }
  return driven(trainMerges(counter.counted().counts, tokens));
}

const tokenizer = new BpeTokenizer(trained([sentence.repeat(3)], 400), trainedSpecialTokens);
const namesOf = (text: string): string[] => [...tokenizer.encode(text)].map((id) => tokenizer.decode([id]));

describe('training byte pairs', () => {
  it('finds the merges of a straightforward reference, and encodes as it does, on random texts', () => {
    fc.assert(
      fc.property(fc.array(wellFormed, { minLength: 1, maxLength: 4 }), wellFormed, fc.integer({ min: 256, max: 300 }), (texts, other, tokens) => {
        const table = trained(texts, tokens);
        const merges = trainReference(texts, tokens);
        expect(table.merges).toEqual(merges);
        const bpe = new BpeTokenizer(table, []);
        for (const text of [...texts, other]) expect([...bpe.encode(text)]).toEqual(encodeReference(text, merges));
      }),
      { numRuns: 60 },
    );
  });

  it('does not depend on where a stream of text is cut, or on the order of documents', () => {
    fc.assert(
      fc.property(fc.array(anyString, { maxLength: 6 }), fc.array(anyString, { maxLength: 3 }), (pieces, others) => {
        const cut = new WordCounter();
        for (const piece of pieces) cut.add(piece);
        const whole = new WordCounter();
        whole.add(pieces.join(''));
        expect(cut.counted().counts).toEqual(whole.counted().counts);
        const texts = [...pieces, ...others];
        expect(trained(texts, 290).merges).toEqual(trained(texts.toReversed(), 290).merges);
      }),
      { numRuns: 60 },
    );
  });

  it('counts words as they are in the text', () => {
    fc.assert(
      fc.property(wellFormed, (text) => {
        const counter = new WordCounter();
        counter.add(text);
        const counts = new Map<string, number>();
        for (const word of wordsOfReference(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
        expect(counter.counted()).toEqual({ counts, droppedOccurrences: 0 });
      }),
    );
  });

  it('drops the rarest words where there are too many, and says how much went with them', () => {
    const limits: WordLimits = { mostWords: 3, mostCharacters: 1000 };
    const counter = new WordCounter(limits);
    counter.add(' a a a b c d d');
    const { counts, droppedOccurrences } = counter.counted();
    expect(counts).toEqual(new Map([[' a', 3], [' d', 1]]));
    expect(droppedOccurrences, 'b, c and the first d').toBe(3);
  });

  it('takes of equally frequent pairs the one with the smaller ids, and ends when no pair occurs twice', () => {
    const { merges } = trained(['cd cd', 'ab ab', 'xyz'], 1000);
    const names = merges.map(({ left, right }) => [left, right].map((id) => characterOfId[id] ?? '…'));
    expect(names[0]).toEqual(['a', 'b']);
    expect(names[1]).toEqual(['c', 'd']);
    expect(merges.length, '" ab" and " cd" occur once').toBe(2);
  });

  it('tells how far it is', () => {
    const counter = new WordCounter();
    counter.add(sentence.repeat(3));
    const shares = [...trainMerges(counter.counted().counts, 320)];
    expect(shares.length).toBeGreaterThan(2);
    expect(shares.every((share, index) => share >= (shares[index - 1] ?? 0) && share <= 1)).toBe(true);
  });
});

describe('a byte-pair tokenizer', () => {
  it('gives back any string exactly, lone surrogates included', () => {
    fc.assert(fc.property(anyString, (text) => tokenizer.decode(tokenizer.encode(text)) === text), { numRuns: 500 });
  });

  it('gives out while streaming what it would give out at once, and never half a character', () => {
    fc.assert(
      fc.property(wellFormed, (text) => {
        const decoder = tokenizer.streamDecoder();
        const pieces = [...tokenizer.encode(text)].map((id) => decoder.push(id));
        expect(pieces.join('') + decoder.end()).toBe(text);
        expect(pieces.every((piece) => text.includes('\ufffd') || !/\ufffd|[\ud800-\udbff]$|^[\udc00-\udfff]/.test(piece))).toBe(true);
      }),
    );
  });

  it('waits for the rest of a character, and says at the end that it was broken', () => {
    const decoder = tokenizer.streamDecoder();
    const whale = [...tokenizer.encode('🐳')];
    expect(whale.length, 'a character that was not in the training text').toBeGreaterThan(1);
    expect(whale.map((id) => decoder.push(id)).slice(0, -1).join('')).toBe('');
    expect(whale.slice(0, -1).map((id) => decoder.push(id)).join('')).toBe('');
    expect(decoder.end()).toBe('\ufffd');
    expect(decoder.push(tokenizer.encode('a')[0] ?? 0) + decoder.end(), 'it begins anew').toBe('a');
  });

  it('decodes bytes that are no text as browsers do, but for surrogates', () => {
    const single = new BpeTokenizer(trained([], 256), []);
    const browser = new TextDecoder('utf-8', { ignoreBOM: true });
    // The byte ED begins every surrogate. Few bytes, so that characters come about.
    const byte = fc.constantFrom(0x00, 0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe2, 0xef, 0xf0, 0xf3, 0xf4, 0xf5, 0xff);
    fc.assert(
      fc.property(fc.array(byte), (bytes) => {
        expect(single.decode(bytes.map((value) => idOfByte[value] ?? 0))).toBe(browser.decode(Uint8Array.from(bytes)));
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    ["I'm sure they're here, it's theirs; we've won't he'd I'll", ['I', "'m", ' sure', ' they', "'re", ' here', ',', ' it', "'s", ' theirs', ';', ' we', "'ve", ' won', "'t", ' he', "'d", ' I', "'ll"]],
    ["HE'S 'tis ''s", ['HE', "'", 'S', " '", 'tis', " ''", 's']],
    ['in 1851 and 3.14', ['in', ' 1851', ' and', ' 3', '.', '14']],
    ['a  b   c', ['a', ' ', ' b', '  ', ' c']],
    ['end   ', ['end', '   ']],
    ['a\n\n b\t\tc', ['a', '\n\n', ' b', '\t', '\t', 'c']],
    ['x=y²; (z)!', ['x', '=', 'y', '²', ';', ' (', 'z', ')!']],
    ['naïve 日本語です。', ['naïve', ' 日本語です', '。']],
  ])('cuts words as GPT-2 does: %j', (text, words) => {
    expect(wordsOfReference(text), 'the reference').toEqual(words);
    const counter = new WordCounter();
    counter.add(text);
    expect(new Set(counter.counted().counts.keys())).toEqual(new Set(words));
  });

  it('gives GPT-2’s ids with GPT-2’s merges', () => {
    const table = new MergeTable();
    const ids = new Map(characterOfId.map((name, id) => [name, id]));
    const gpt2 = new Map<number, number>();
    for (const [rank, line] of golden.merges as [number, string][]) {
      const [left = '', right = ''] = line.split(' ');
      const made = table.add(ids.get(left) ?? -1, ids.get(right) ?? -1);
      ids.set(left + right, made);
      gpt2.set(made, 256 + rank);
    }
    const bpe = new BpeTokenizer(table, []);
    for (const { text, ids: expected } of golden.texts) expect([...bpe.encode(text)].map((id) => gpt2.get(id) ?? id), text).toEqual(expected);
  });

  it('takes text that looks like a special token for text, and only marks for special tokens', () => {
    const text = 'a<|im_end|>b';
    const [start, end] = ['<|im_start|>', '<|im_end|>'].map((name) => tokenizer.specialId(name) ?? -1);
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect([...tokenizer.encode(text)]).not.toContain(end);
    expect([...tokenizer.encodeMarked('<|im_start|>a<|im_end|>')]).toEqual([start, ...tokenizer.encode('a'), end]);
    expect(tokenizer.decode(tokenizer.encodeMarked(text))).toBe(text);
    expect(tokenizer.endOfText).toBe(tokenizer.vocabularySize - 3);
    expect(tokenizer.specialId('the')).toBe(null);
  });

  it('names ids outside the vocabulary', () => {
    expect(() => tokenizer.decode([tokenizer.vocabularySize])).toThrow(`token ${tokenizer.vocabularySize}`);
  });

  it('keeps words together that were frequent', () => {
    expect(namesOf(' the sea')).toEqual([' the', ' sea']);
  });

  it('comes back from its text with the same ids', async () => {
    const json = tokenizer.serialize();
    const back = await deserializeTokenizer(json);
    expect(tokenizerFacts(json)).toEqual({ kind: 'bpe', vocabularySize: tokenizer.vocabularySize });
    expect(back.serialize()).toBe(json);
    expect(back.encodeMarked(`${sentence}<|endoftext|>`)).toEqual(tokenizer.encodeMarked(`${sentence}<|endoftext|>`));
  });

  it.each([
    ['a merge of what is not there yet', { merges: [0, 300], vocabularySize: 257 }],
    ['half a merge', { merges: [0], vocabularySize: 256 }],
    ['a merge that is there twice', { merges: [0, 1, 0, 1], vocabularySize: 258 }],
    ['another number of tokens', { merges: [0, 1], vocabularySize: 300 }],
    ['a special token twice', { merges: [], specialTokens: ['x', 'x'], vocabularySize: 258 }],
    ['tokens that double in length again and again', { merges: Array.from({ length: 60 }, (_, at) => (at === 0 ? [0, 0] : [255 + at, 255 + at])).flat(), vocabularySize: 316 }],
    ['a kind that nobody knows', { kind: 'words' }],
    ['merges that are no numbers', { merges: ['a', 'b'] }],
  ])('refuses from others %s', async (_, change) => {
    await expect(deserializeTokenizer(JSON.stringify({ kind: 'bpe', specialTokens: [], ...change }))).rejects.toThrow(/^(?!.*undefined).*(merge|tokenizer|token)/);
  });
});

describe('a text', () => {
  it('is counted, learned from and encoded in pieces as it would be at once', () => {
    const text = `${sentence}${"don't stop the sea ".repeat(20_000)}\n\n ${sentence}`;
    const work = tokenizeText(text, { kind: 'bpe', vocabularySize: 300 });
    const stages: string[] = [];
    for (let step = work.next(); ; step = work.next()) {
      if (step.done === true) {
        const whole = new BpeTokenizer(trained([text], 297), trainedSpecialTokens);
        expect(step.value.tokenizer.serialize()).toBe(whole.serialize());
        expect(step.value.tokens).toEqual(whole.encode(text));
        break;
      }
      stages.push(step.value.stage);
    }
    expect(stages.filter((stage) => stage === 'encoding').length).toBeGreaterThan(2);
    expect(new Set(stages)).toEqual(new Set(['counting', 'learning', 'encoding']));
  });
});

describe('a place to cut a text', () => {
  it('changes no words', () => {
    fc.assert(
      fc.property(anyString, fc.nat({ max: 20 }), (text, from) => {
        const words = [...wordsOf(text)];
        for (const at of [nextBorder(text, from), lastBorder(text)]) expect([...wordsOf(text.slice(0, at)), ...wordsOf(text.slice(at))]).toEqual(words);
      }),
      { numRuns: 300 },
    );
  });
});

describe('the files of a byte-pair tokenizer', () => {
  const files = JSON.parse(JSON.stringify(tokenizer.toHuggingFace(512, '{{ messages }}'))) as { readonly tokenizer: object; readonly config: Readonly<Record<string, unknown>> };

  it('are read by Hugging Face’s library with the same ids', () => {
    const library = new Library(files.tokenizer, files.config);
    fc.assert(
      fc.property(wellFormed, (text) => {
        const ids = [...tokenizer.encodeMarked(`${text}<|im_end|>\n${text}`)];
        expect(library.encode(`${text}<|im_end|>\n${text}`, { add_special_tokens: false }).ids).toEqual(ids);
        expect(library.decode(ids)).toBe(tokenizer.decode(ids));
      }),
      { numRuns: 300 },
    );
  });

  it('name the ends, the length and the template', () => {
    expect(files.config).toMatchObject({ eos_token: '<|endoftext|>', bos_token: '<|endoftext|>', pad_token: '<|endoftext|>', model_max_length: 512, chat_template: '{{ messages }}' });
  });

  it('come back as the same tokenizer', async () => {
    const back = await tokenizerFromHuggingFace(files.tokenizer, files.config);
    expect(back).toBeInstanceOf(BpeTokenizer);
    expect(back.serialize()).toBe(tokenizer.serialize());
  });

  it('are ours no more when they do anything else to text', () => {
    expect(BpeTokenizer.fromHuggingFace({ ...files.tokenizer, normalizer: { type: 'NFC' } })).toBe(null);
    expect(BpeTokenizer.fromHuggingFace({ ...files.tokenizer, pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } })).toBe(null);
    expect(BpeTokenizer.fromHuggingFace({ ...files.tokenizer, added_tokens: [] })).toBe(null);
    expect(BpeTokenizer.fromHuggingFace({ ...files.tokenizer, pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true } })?.serialize(), 'as GPT-2 says the same').toBe(tokenizer.serialize());
  });
});
