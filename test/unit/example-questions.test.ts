/** The question-answer set of the fine-tuning demonstration: what it promises of itself. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { readConversation } from '../../src/data/chats/conversation.ts';
import { facts } from '../../examples/questions/facts.mjs';

function questions(name: string): readonly (readonly [question: string, answer: string])[] {
  const lines = readFileSync(new URL(`../../examples/questions/${name}.jsonl`, import.meta.url), 'utf8').trim().split('\n');
  return lines.map((line, index) => {
    const { messages } = readConversation(JSON.parse(line) as Record<string, unknown>, `${name}.jsonl:${index + 1}`);
    expect(messages.map(({ role }) => role)).toEqual(['user', 'assistant']);
    return [messages[0]?.content ?? '', messages[1]?.content ?? ''];
  });
}

const [training, heldOut] = [questions('train'), questions('held-out')];

it('asks nothing held out while training, and every held-out answer is learned from six other questions', () => {
  const asked = new Set(training.map(([question]) => question));
  expect(asked.size).toBe(training.length);
  expect(heldOut.filter(([question]) => asked.has(question))).toEqual([]);
  for (const [, answer] of heldOut) expect(training.filter(([, other]) => other === answer)).toHaveLength(6);
});

it('holds two ways to ask out of each fact, and no way out of all facts of a kind', () => {
  const asked = new Set(training.map(([question]) => question));
  for (const { asked: ways, pairs } of facts) {
    expect(new Set(pairs.map(([, answer]) => answer)).size).toBe(pairs.length);
    for (const way of ways) {
      const learned = pairs.filter(([subject]) => asked.has(way.replace('~', () => subject)));
      expect(learned.length, way).toBeGreaterThan(pairs.length / 2);
    }
  }
  expect(heldOut).toHaveLength(2 * facts.reduce((sum, { pairs }) => sum + pairs.length, 0));
});
