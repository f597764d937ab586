/** The words of `cotrain eval`: its options and its help. What it does is in `../evaluate.ts`. */
import type { Command } from '../command.ts';
import { CliError } from '../errors.ts';
import { evaluate } from '../evaluate.ts';
import type { EvalOptions } from '../evaluate.ts';
import { needed, parseOptions, wholeNumber } from '../options.ts';

const help = `Usage: cotrain eval --model DIR --data FILE [--context N] [--rows N] [--objective WHICH]

What a model loses on data it may never have seen: mean loss in nats per token, perplexity, and bits per byte, which can be
compared across tokenizers. On a terminal a sentence, elsewhere a line of JSON.

  --model DIR    Hugging Face folder: config.json, model.safetensors, tokenizer.json.
  --data FILE    .txt: every token but the first is scored once, in rows of the context's length; bits per byte are exact.
                 Anything else that train takes: each document a row, as a run would score it; conversations by the
                 folder's template.
  --context N    Most tokens that one is predicted from; default the model's, at most 4096. Longer is a lower loss.
  --rows N       Rows of a text computed at a time; default 1.
  --objective WHICH  Of conversations: assistant (the default), or everything.
`;

export const evalCommand: Command = {
  name: 'eval',
  summary: 'loss, perplexity and bits per byte of a model on data',
  help,
  prepare: (words) => {
    const options = evalOptions(words);
    return (host) => evaluate(options, host);
  },
};

/** Throws `CliError` naming the option. */
export function evalOptions(words: readonly string[]): EvalOptions {
  const values = parseOptions('eval', words, {
    model: { type: 'string' },
    data: { type: 'string' },
    context: { type: 'string' },
    rows: { type: 'string', default: '1' },
    objective: { type: 'string', default: 'assistant' },
  });
  const rows = wholeNumber('rows', 'a number of rows', values.rows);
  if (rows < 1) throw new CliError('--rows takes at least 1');
  if (values.objective !== 'assistant' && values.objective !== 'everything') throw new CliError('--objective takes assistant or everything');
  return {
    model: needed('eval', 'model', values.model),
    data: needed('eval', 'data', values.data),
    context: values.context === undefined ? null : wholeNumber('context', 'a number of tokens', values.context),
    rows,
    objective: { kind: values.objective },
  };
}
