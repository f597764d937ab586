/**
 * `npm run bench -- step|queue|recompute|sampling|room|scale|codecs|codec-cost|tokenizer|kernels|transport|data|soak|peers|gpu|all [--OPTION NUMBER]`: prints the figures that the README and
 * DECISIONS quote. Finds the benchmarks by their files; measures nothing itself.
 */
import { availableParallelism, cpus } from 'node:os';
import { CannotRunError, formatTable } from './benchmark.ts';
import type { Benchmark, Options } from './benchmark.ts';

const files = import.meta.glob<Benchmark>(['./*.ts', '!./main.ts', '!./benchmark.ts']);
const benchmarks = new Map(Object.entries(files).map(([path, load]) => [path.slice('./'.length, -'.ts'.length), load]));

/** Not part of `all`: they need other people's packages, or take long. */
const onlyByName = new Set(['peers', 'gpu', 'soak', 'scale', 'codecs', 'data']);

/** Throws what to print when it is not of the form NAME … [--OPTION NUMBER] … */
function parse(argv: readonly string[]): { readonly asked: readonly string[]; readonly given: ReadonlyMap<string, number> } {
  const asked: string[] = [];
  const given = new Map<string, number>();
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (!word.startsWith('--')) {
      asked.push(word);
      continue;
    }
    const value = Number(argv[++at] ?? Number.NaN);
    if (!(value >= 0)) throw new CannotRunError(`${word} wants a number`);
    given.set(word.slice('--'.length), value);
  }
  return { asked, given };
}

function optionsOf({ options = {} }: Benchmark, given: ReadonlyMap<string, number>): Options {
  return Object.fromEntries(Object.entries(options).map(([name, usual]) => [name, given.get(name) ?? usual]));
}

async function main(argv: readonly string[]): Promise<number> {
  const { asked, given } = parse(argv);
  const names = asked.length === 0 || asked.includes('all') ? [...benchmarks.keys()].filter((name) => !onlyByName.has(name)) : asked;
  const unknown = names.find((name) => !benchmarks.has(name));
  if (unknown !== undefined) {
    console.error(`bench: there is no benchmark “${unknown}”; there are ${[...benchmarks.keys(), 'all'].join(', ')}`);
    return 1;
  }
  const chosen = await Promise.all(names.map(async (name) => benchmarks.get(name)?.()));
  const stray = [...given.keys()].find((option) => !chosen.some((benchmark) => Object.hasOwn(benchmark?.options ?? {}, option)));
  if (stray !== undefined) {
    console.error(`bench: ${names.join(', ')} has no option --${stray}`);
    return 1;
  }
  console.log(`${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${availableParallelism()} cores; Node ${process.version}; ${new Date().toISOString()}\n`);
  let failures = 0;
  for (const [at, name] of names.entries()) {
    try {
      const benchmark = chosen[at];
      if (benchmark === undefined) continue;
      for (const table of await benchmark.run(optionsOf(benchmark, given))) console.log(formatTable(table));
    } catch (error) {
      failures++;
      console.error(`${name}: ${describe(error)}\n`);
    }
  }
  return failures > 0 ? 1 : 0;
}

function describe(error: unknown): string {
  if (error instanceof CannotRunError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

// Exits instead of returning: Dawn's threads would keep the process alive.
process.exit(
  await main(process.argv.slice(2)).catch((error: unknown) => {
    console.error(`bench: ${describe(error)}`);
    return 1;
  }),
);
