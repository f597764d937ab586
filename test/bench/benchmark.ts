/** What a benchmark is, and how its figures are printed. A benchmark lives in a file of this folder named after it. */

/** A plain table: every figure that the README quotes is printed by one. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Conditions that the figures depend on (adapter, sizes, repetitions). */
  readonly notes?: readonly string[];
}

/** Numbers by the names under which the command line takes them: `{ minutes: 60 }` is `--minutes 60`. */
export type Options = Readonly<Record<string, number>>;

/** What `npm run bench -- NAME` finds in `test/bench/NAME.ts`. */
export interface Benchmark<Of extends Options = Options> {
  /** What can be asked for, and what it is when nothing is. */
  readonly options?: Of;
  /** Runs it on this machine. Throws when it can't be run here, saying why. */
  run(options: Of): Promise<readonly Table[]>;
}

/** Something that a benchmark needs is not here; the message is one line that says what and how to get it. */
export class CannotRunError extends Error {
  override readonly name = 'CannotRunError';
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low = NaN, high = NaN] = sorted.length % 2 === 1 ? [sorted[middle], sorted[middle]] : [sorted[middle - 1], sorted[middle]];
  return (low + high) / 2;
}

/** Columns as wide as their widest cell; the first is flush left, figures are flush right. */
export function formatTable({ title, columns, rows, notes = [] }: Table): string {
  const widths = columns.map((name, column) => Math.max(name.length, ...rows.map((row) => (row[column] ?? '').length)));
  const line = (cells: readonly string[]) =>
    widths.map((width, column) => (column === 0 ? (cells[column] ?? '').padEnd(width) : (cells[column] ?? '').padStart(width))).join('  ');
  const ruler = widths.map((width) => '-'.repeat(width)).join('  ');
  return [title, ...notes.map((note) => `  ${note}`), '', line(columns), ruler, ...rows.map(line), ''].join('\n');
}
