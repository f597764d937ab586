/**
 * Brings dist/ up to date: builds the parts (page, server, command line) whose sources changed since they were last
 * built, and nothing else. Used by `npm start`, the command line, the tests and the benchmarks.
 * Not a watcher: `npm run dev` is Vite's.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** @typedef {'client' | 'server' | 'cli'} Part */

export const projectRoot = dirname(dirname(fileURLToPath(import.meta.url)));

const buildFiles = ['vite.config.ts', 'package-lock.json', 'tools/build.mjs'];

/** What each part is made of. A change elsewhere can't change it. */
/** @type {Readonly<Record<Part, readonly string[]>>} */
const sources = {
  client: [...buildFiles, 'index.html', 'public', 'src', 'shaders'],
  server: [...buildFiles, 'signaling'],
  cli: [...buildFiles, 'src', 'shaders'],
};

/** Written into each built part: the digest of the sources it was built from. */
const digestFile = '.sources';

/** @type {(part: Part) => string} */
const outputOf = (part) => join(projectRoot, 'dist', part);

/** @type {(path: string) => string[]} */
function filesUnder(path) {
  if (!existsSync(path)) return [];
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .sort()
    .flatMap((entry) => filesUnder(join(path, entry)));
}

/** @type {(part: Part) => string} */
function digestOf(part) {
  const digest = createHash('sha256');
  for (const path of sources[part].flatMap((source) => filesUnder(join(projectRoot, source)))) {
    const bytes = readFileSync(path);
    digest.update(`${path.slice(projectRoot.length)} ${bytes.length}\n`).update(bytes);
  }
  return digest.digest('hex');
}

/** @type {(part: Part, digest: string) => boolean} */
function isFresh(part, digest) {
  const file = join(outputOf(part), digestFile);
  return existsSync(file) && readFileSync(file, 'utf8') === digest;
}

/**
 * Puts a finished build in place in two renames, so that a program started meanwhile finds the old or the new one whole.
 * When another process was faster, its result is as good.
 * @type {(part: Part, built: string) => void}
 */
function install(part, built) {
  const output = outputOf(part);
  const retired = `${built}.old`;
  try {
    if (existsSync(output)) renameSync(output, retired);
    renameSync(built, output);
  } catch (error) {
    if (!isFresh(part, readFileSync(join(built, digestFile), 'utf8'))) throw error;
  } finally {
    rmSync(built, { recursive: true, force: true });
    rmSync(retired, { recursive: true, force: true });
  }
}

/**
 * Builds the stale ones among `parts`. Returns their names (empty: everything was fresh). Throws what Vite throws when
 * the sources don't build.
 * @param {readonly Part[]} parts
 * @param {{ readonly log?: (line: string) => void }} [options] `log` gets a line for each part built.
 * @returns {Promise<Part[]>}
 */
export async function buildStale(parts, options = {}) {
  const stale = parts.map((part) => ({ part, digest: digestOf(part) })).filter(({ part, digest }) => !isFresh(part, digest));
  if (stale.length === 0) return [];
  // Vite builds for development where this says so, and it does in whatever Vite itself runs, such as the benchmarks.
  const outerMode = process.env['NODE_ENV'];
  process.env['NODE_ENV'] = 'production';
  try {
    return await buildAll(stale, options.log);
  } finally {
    if (outerMode === undefined) delete process.env['NODE_ENV'];
    else process.env['NODE_ENV'] = outerMode;
  }
}

/** @type {(stale: readonly { part: Part, digest: string }[], log?: (line: string) => void) => Promise<Part[]>} */
async function buildAll(stale, log) {
  const { createBuilder } = await import('vite');
  for (const { part, digest } of stale) {
    const startedAt = performance.now();
    const built = join(projectRoot, 'dist', `.${part}-${process.pid}`);
    const builder = await createBuilder({
      root: projectRoot,
      configFile: join(projectRoot, 'vite.config.ts'),
      logLevel: 'error',
      environments: { [part]: { build: { outDir: built, emptyOutDir: true } } },
    });
    const environment = builder.environments[part];
    if (environment === undefined) throw new Error(`vite.config.ts has no environment “${part}”`);
    try {
      await builder.build(environment);
      writeFileSync(join(built, digestFile), digest);
      install(part, built);
    } finally {
      rmSync(built, { recursive: true, force: true });
    }
    log?.(`built ${part} in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
  }
  return stale.map(({ part }) => part);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const known = /** @type {Part[]} */ (Object.keys(sources));
  const asked = process.argv.slice(2);
  const unknown = asked.find((name) => !known.some((part) => part === name));
  if (unknown !== undefined) {
    console.error(`build: there is no part “${unknown}”; parts are ${known.join(', ')}`);
    process.exit(1);
  }
  const parts = asked.length > 0 ? known.filter((part) => asked.includes(part)) : known;
  try {
    const built = await buildStale(parts, { log: console.log });
    if (built.length === 0) console.log('everything is up to date');
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(1);
  }
}
