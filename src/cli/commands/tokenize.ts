/** The words of `cotrain tokenize`: its options and its help. What it does is in `../tokenize.ts`. */
import { bytesAndSpecialTokens, largestTrainedVocabulary } from '../../data/tokenizer-choice.ts';
import type { Command } from '../command.ts';
import { CliError } from '../errors.ts';
import { needed, parseOptions, wholeNumber } from '../options.ts';
import { tokenize } from '../tokenize.ts';
import type { TokenizeOptions } from '../tokenize.ts';

const help = `Usage: cotrain tokenize --data FILE [--data FILE …] [--vocabulary N | --tokenizer DIR]
                        [--out DIR] [--rows FILE.jsonl [--length N]]

Makes a tokenizer of texts, or takes one that is there, and writes texts as token ids.

  --data FILE        Plain text in UTF-8; given several times, several documents.
  --vocabulary N     Learns byte pairs, as GPT-2 has them, from the texts: at most N tokens (${bytesAndSpecialTokens} to ${largestTrainedVocabulary}), with
                     <|endoftext|>, <|im_start|> and <|im_end|>. Texts are read as streams: memory is needed for their words only.
  --tokenizer DIR    Takes the tokenizer.json in a folder instead. With neither, a token is a character.
  --out DIR          Made if absent. Gets tokenizer.json and tokenizer_config.json, which Hugging Face's libraries read
                     with the same ids.
  --rows FILE.jsonl  Gets the texts as rows of token ids, ready for cotrain train --data: each document in rows of its own.
  --length N         Tokens in a row, 128 when left out.
`;

export const tokenizeCommand: Command = {
  name: 'tokenize',
  summary: 'make a tokenizer of texts, and write texts as token ids',
  help,
  prepare: (words) => {
    const options = tokenizeOptions(words);
    return (host) => tokenize(options, host);
  },
};

/** Throws `CliError` naming the option. */
export function tokenizeOptions(words: readonly string[]): TokenizeOptions {
  const values = parseOptions('tokenize', words, {
    data: { type: 'string', multiple: true },
    vocabulary: { type: 'string' },
    tokenizer: { type: 'string' },
    out: { type: 'string' },
    rows: { type: 'string' },
    length: { type: 'string' },
  });
  const { data = [], vocabulary, tokenizer: folder, out = null, rows = null } = values;
  if (vocabulary !== undefined && folder !== undefined) throw new CliError('--vocabulary and --tokenizer: give one of them; see cotrain tokenize --help');
  if (out === null && rows === null) throw new CliError('nothing to write: give --out or --rows; see cotrain tokenize --help');
  const range = `${bytesAndSpecialTokens} to ${largestTrainedVocabulary} tokens`;
  const vocabularySize = vocabulary === undefined ? 0 : wholeNumber('vocabulary', range, vocabulary);
  if (vocabulary !== undefined && (vocabularySize < bytesAndSpecialTokens || vocabularySize > largestTrainedVocabulary)) {
    throw new CliError(`--vocabulary takes ${range}, not “${vocabulary}”`);
  }
  const length = wholeNumber('length', 'at least 2 tokens', values.length ?? '128');
  if (length < 2) throw new CliError(`--length takes at least 2 tokens, not “${length}”`);
  needed('tokenize', 'data', data[0]);
  return {
    data,
    source: folder !== undefined ? { kind: 'folder', folder } : vocabulary !== undefined ? { kind: 'bpe', vocabularySize } : { kind: 'characters' },
    out,
    rows,
    length,
  };
}
