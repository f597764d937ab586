import { Tokenizer as Library } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HuggingFaceTokenizer } from '../../src/data/hugging-face-tokenizer.ts';
import { huggingFaceFiles } from '../../src/data/hugging-face-files.ts';
import { packed, unpacked } from '../../src/data/packed-json.ts';
import { deserializeTokenizer, tokenizerFacts, tokenizerFromHuggingFace } from '../../src/data/serialized-tokenizer.ts';

/** In the way of Llama 1 and 2: blanks become “▁”, what is not in the vocabulary becomes bytes. */
const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
const vocabulary = ['<unk>', '<s>', '</s>', ...bytes, '▁', 'a', 'b', 'c', 'ab', '▁ab', '<think>'];
const added = (content: string, special: boolean) => ({ id: vocabulary.indexOf(content), content, special, single_word: false, lstrip: false, rstrip: false, normalized: false });
const file = {
  version: '1.0',
  added_tokens: [added('<unk>', true), added('<s>', true), added('</s>', true), added('<think>', false)],
  normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
  pre_tokenizer: null,
  post_processor: { type: 'TemplateProcessing', single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }], pair: [], special_tokens: {} },
  decoder: { type: 'Sequence', decoders: [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' }] },
  model: { type: 'BPE', unk_token: '<unk>', fuse_unk: true, byte_fallback: true, vocab: Object.fromEntries(vocabulary.map((name, id) => [name, id])), merges: ['a b', '▁ ab'] },
};
const config = { eos_token: { content: '</s>' }, bos_token: '<s>' };
const open = (tokenizer: unknown = file, of: unknown = config) => HuggingFaceTokenizer.open(huggingFaceFiles(tokenizer, of));
const idOf = (name: string): number => vocabulary.indexOf(name);

describe('a tokenizer of Hugging Face’s', () => {
  it('has the ids that their library gives, without tokens that nobody wrote', async () => {
    const library = new Library(file, config);
    const tokenizer = await open();
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('a', 'b', 'c', ' ', 'é', '🐋') }), (text) => {
        expect([...tokenizer.encode(text)]).toEqual(library.encode(text, { add_special_tokens: false }).ids);
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
        const decoder = tokenizer.streamDecoder();
        const pieces = [...tokenizer.encode(text)].map((id) => decoder.push(id));
        expect([...pieces, decoder.end()].join('')).toBe(text);
        expect(pieces.join('')).not.toContain('\ufffd');
      }),
    );
    expect([...tokenizer.encode('ab ab')]).toEqual([idOf('ab'), idOf('▁ab')]);
  });

  it('takes special tokens’ names in text for text, and other added tokens for what they are', async () => {
    const tokenizer = await open();
    expect([...tokenizer.encodeMarked('a</s>')]).toEqual([idOf('a'), idOf('</s>')]);
    expect([...tokenizer.encode('a</s>')]).not.toContain(idOf('</s>'));
    expect(tokenizer.decode(tokenizer.encode('a</s>'))).toBe('a</s>');
    expect([...tokenizer.encode('<think>a')]).toEqual([idOf('<think>'), idOf('a')]);
    expect([tokenizer.endOfText, tokenizer.specialId('<s>'), tokenizer.specialId('a')]).toEqual([2, 1, null]);
  });

  it('takes names of special tokens for text in a unigram model too', async () => {
    const pieces = [['<unk>', 0], ['</s>', 0], ['<', -3], ['/', -3], ['s', -3], ['>', -3], ['a', -3]];
    const unigram = { ...file, added_tokens: [{ ...added('<unk>', true), id: 0 }, { ...added('</s>', true), id: 1 }], model: { type: 'Unigram', unk_id: 0, vocab: pieces } };
    const tokenizer = await open(unigram);
    expect([...tokenizer.encode('a</s>')]).toEqual([6, 2, 3, 4, 5]);
    expect([...tokenizer.encodeMarked('a</s>')]).toEqual([6, 1]);
  });

  it('comes back from its text, and gives its files away as they came', async () => {
    const tokenizer = await tokenizerFromHuggingFace(file, config);
    const json = tokenizer.serialize();
    expect(tokenizerFacts(json)).toEqual({ kind: 'hugging-face', vocabularySize: vocabulary.length });
    const back = await deserializeTokenizer(json);
    expect(back.serialize()).toBe(json);
    expect([...back.encode('ab é')]).toEqual([...tokenizer.encode('ab é')]);
    expect(back.toHuggingFace(1)).toEqual({ tokenizer: file, config });
    expect(back.toHuggingFace(1, 'x').config).toEqual({ ...config, chat_template: 'x' });
    await expect(deserializeTokenizer(JSON.stringify({ ...(JSON.parse(json) as object), vocabularySize: 999 }))).rejects.toThrow('999 were announced');
  });

  it('finds what ends a text by its usual names where no config says it, and shows ids that name nothing', async () => {
    const tokenizer = await open(file, null);
    expect(tokenizer.endOfText).toBe(2);
    expect(tokenizer.decode([idOf('a'), 5000, idOf('b')])).toBe('a\ufffdb');
  });

  it.each([
    ['no “model”', { added_tokens: [] }],
    ['the id of "a" is -1', { ...file, model: { ...file.model, vocab: { a: -1 } } }],
    ['the id of "a" is 1e+99', { ...file, model: { ...file.model, vocab: { a: 1e99 } } }],
    ['"a" and "b" both have the id 1', { ...file, model: { ...file.model, vocab: { a: 1, b: 1 } }, added_tokens: [] }],
    ['added token 0 has no text', { ...file, added_tokens: [{ id: 3 }] }],
    ['merge 1 is not of two tokens', { ...file, model: { ...file.model, merges: ['a b', 'a z'] } }],
    ['neither an object nor a list', { ...file, model: { type: 'BPE' } }],
    ['can’t be used', { ...file, decoder: { type: 'Nonsense' } }],
  ])('says what is wrong with a file: %s', async (message, tokenizer) => {
    await expect(tokenizerFromHuggingFace(tokenizer, config)).rejects.toThrow(message.replace('’', "'"));
  });
});

describe('packed JSON', () => {
  it('comes back, and is not unpacked beyond what is allowed', async () => {
    const text = await packed({ a: 'x'.repeat(100_000) });
    expect(text.length).toBeLessThan(1000);
    expect(await unpacked(text, 200_000)).toEqual({ a: 'x'.repeat(100_000) });
    await expect(unpacked(text, 50_000)).rejects.toThrow('more than 50000 bytes');
    await expect(unpacked(text.slice(0, 40), 200_000)).rejects.toThrow('damaged');
    await expect(unpacked('%', 200_000)).rejects.toThrow('damaged');
  });
});
