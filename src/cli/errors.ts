/** What is wrong with a command, its options or its files, in one line; the command line prints it and exits with 1. */
export class CliError extends Error {
  override readonly name = 'CliError';
}
