/** Conversations as tokens: golden cases (test/golden/make_chats.py), layouts, templates, and rows that can't be read. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { CharacterTokenizer } from '../../src/data/character-tokenizer.ts';
import { isConversation, readConversation } from '../../src/data/chats/conversation.ts';
import { documentTokenizer } from '../../src/data/chats/documents.ts';
import type { BadRows } from '../../src/data/chats/documents.ts';
import { everything, objectiveSchema } from '../../src/data/chats/objective.ts';
import type { Objective } from '../../src/data/chats/objective.ts';
import { openTemplate } from '../../src/data/chats/own-template.ts';
import type { ChatTemplate } from '../../src/data/chats/template.ts';
import { chatMl } from '../../src/data/chats/template.ts';
import { previewConversation, promptTokens, tokenizeConversation, tokenizeText } from '../../src/data/chats/tokenize.ts';
import type { SourceDocument } from '../../src/data/types.ts';
import { WordTokenizer } from './word-tokenizer.ts';

interface GoldenChat {
  readonly what: string;
  readonly template: string;
  readonly objective: unknown;
  readonly record: Readonly<Record<string, unknown>>;
  /** What the template writes, and what its characters weigh. */
  readonly said: readonly (readonly [text: string, weight: number])[];
  readonly positions: readonly (readonly [token: string, target: string | null, weight: number])[];
}

interface Golden {
  readonly special: readonly string[];
  readonly texts: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly cases: readonly GoldenChat[];
}

const folder = new URL('../golden/', import.meta.url);
const golden = JSON.parse(readFileSync(new URL('chats.json', folder), 'utf8')) as Golden;
const tokenizer = new WordTokenizer(golden.special);

function templateNamed(name: string): Promise<ChatTemplate> {
  if (name === 'chatml') return openTemplate(tokenizer, null);
  const chatTemplate = readFileSync(new URL(`chat-templates/${name}.jinja`, folder), 'utf8');
  return openTemplate(tokenizer, { tokenizerConfig: golden.texts[name], chatTemplate });
}

/** As the golden file writes them. */
function nameOf(id: number): string {
  return id >= 100 && id < 1000 ? `byte ${(id - 100).toString(16)}` : tokenizer.decode([id]);
}

describe.each(golden.cases)('$what ($template)', ({ template: name, objective: given, record, said, positions }) => {
  const objective = v.parse(objectiveSchema, given);

  it('is written as the template says', async () => {
    const template = await templateNamed(name);
    expect(template.render(readConversation(record, 'here')).text).toBe(said.map(([text]) => text).join(''));
  });

  it('has these tokens, targets one further on, and weights', async () => {
    const { ids, weights } = tokenizeConversation(readConversation(record, 'here'), await templateNamed(name), objective, tokenizer);
    const measured = Array.from(ids, (id, at) => {
      const target = ids[at + 1];
      return [nameOf(id), target === undefined ? null : nameOf(target), target === undefined ? 0 : weights === null ? 1 : weights[at + 1]];
    });
    const right = positions.map(([token, target, weight]) => [token, target, Math.fround(weight)]);
    expect(measured).toEqual(right);
  });

  it('shows a person the same', async () => {
    const { tokens } = previewConversation(readConversation(record, 'here'), await templateNamed(name), objective, tokenizer);
    expect(tokens.map(({ text }) => text).join('')).toBe(said.map(([text]) => text).join(''));
    expect(tokens.slice(1).map(({ weight }) => weight)).toEqual(positions.slice(0, -1).map(([, , weight]) => Math.fround(weight)));
    expect(tokens[0]?.weight).toBe(0);
  });
});

