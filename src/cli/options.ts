/** What commands share in reading their options. Every mistake is a `CliError` that names the option and the command's help. */
import { parseArgs } from 'node:util';
import type { ParseArgsConfig } from 'node:util';
import { CliError } from './errors.ts';

type OptionKinds = NonNullable<ParseArgsConfig['options']>;

/** Values by option; one that is not in `options`, a value that is missing and a word that is no option are refused. */
export function parseOptions<const Options extends OptionKinds>(command: string, words: readonly string[], options: Options) {
  try {
    return parseArgs({ args: [...words], options }).values;
  } catch (error) {
    // Node's own sentences name the option; only the first is about what is wrong.
    const message = error instanceof Error ? error.message.split(/\. |\n/)[0] : String(error);
    throw new CliError(`${message}; see cotrain ${command} --help`);
  }
}

export function needed(command: string, option: string, value: string | undefined): string {
  if (value === undefined || value === '') throw new CliError(`--${option} is missing; see cotrain ${command} --help`);
  return value;
}

/** One of a few words. */
export function oneOf<const Choice extends string>(option: string, choices: readonly Choice[], value: string): Choice {
  const choice = choices.find((known) => known === value);
  if (choice === undefined) throw new CliError(`--${option} takes ${choices.join(', ')}, not “${value}”`);
  return choice;
}

/** `meaning` says what is counted: “a step from 0”. */
export function wholeNumber(option: string, meaning: string, value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw new CliError(`--${option} takes ${meaning}, not “${value}”`);
  return Number(value);
}

export function decimal(option: string, value: string): number {
  const number = Number(value);
  if (value.trim() === '' || !Number.isFinite(number)) throw new CliError(`--${option} takes a number, not “${value}”`);
  return number;
}
