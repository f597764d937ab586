/**
 * `npm run bench -- step|queue|recompute|room|kernels|transport|peers|gpu|all`: prints the figures that the README and DECISIONS quote. Finds the
 * benchmarks by their files; measures nothing itself.
 */
import { availableParallelism, cpus } from 'node:os';
import { CannotRunError, formatTable } from './benchmark.ts';
import type { Benchmark } from './benchmark.ts';

const files = import.meta.glob<Benchmark>(['./*.ts', '!./main.ts', '!./benchmark.ts']);
const benchmarks = new Map(Object.entries(files).map(([path, load]) => [path.slice('./'.length, -'.ts'.length), load]));

/** Not part of `all`: they need other people's packages and take minutes. */
const onlyByName = new Set(['peers', 'gpu']);

async function main(asked: readonly string[]): Promise<number> {
  const names = asked.length === 0 || asked.includes('all') ? [...benchmarks.keys()].filter((name) => !onlyByName.has(name)) : asked;
  const unknown = names.find((name) => !benchmarks.has(name));
  if (unknown !== undefined) {
    console.error(`bench: there is no benchmark “${unknown}”; there are ${[...benchmarks.keys(), 'all'].join(', ')}`);
    return 1;
  }
  console.log(`${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${availableParallelism()} cores; Node ${process.version}; ${new Date().toISOString()}\n`);
  let failures = 0;
  for (const name of names) {
    try {
      const benchmark = await benchmarks.get(name)?.();
      for (const table of (await benchmark?.run()) ?? []) console.log(formatTable(table));
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
process.exit(await main(process.argv.slice(2)));