describe('layouts', () => {
  const read = (record: Readonly<Record<string, unknown>>) => readConversation(record, 'a.jsonl:3');
  const said = (record: Readonly<Record<string, unknown>>) => read(record).messages.map(({ role, content }) => [role, content]);

  it.each([
    ['parts of content', { messages: [{ role: 'developer', content: [{ type: 'text', text: 'A' }, { type: 'text', text: 'b' }] }] }, [['system', 'Ab']]],
    ['a table’s cell of JSON', { messages: '[{"role": "user", "content": "A"}]' }, [['user', 'A']]],
    ['ShareGPT with a system text beside', { system: 'S', conversations: [{ from: 'human', value: 'A' }, { from: 'observation', value: 'B' }] }, [['system', 'S'], ['user', 'A'], ['tool', 'B']]],
    ['Alpaca without an input', { instruction: 'A', input: '', output: 'B' }, [['user', 'A'], ['assistant', 'B']]],
    ['Dolly', { instruction: 'A', context: 'C', response: 'B', category: 'x' }, [['user', 'A\n\nC'], ['assistant', 'B']]],
    ['prompt and completion as messages', { prompt: [{ role: 'user', content: 'A' }], completion: [{ role: 'assistant', content: 'B' }] }, [['user', 'A'], ['assistant', 'B']]],
    ['query and response', { query: 'A', response: 'B' }, [['user', 'A'], ['assistant', 'B']]],
    ['input and output', { input: 'A', output: 'B', text: null }, [['user', 'A'], ['assistant', 'B']]],
  ])('%s', (_name, record, right) => {
    expect(isConversation(record)).toBe(true);
    expect(said(record)).toEqual(right);
  });

  it.each([
    ['a.jsonl:3: no known layout of a conversation has the keys title, body. Understood are: messages with role and content; ', { title: '', body: '' }],
    ['a.jsonl:3, messages is empty', { messages: [] }],
    ['a.jsonl:3, messages is text, and no valid JSON', { messages: 'Hello' }],
    ['a.jsonl:3, messages[1].role is "robot", and should be one of system, user', { messages: [{ role: 'user', content: 'A' }, { role: 'robot', content: 'B' }] }],
    ['a.jsonl:3, messages[0].content is missing, not text', { messages: [{ role: 'user' }] }],
    ['a.jsonl:3, messages[0].content[0] is of type "image_url": only text can be learned here', { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }],
    ['a.jsonl:3, messages[0].weight is -1, not a number of at least 0', { messages: [{ role: 'user', content: 'A', weight: -1 }] }],
    ['a.jsonl:3, messages[0].spans[0] goes from 0 to 3, and the text has 2 characters', { messages: [{ role: 'user', content: 'A🐳', spans: [{ start: 0, end: 3, weight: 1 }] }] }],
    ['a.jsonl:3, answer is {"text":"A"}, not text', { question: 'A', answer: { text: 'A' } }],
    ['a.jsonl:3: the conversation is empty', { prompt: '', completion: '' }],
  ])('names what is wrong: %s', (message, record) => {
    expect(() => read(record)).toThrow(message);
  });
});

