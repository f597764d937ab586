/** The commands there are: a person's words in, help or work out. Each command's own words are in `commands/`. */
import type { CliHost, Command } from './command.ts';
import { evalCommand } from './commands/eval.ts';
import { sampleCommand } from './commands/sample.ts';
import { tokenizeCommand } from './commands/tokenize.ts';
import { exportCommand } from './commands/export.ts';
import { importCommand } from './commands/import.ts';
import { trainCommand } from './commands/train.ts';
import { CliError } from './errors.ts';

/** In the order of the overview. */
const commands: readonly Command[] = [trainCommand, sampleCommand, evalCommand, tokenizeCommand, exportCommand, importCommand];

export type Parsed =
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'work'; readonly run: (host: CliHost) => Promise<void> };

function isHelp(word: string | undefined): boolean {
  return word === '--help' || word === '-h';
}

/** Throws `CliError` naming what is wrong. */
export function parseCommand(words: readonly string[]): Parsed {
  const [name, ...rest] = words;
  if (name === undefined || isHelp(name) || name === 'help') return { kind: 'help', text: overview() };
  const command = commands.find((known) => known.name === name);
  if (command === undefined) throw new CliError(`there is no command “${name}”; see cotrain --help`);
  return rest.some(isHelp) ? { kind: 'help', text: command.help } : { kind: 'work', run: command.prepare(rest) };
}

function overview(): string {
  const widest = Math.max(...commands.map(({ name }) => name.length));
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(widest)}   ${summary}\n`);
  return `Usage: cotrain <command> [options]\n\nCommands:\n${lines.join('')}\ncotrain <command> --help explains a command.\n`;
}
