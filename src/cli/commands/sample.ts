/** The words of `cotrain sample`: its options and its help. What it does is in `../sample.ts`. */
import type { Command } from '../command.ts';
import { decimal, needed, oneOf, parseOptions, wholeNumber } from '../options.ts';
import { sample } from '../sample.ts';
import type { SampleOptions } from '../sample.ts';

const help = `Usage: cotrain sample --model DIR --prompt TEXT [options]

Continues a text, token by token: on a terminal as text, elsewhere as lines of JSON ("text" for each piece as it comes, and a last
line with "prompt", "completion", "tokens", "tokensPerSecond" and "end").

  --model DIR                Hugging Face folder: config.json, model.safetensors, tokenizer.json.
  --prompt TEXT              What to continue.
  --max-tokens N             Most new tokens; default 200.
  --temperature T            Default 0.8; 0 always takes the likeliest token.
  --top-k K                  Only the K likeliest; default 0: all.
  --top-p P                  Only the likeliest that together reach probability P; default 1: all.
  --min-p P                  Only those at least P times as probable as the likeliest; default 0: all.
  --repetition-penalty R     Divides the logits of tokens that occurred (multiplies negative ones); default 1.
  --seed N                   The same seed draws the same text; default 1.
  --stop TEXT                The text ends before it. May be given several times.
  --context N                Most tokens that one is predicted from; default the model's, at most 4096.
  --format text|json         Whatever stdout is.

Ctrl-C ends the text after the token it is at.
`;

export const sampleCommand: Command = {
  name: 'sample',
  summary: 'let a model continue a text',
  help,
  prepare: (words) => {
    const options = sampleOptions(words);
    return (host) => sample(options, host);
  },
};

/** Throws `CliError` naming the option. */
export function sampleOptions(words: readonly string[]): SampleOptions {
  const values = parseOptions('sample', words, {
    model: { type: 'string' },
    prompt: { type: 'string' },
    'max-tokens': { type: 'string', default: '200' },
    temperature: { type: 'string', default: '0.8' },
    'top-k': { type: 'string', default: '0' },
    'top-p': { type: 'string', default: '1' },
    'min-p': { type: 'string', default: '0' },
    'repetition-penalty': { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    stop: { type: 'string', multiple: true, default: [] },
    context: { type: 'string' },
    format: { type: 'string' },
  });
  return {
    model: needed('sample', 'model', values.model),
    prompt: needed('sample', 'prompt', values.prompt),
    maxTokens: wholeNumber('max-tokens', 'a number of tokens', values['max-tokens']),
    temperature: decimal('temperature', values.temperature),
    topK: wholeNumber('top-k', 'a number of tokens', values['top-k']),
    topP: decimal('top-p', values['top-p']),
    minP: decimal('min-p', values['min-p']),
    repetitionPenalty: decimal('repetition-penalty', values['repetition-penalty']),
    seed: wholeNumber('seed', 'a whole number', values.seed),
    stop: values.stop,
    context: values.context === undefined ? null : wholeNumber('context', 'a number of tokens', values.context),
    format: values.format === undefined ? null : oneOf('format', ['text', 'json'], values.format),
  };
}
