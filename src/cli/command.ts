/** What a command of the command line is, and what it may use of the process. Which there are is in `commands.ts`. */
import type { ModelToOpen, OpenModel } from '../trainer/open-model.ts';
import type { Trainer } from '../trainer/types.ts';
import type { Progress } from './progress.ts';

export interface CliHost {
  readonly openTrainer: () => Trainer;
  /** To write and to be measured, without what training takes. */
  readonly openModel: (model: ModelToOpen) => Promise<OpenModel>;
  /** How far a long piece of work is, on stderr. */
  readonly progress: Progress;
  /** One line for a person, on stderr. */
  readonly warn: (line: string) => void;
  /** What was asked for, on stdout, as it is: whoever prints lines ends them. */
  readonly print: (text: string) => void;
  /** Whether stdout is one: a person reads it. */
  readonly isTerminal: boolean;
  /** True once the person asked to stop. */
  readonly isInterrupted: () => boolean;
}

export interface Command {
  readonly name: string;
  /** In a line of the overview. */
  readonly summary: string;
  /** What `cotrain <name> --help` prints. */
  readonly help: string;
  /**
   * Reads the words after the command's name; the work is what it returns. Throws `CliError` naming the option, before any file
   * is opened.
   */
  readonly prepare: (words: readonly string[]) => (host: CliHost) => Promise<void>;
}
