/**
 * `npm test`: everything, in the order that finds the cheapest mistakes first. Installs what is missing, checks the
 * tree, runs the tests in Node, builds the page and runs it in Chromium. Each part prints its time; the last line is
 * “N passed, N failed”, where a check counts as one test. Names of parts as arguments run only those.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildStale, projectRoot } from '../tools/build.mjs';
import { checkFirstLoad, checkLicences } from './checks.mjs';
import { ensureAdapter, ensureChromium, ensureTurnServer } from './setup.mjs';

/** @typedef {{ passed: number, failed: number, note?: string }} Outcome */

const reports = join(projectRoot, 'test-results/reports');

/** What setup found, for every program started here. @type {Record<string, string>} */
const environment = {};

/** @type {(name: string) => string} */
const bin = (name) => join(projectRoot, 'node_modules/.bin', name);

/**
 * Runs a program in the project's root. Resolves to its exit code (1 when a signal ended it).
 * @type {(command: string, args: readonly string[]) => Promise<number>}
 */
function run(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: projectRoot,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ...environment },
    });
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

/** @type {(command: string, args: readonly string[]) => Promise<Outcome>} */
async function check(command, args) {
  return (await run(command, args)) === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

/** @type {(path: string) => unknown} The report, or null when the program died before writing it. */
function readReport(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : null;
}

/**
 * Kernels keep one core busy compiling and both only now and then; the other projects need no GPU. So both run at once,
 * with a worker each, and rooms that compare many runs follow the kernels, so that neither worker waits for the other.
 * @returns {Promise<Outcome>}
 */
async function nodeTests() {
  return sumOf(await Promise.all([vitest('kernel', 'equivalence'), vitest('unit', 'room')]));
}

/** @type {(outcomes: readonly Outcome[]) => Outcome} */
function sumOf(outcomes) {
  return {
    passed: outcomes.reduce((sum, { passed: some }) => sum + some, 0),
    failed: outcomes.reduce((sum, { failed: some }) => sum + some, 0),
    note: outcomes.flatMap(({ note }) => note ?? []).join('; '),
  };
}

/** @type {(...projects: readonly string[]) => Promise<Outcome>} */
async function vitest(...projects) {
  const file = join(reports, `vitest-${projects.join('-')}.json`);
  const chosen = projects.flatMap((project) => ['--project', project]);
  const code = await run(bin('vitest'), ['run', ...chosen, '--maxWorkers=1', '--reporter=default', '--reporter=json', `--outputFile.json=${file}`]);
  const report = /** @type {{ numPassedTests: number, numFailedTests: number, testResults: { status: string, assertionResults: { status: string }[] }[] } | null} */ (
    readReport(file)
  );
  if (report === null) return { passed: 0, failed: 1, note: `vitest wrote no report on ${projects.join(' and ')}` };
  // A file that can't even be loaded has no tests to fail, so it counts as one.
  const brokenFiles = report.testResults.filter(
    (result) => result.status === 'failed' && !result.assertionResults.some(({ status }) => status === 'failed'),
  ).length;
  const failed = report.numFailedTests + brokenFiles;
  return { passed: report.numPassedTests, failed: code !== 0 && failed === 0 ? 1 : failed };
}

/** @typedef {{ specs: { title: string, tests: { status: string, annotations: { type: string, description?: string }[] }[] }[], suites?: PageSuite[] }} PageSuite */

/**
 * Each test that was skipped, and why.
 * @type {(suite: PageSuite) => string[]}
 */
function skippedIn({ specs, suites = [] }) {
  const own = specs.flatMap(({ title, tests }) => {
    const skipped = tests.find(({ status }) => status === 'skipped');
    const reason = skipped?.annotations.find(({ type }) => type === 'skip')?.description ?? 'no reason given';
    return skipped === undefined ? [] : `skipped “${title}”: ${reason}`;
  });
  return [...own, ...suites.flatMap(skippedIn)];
}

/** @returns {Promise<Outcome>} */
async function pageTests() {
  const file = join(reports, 'playwright.json');
  const code = await run(bin('playwright'), ['test']);
  const report = /** @type {{ stats: { expected: number, unexpected: number, flaky: number }, errors: unknown[], suites: PageSuite[] } | null} */ (
    readReport(file)
  );
  if (report === null) return { passed: 0, failed: 1, note: 'Playwright wrote no report' };
  const { expected, unexpected, flaky } = report.stats;
  const failed = unexpected + flaky + report.errors.length;
  const note = report.suites.flatMap(skippedIn).join('; ');
  return { passed: expected, failed: code !== 0 && failed === 0 ? 1 : failed, note };
}

/** @type {Record<string, () => Promise<Outcome>>} */
const parts = {
  setup: async () => {
    environment['CHROMIUM_PATH'] = ensureChromium();
    const adapter = ensureAdapter();
    Object.assign(environment, adapter.environment);
    return { passed: 1, failed: 0, note: `${environment['CHROMIUM_PATH']}; ${adapter.name}; ${ensureTurnServer() ?? 'no coturn'}` };
  },
  /** Types and rules at once: each keeps one core busy. */
  checks: async () => sumOf(await Promise.all([check(bin('tsc'), []), check('npm', ['run', '--silent', 'lint'])])),
  licences: async () => ({ passed: 1, failed: 0, note: checkLicences() }),
  node: nodeTests,
  build: async () => {
    await buildStale(['client', 'server', 'cli'], { log: console.log });
    return { passed: 1, failed: 0 };
  },
  'first-load': async () => ({ passed: 1, failed: 0, note: checkFirstLoad() }),
  page: pageTests,
};

const asked = process.argv.slice(2);
const unknown = asked.find((name) => !(name in parts));
if (unknown !== undefined) {
  console.error(`npm test: there is no part “${unknown}”; parts are ${Object.keys(parts).join(', ')}`);
  process.exit(1);
}

rmSync(reports, { recursive: true, force: true });
mkdirSync(reports, { recursive: true });

let passed = 0;
let failed = 0;
/** @type {string[]} */
const summary = [];
for (const [name, part] of Object.entries(parts)) {
  if (asked.length > 0 && name !== 'setup' && !asked.includes(name)) continue;
  console.log(`\n== ${name}`);
  const startedAt = performance.now();
  /** @type {Outcome} */
  let outcome;
  try {
    outcome = await part();
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    outcome = { passed: 0, failed: 1 };
  }
  passed += outcome.passed;
  failed += outcome.failed;
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  summary.push(`${name.padEnd(12)}${seconds.padStart(7)} s  ${outcome.failed > 0 ? 'FAILED' : 'ok    '}  ${outcome.note ?? ''}`.trimEnd());
}
console.log(`\n${summary.join('\n')}`);
process.exitCode = failed > 0 ? 1 : 0;
console.log(`${passed} passed, ${failed} failed`);