describe('templates', () => {
  const config = (chatTemplate: unknown) => ({ tokenizerConfig: { chat_template: chatTemplate, bos_token: { content: '<s>' } }, chatTemplate: null });
  const hello = readConversation({ messages: [{ role: 'user', content: 'Hi' }] }, 'a.jsonl:3');

  it('are ChatML where the model has none, which needs its two tokens', async () => {
    expect((await openTemplate(tokenizer, config(undefined))).name).toBe('ChatML');
    await expect(openTemplate(CharacterTokenizer.fromText('abc'), null)).rejects.toThrow('no special token <|im_start|> and <|im_end|>');
  });

  it('are the default of several, with special tokens by name', async () => {
    const template = await openTemplate(tokenizer, config([{ name: 'rag', template: 'no' }, { name: 'default', template: '{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}' }]));
    expect(template.render(hello).text).toBe('<s>Hi');
    expect(template.turnEnd).toBeNull();
  });

  it('end a prompt where the assistant is to speak', async () => {
    const texts = ['chatml', 'bracketed', 'thinking'].map(async (name) => tokenizer.decode(promptTokens(hello, await templateNamed(name), tokenizer)));
    expect(await Promise.all(texts)).toEqual([
      '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n',
      '<|begin|><|head|>user<|/head|>\n\nHi<|eot|><|head|>assistant<|/head|>\n\n',
      '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n',
    ]);
  });

  it('that can’t be read are errors with their file, and those that fail with the row', async () => {
    await expect(openTemplate(tokenizer, config('{% for x in %}'))).rejects.toThrow(/^tokenizer_config\.json: the chat template can't be read: /);
    await expect(openTemplate(tokenizer, config(7))).rejects.toThrow('neither a text nor a list');
    const instructed = await templateNamed('instructed');
    const twice = readConversation({ messages: [{ role: 'user', content: 'A' }, { role: 'user', content: 'B' }] }, 'a.jsonl:9');
    expect(() => instructed.render(twice)).toThrow('a.jsonl:9: the chat template of chat_template.jinja fails: question and answer must alternate');
  });

  it('that change contents so that nobody can tell whose words these are say so', async () => {
    const source = "{% for m in messages %}{{ 'even ' if (m.content | length) % 2 == 0 else m.content[:1] }}{% if 'Hi' in m.content %}!{% endif %}{% endfor %}";
    const template = await openTemplate(tokenizer, config(source));
    expect(() => template.render(hello)).toThrow('a.jsonl:3: the chat template of tokenizer_config.json does more with a message’s text'.replace('’', "'"));
  });

  it('never make a special token of what people write, whichever template it is', async () => {
    const templates = await Promise.all(['chatml', 'bracketed', 'thinking', 'instructed'].map(templateNamed));
    const piece = fc.oneof(fc.constantFrom(...golden.special, '<|im_', 'end|>', '<think>', '</think>', '\n', ' ', '"', 'Hi', '🐳'), fc.string({ unit: 'binary', maxLength: 4 }));
    const content = fc.array(piece, { minLength: 1, maxLength: 6 }).map((pieces) => `a${pieces.join('')}z`);
    const count = (ids: Iterable<number>) => [...ids].filter((id) => id < 100).length;
    fc.assert(
      fc.property(content, content, fc.constantFrom(...templates), (question, answer, template) => {
        const messages = (first: string, second: string) => ({ messages: [{ role: 'user', content: first }, { role: 'assistant', content: second }] });
        const { ids } = tokenizeConversation(readConversation(messages(question, answer), 'here'), template, everything, tokenizer);
        const plain = tokenizeConversation(readConversation(messages('a', 'b'), 'here'), template, everything, tokenizer);
        expect(count(ids)).toBe(count(plain.ids));
        expect(tokenizer.decode(ids)).toBe(template.render(readConversation(messages(question, answer), 'here')).text);
      }),
      { numRuns: 100 },
    );
  });
});

describe('texts', () => {
  const text = (content: string) => ({ place: 'a.txt', text: content, spans: [] });

  it('end with the end-of-text token, where there is one, and count 1 everywhere', () => {
    const { ids, weights } = tokenizeText(text('One two'), { kind: 'assistant' }, tokenizer);
    expect([...ids].map(nameOf)).toEqual(['One', ' two', '<|endoftext|>']);
    expect(weights).toBeNull();
    expect(tokenizeText(text('abc'), everything, CharacterTokenizer.fromText('abc')).ids).toHaveLength(3);
  });

  it('weigh what lies between delimiters, to the end where they are never closed, and spans over that', () => {
    const objective: Objective = { kind: 'weights', default: 1, byRole: {}, byDelimiters: [{ open: '(', close: ')', weight: 0.5 }] };
    const { ids, weights } = tokenizeText({ ...text('a (b) c (d e'), spans: [{ start: 4, end: 6, weight: 4 }] }, objective, tokenizer);
    expect(Array.from(ids, (id, at) => [nameOf(id), weights?.[at]])).toEqual([
      ['a', 1], [' ', 1], ['(', 0.5], ['b', 0.5], [')', 4], [' c', 4], [' ', 1], ['(', 0.5], ['d', 0.5], [' e', 0.5], ['<|endoftext|>', 1],
    ]);
  });

  it('a token counts what the character counts that its first byte is of', () => {
    const spans = [{ start: 3, end: 5, weight: 2 }];
    const { ids, weights } = tokenizeText({ ...text('one twoo'), spans }, { kind: 'weights', default: 1, byRole: {}, byDelimiters: [] }, tokenizer);
    expect(Array.from(ids, (id, at) => [nameOf(id), weights?.[at]])).toEqual([['one', 1], [' twoo', 2], ['<|endoftext|>', 1]]);
  });
});

describe('rows', () => {
  const row = (line: number, record: Readonly<Record<string, unknown>>): SourceDocument => ({ kind: 'record', place: `a.jsonl:${line}`, record });
  const good = row(1, { prompt: 'A', completion: 'B' });
  const reader = (badRows: BadRows, template: ChatTemplate | null = chatMl(tokenizer)) => documentTokenizer({ tokenizer, template, objective: { kind: 'assistant' }, badRows });

  it('may be conversations or texts, one after another', () => {
    const { tokenize } = reader({ kind: 'stop' });
    const decoded = [good, row(2, { text: 'One' }), { kind: 'text', place: 'b.txt', text: 'Two' } as const].flatMap(tokenize).map(({ ids }) => tokenizer.decode(ids));
    expect(decoded).toEqual(['<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n', 'One<|endoftext|>', 'Two<|endoftext|>']);
  });

  it('stop at the first that can’t be read, or leave out as many as they may, counted and named', () => {
    expect(() => reader({ kind: 'stop' }).tokenize(row(7, { body: '' }))).toThrow('a.jsonl:7: no known layout');
    const skipping = reader({ kind: 'skip', most: 2 });
    expect([row(2, { messages: [] }), good, row(4, { body: '' })].flatMap((document) => skipping.tokenize(document))).toHaveLength(1);
    expect(skipping.skipped.count).toBe(2);
    expect(skipping.skipped.reasons[0]).toBe('a.jsonl:2, messages is empty');
    expect(skipping.preview(row(4, { body: '' }))).toBeNull();
    expect(skipping.skipped.count).toBe(2);
    expect(() => skipping.tokenize(row(9, { messages: [] }))).toThrow("3 rows can't be read, and at most 2 may be left out. The first: a.jsonl:2, messages is empty. The last: a.jsonl:9, messages is empty");
  });

  it('name the place when a vocabulary lacks a character, and when conversations come without a template', () => {
    const letters = documentTokenizer({ tokenizer: CharacterTokenizer.fromText('abc'), template: null, objective: everything, badRows: { kind: 'stop' } });
    expect(() => letters.tokenize({ kind: 'text', place: 'b.txt', text: 'abd' })).toThrow('b.txt: the vocabulary has no character "d"');
    expect(() => letters.tokenize(good)).toThrow('a.jsonl:1: a conversation, and no chat template was opened');
  });
});
