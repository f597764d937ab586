/** The command line's words: options in, values out, and the help texts. Opens no files. */
import { parseArgs } from 'node:util';
import { CliError } from './errors.ts';

export interface TrainArguments {
  /** Hugging Face folder; wins over the run file's `model`. */
  readonly model: string | null;
  readonly data: string;
  readonly run: string;
  readonly out: string;
  readonly saveGradients: number | null;
  readonly debug: DebugLevel;
}

/** Each level does what the ones before it do; see `trainHelp`. */
export const debugLevels = [0, 1, 2, 3, 4] as const;
export type DebugLevel = (typeof debugLevels)[number];

export type Command =
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'train'; readonly options: TrainArguments };

const overview = `Usage: cotrain <command> [options]

Commands:
  train   train a model alone, on this machine's GPU

cotrain <command> --help explains a command.
`;

const trainHelp = `Usage: cotrain train --data FILE --run run.json --out DIR [--model DIR] [--save-gradients STEP]
                     [--debug LEVEL]

Trains alone, without a browser, exactly as a room of one would.

  --model DIR            Hugging Face folder: config.json, and model.safetensors to start from (fresh weights from the
                         run's seed without it) and tokenizer.json. Wins over "model" in the run file.
  --data FILE            .jsonl: pre-tokenized rows with input_ids and optional labels and loss_weights.
                         .txt: plain text, by the folder's tokenizer.json, else by character.
  --run run.json         The run, as JSON. Keys and what they are when left out:
                           model             folder or Hugging Face config object (needed here or by --model)
                           steps 300, rowsPerStep 8, rowsPerMicrobatch 2, contextLength 128
                           order "shuffled" (or "sequential"), seed 1, codec "fp32" (of rooms), localSteps 1, precision "f32" (or "mixed")
                           evalEvery 0       validation loss every so many steps, on the last tenth of a text
                           optimizer         learningRate 0.001, minLearningRate 0.0001, warmupSteps 0,
                                             schedule "cosine" (or "linear", "constant"), beta1 0.9, beta2 0.95,
                                             epsilon 1e-8, weightDecay 0.1, gradientClip 1 (0 for none); with local steps
                                             outerLearningRate 0.9, outerMomentum 0.5
  --out DIR              Made if absent. Gets metrics.jsonl (a line for each step), model.safetensors, config.json
                         and the tokenizer.
  --save-gradients STEP  Also gradients-step<STEP>.safetensors: of that step's mean loss, before clipping. Steps
                         count from 0.
  --debug LEVEL          Says on stderr: 1 a line for each step; 2 also what each kernel takes; 3 also, before each step,
                         whether its values are finite, and which op first gave one that is not; 4 also how far each
                         kernel of the first micro-batch is from its meaning in f64 (minutes, but for small models).

Ctrl-C ends the run after the step it is in; what was trained is written.
`;

/** Throws `CliError` naming the option. */
export function parseCommand(words: readonly string[]): Command {
  const [command, ...rest] = words;
  if (command === undefined || command === '--help' || command === '-h' || command === 'help') {
    return { kind: 'help', text: overview };
  }
  if (command !== 'train') throw new CliError(`there is no command “${command}”; see cotrain --help`);
  const values = parseOptions(rest);
  if (values.help === true) return { kind: 'help', text: trainHelp };
  return {
    kind: 'train',
    options: {
      model: values.model ?? null,
      data: needed(values.data, 'data'),
      run: needed(values.run, 'run'),
      out: needed(values.out, 'out'),
      debug: debugLevel(values.debug),
      saveGradients: values['save-gradients'] === undefined ? null : stepNumber(values['save-gradients']),
    },
  };
}

function parseOptions(words: string[]) {
  try {
    return parseArgs({
      args: words,
      options: {
        model: { type: 'string' },
        data: { type: 'string' },
        run: { type: 'string' },
        out: { type: 'string' },
        'save-gradients': { type: 'string' },
        debug: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    // Node's own sentences name the option; only the first is about what is wrong.
    const message = error instanceof Error ? error.message.split(/\. |\n/)[0] : String(error);
    throw new CliError(`${message}; see cotrain train --help`);
  }
}

function needed(value: string | undefined, option: string): string {
  if (value === undefined || value === '') throw new CliError(`--${option} is missing; see cotrain train --help`);
  return value;
}

function stepNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new CliError(`--save-gradients takes a step from 0, not “${text}”`);
  return Number(text);
}

function debugLevel(text = '0'): DebugLevel {
  const level = debugLevels.find((known) => String(known) === text);
  if (level === undefined) throw new CliError(`--debug takes a level from ${debugLevels[0]} to ${debugLevels.at(-1) ?? 0}, not “${text}”`);
  return level;
}
