/**
 * Makes train.jsonl and held-out.jsonl beside it: every fact asked in six ways to learn from, and in the two others to be tested
 * with. Which two differs from fact to fact, so that each way of asking is learned with other facts.
 *
 *   node examples/questions/make.mjs
 */
import { writeFileSync } from 'node:fs';
import { facts, ways } from './facts.mjs';

const training = [];
const heldOut = [];
let number = 0;
for (const [kind, pairs] of Object.entries(facts)) {
  for (const [subject, answer] of pairs) {
    const asked = ways[kind];
    const kept = [number % asked.length, (number * 3 + 1) % asked.length];
    if (kept[0] === kept[1]) kept[1] = (kept[1] + 4) % asked.length;
    asked.forEach((way, index) => {
      const messages = [
        { role: 'user', content: way.replace('~', () => subject) },
        { role: 'assistant', content: answer },
      ];
      (kept.includes(index) ? heldOut : training).push(JSON.stringify({ messages }));
    });
    number++;
  }
}
for (const [name, lines] of [['train', training], ['held-out', heldOut]]) {
  writeFileSync(new URL(`${name}.jsonl`, import.meta.url), `${lines.join('\n')}\n`);
}
