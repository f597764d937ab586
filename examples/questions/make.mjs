/**
 * Makes train.jsonl and held-out.jsonl beside it: every fact asked in six ways to learn from, and in the two others to be tested
 * with. Which two differs from fact to fact, so that each way of asking is learned with other facts.
 *
 *   node examples/questions/make.mjs
 */
import { writeFileSync } from 'node:fs';
import { facts } from './facts.mjs';

/** @type {string[]} */
const training = [];
/** @type {string[]} */
const heldOut = [];
let number = 0;
for (const { asked, pairs } of facts) {
  for (const [subject, answer] of pairs) {
    const first = number % asked.length;
    // Never the first one itself.
    const kept = [first, (first + 1 + (Math.floor(number / asked.length) % (asked.length - 1))) % asked.length];
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
writeFileSync(new URL('train.jsonl', import.meta.url), `${training.join('\n')}\n`);
writeFileSync(new URL('held-out.jsonl', import.meta.url), `${heldOut.join('\n')}\n`);
