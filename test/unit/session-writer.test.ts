import { describe, expect, test } from 'vitest';
import { CharacterTokenizer } from '../../src/data/character-tokenizer.ts';
import { StateStore } from '../../src/session/state.ts';
import type { GenerateOptions } from '../../src/session/types.ts';
import { Writer } from '../../src/session/writer.ts';
import type { ChatFormat } from '../../src/session/writer.ts';
import { TrainerError, problems } from '../../src/trainer/errors.ts';
import type { SampleRequest, SampleResult, Trainer } from '../../src/trainer/types.ts';

const tokenizer = new CharacterTokenizer('abcdefgh');

/** A trainer that counts on from the prompt's last token until it is stopped, a task a token. */
function countingTrainer() {
  const stopped = new Set<string>();
  const asked: SampleRequest[] = [];
  const dropped: number[] = [];
  let kept = 0;
  const trainer: Pick<Trainer, 'sample' | 'stopSample' | 'keepWeights' | 'dropWeights'> = {
    async sample(request, drawn): Promise<SampleResult> {
      asked.push(request);
      if (request.weights !== undefined && dropped.includes(request.weights)) throw new TrainerError(problems.keptWeightsGone());
      const ids: number[] = [];
      let end: SampleResult['end'] = 'length';
      while (ids.length < request.maxNewTokens) {
        if (stopped.has(request.sample ?? '')) {
          end = 'stopped';
          break;
        }
        ids.push(((ids.at(-1) ?? request.promptIds.at(-1) ?? 0) + 1) % tokenizer.vocabularySize);
        drawn?.(ids.at(-1) ?? 0);
        await Promise.resolve();
        if (request.stopIds?.includes(ids.at(-1) ?? -1) === true) {
          end = 'stop-id';
          break;
        }
      }
      return { ids, end, tokensPerSecond: 10, fromStep: 3, toStep: 4 };
    },
    stopSample: (sample) => void stopped.add(sample),
    keepWeights: () => Promise.resolve({ id: ++kept, step: 3, bytes: 8 }),
    dropWeights: (id) => Promise.resolve(void dropped.push(id)),
  };
  return { trainer: trainer as Trainer, asked, dropped };
}

function writerWith(chat: ChatFormat | null = null) {
  const store = new StateStore();
  const counting = countingTrainer();
  return { writer: new Writer({ trainer: () => counting.trainer, tokenizer, chat, store }), store, ...counting };
}

describe('a writer', () => {
  test('continues a text and tells of it as it grows', async () => {
    const { writer } = writerWith();
    const grown: string[] = [];
    const written = await writer.generate('ab', { maxNewTokens: 3, onText: (text) => grown.push(text) });
    expect(written).toEqual({ text: 'cde', end: 'length', tokens: 3, tokensPerSecond: 10, fromStep: 3, toStep: 4 });
    expect(grown).toEqual(['c', 'cd', 'cde']);
  });

  test('ends before a stop string, and lets the trainer draw no further', async () => {
    const { writer } = writerWith();
    expect(await writer.generate('a', { maxNewTokens: 50, stop: ['ef'] })).toMatchObject({ text: 'bcd', end: 'stop', tokens: 5 });
  });

  test('ends where it is told to, with what there is', async () => {
    const { writer } = writerWith();
    const stopping = new AbortController();
    const options: GenerateOptions = { signal: stopping.signal, maxNewTokens: 50, onText: (text) => text.length === 2 && stopping.abort() };
    expect(await writer.generate('a', options)).toMatchObject({ text: 'bc', end: 'stopped' });
  });

  test('answers a conversation by the run’s template, without the token that ends the answer', async () => {
    const { writer, asked } = writerWith({ encode: (messages) => messages.map(({ content }) => content.length), stopIds: [6] });
    const messages = [{ role: 'user', content: 'four' }, { role: 'assistant', content: 'on' }] as const;
    expect(await writer.generate(messages)).toMatchObject({ text: 'def', end: 'stop', tokens: 4 });
    expect(asked[0]?.promptIds).toEqual([4, 2]);
    await expect(writerWith().writer.generate(messages)).rejects.toMatchObject({ problem: { code: 'no-chat-template' } });
  });

  test('says so where there is nothing to continue', async () => {
    await expect(writerWith().writer.generate('XYZ')).rejects.toMatchObject({ problem: { code: 'nothing-to-continue' } });
  });

  test('keeps weights by name, shows them, and forgets those that are gone', async () => {
    const { writer, store, asked, dropped } = writerWith();
    const kept = await writer.keep('before');
    expect(store.state.kept).toEqual([{ id: 1, step: 3, bytes: 8, name: 'before' }]);
    await writer.generate('a', { weights: kept.id, maxNewTokens: 1 });
    expect(asked[0]?.weights).toBe(1);
    dropped.push(1);
    await expect(writer.generate('a', { weights: 1 })).rejects.toMatchObject({ problem: { code: 'kept-weights-gone' } });
    expect(store.state.kept).toEqual([]);
  });

  test('frees what was kept when it ends', async () => {
    const { writer, store, dropped } = writerWith();
    await writer.keep('one');
    await writer.keep('two');
    writer.end();
    expect(dropped).toEqual([1, 2]);
    expect(store.state.kept).toEqual([]);
  });
});
