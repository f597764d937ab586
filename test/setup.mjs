/**
 * What the tests need beyond `npm ci`: a Chromium for pages, a Vulkan driver for WebGPU in Node, and coturn for the test of
 * relayed connections. Finds them, and on a machine that has none installs them where it may (root on Debian; Playwright's
 * download elsewhere). As a program (`npm run test:setup`) it says what it found. Not here: running tests (test/run.mjs).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findChromium, probeAdapter, swiftShaderDirectory, vulkanEnvironment } from '../tools/vulkan.mjs';

const lavapipeManifests = ['', '.x86_64', '.aarch64'].map((machine) => `/usr/share/vulkan/icd.d/lvp_icd${machine}.json`);

/** The oldest that the tests have run on. */
const oldestMesaMajor = 25;
const mesaDownloadTimeoutMs = 90_000;

const isCi = process.env['CI'] !== undefined;

/** @typedef {import('../tools/vulkan.mjs').Adapter} Adapter */

/** @type {(line: string) => void} */
const say = (line) => console.log(`setup: ${line}`);

/**
 * Runs a command with its output shown; true when it succeeded within the time given.
 * @type {(command: string, args: readonly string[], timeoutMs?: number) => boolean}
 */
function runs(command, args, timeoutMs) {
  say(`${command} ${args.join(' ')}`);
  const child = spawnSync(command, args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: timeoutMs,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  return child.status === 0;
}

/** The words that put a command in root's hands without asking for a password; null when this user may not. */
function rootPrefix() {
  if (process.getuid?.() === 0) return [];
  return spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0 ? ['sudo', '-n'] : null;
}

/** @type {(args: readonly string[], timeoutMs?: number) => boolean} */
function apt(args, timeoutMs) {
  const prefix = rootPrefix();
  if (prefix === null || !existsSync('/usr/bin/apt-get')) return false;
  const [command, ...rest] = [...prefix, 'apt-get', '-qq', '-o', 'Dpkg::Use-Pty=0', ...args];
  return command !== undefined && runs(command, rest, timeoutMs);
}

let listsAreFresh = false;

/** Reads the package lists, once; on a CI machine also those that have a Mesa new enough. */
function readLists() {
  if (listsAreFresh) return true;
  const release = debianRelease();
  if (isCi && release === 'bookworm' && process.getuid?.() === 0 && mesaCandidate('-t', backports(release)) < oldestMesaMajor) {
    writeFileSync('/etc/apt/sources.list.d/cotrain-backports.list', `deb http://deb.debian.org/debian ${backports(release)} main\n`);
  }
  listsAreFresh = apt(['update']);
  return listsAreFresh;
}

/** @type {(...args: string[]) => boolean} */
function aptInstall(...args) {
  return readLists() && apt(['install', '-y', '--no-install-recommends', ...args]);
}

/** @returns {string | null} Debian's code name. */
function debianRelease() {
  if (!existsSync('/etc/debian_version') || !existsSync('/etc/os-release')) return null;
  return /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? null;
}

/** @type {(release: string) => string} */
const backports = (release) => `${release}-backports`;

/**
 * Major version of Mesa that apt would install; 0 when none.
 * @type {(...policyArguments: string[]) => number}
 */
function mesaCandidate(...policyArguments) {
  const policy = spawnSync('apt-cache', [...policyArguments, 'policy', 'mesa-vulkan-drivers'], { encoding: 'utf8' });
  return Number(/Candidate: (?:\d+:)?(\d+)/.exec(policy.stdout ?? '')?.[1] ?? 0);
}

/**
 * What it says instead of its version, for instance which library it misses; null when it runs.
 * @type {(path: string) => string | null}
 */
function whyChromiumFails(path) {
  const child = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 60_000, killSignal: 'SIGKILL' });
  if (child.status === 0) return null;
  return child.error?.message ?? child.stderr.trim().split('\n').slice(-3).join(' ');
}

/** Path of a Chromium that starts. Installs one if there is none; throws with what to do when that is impossible. */
export function ensureChromium() {
  if (findChromium() === null) {
    say('no Chromium here: installing one');
    const installed =
      aptInstall('chromium', 'fonts-dejavu-core') || runs('npx', ['playwright', 'install', 'chromium']);
    if (!installed) say('neither apt-get nor Playwright could install it');
  }
  const path = findChromium();
  if (path === null) {
    throw new Error('The page tests need Chromium. Install it (“apt-get install chromium”, or “npx playwright install --with-deps chromium”) or name one in CHROMIUM_PATH.');
  }
  const complaint = whyChromiumFails(path);
  if (complaint !== null) throw new Error(`Chromium at ${path} does not start: ${complaint}. Install its libraries, or name another in CHROMIUM_PATH.`);
  return path;
}

/** @type {(adapter: Adapter) => boolean} */
const isFastEnough = (adapter) => !adapter.isSoftware || /llvmpipe/i.test(adapter.name);

/** Best first: what the machine offers by itself, Mesa's software driver, Chromium's. */
function bestAdapter() {
  const loader = vulkanEnvironment()['LD_LIBRARY_PATH'];
  /** @type {Record<string, string>} */
  const withLoader = loader === undefined ? {} : { LD_LIBRARY_PATH: loader };
  const own = probeAdapter(vulkanEnvironment());
  if (own !== null && isFastEnough(own)) return own;
  const named = (process.env['VK_ICD_FILENAMES'] ?? process.env['VK_DRIVER_FILES'] ?? '') !== '';
  if (named) return own;
  const lavapipe = lavapipeManifests.find((path) => existsSync(path));
  if (lavapipe !== undefined) {
    const adapter = probeAdapter({ ...withLoader, VK_ICD_FILENAMES: lavapipe });
    if (adapter !== null) return adapter;
  }
  if (own !== null) return own;
  const swiftShader = swiftShaderDirectory();
  return swiftShader === null
    ? null
    : probeAdapter({ ...withLoader, VK_ICD_FILENAMES: join(swiftShader, 'vk_swiftshader_icd.json') });
}

/**
 * Installs Mesa's software Vulkan driver, about five times as fast as SwiftShader. Only on a CI machine, since it may
 * need a new package source, and only if it comes quickly; the tests pass without it, more slowly.
 */
function tryLavapipe() {
  const release = debianRelease();
  if (release === null || !readLists()) return;
  const suite = mesaCandidate() >= oldestMesaMajor ? [] : ['-t', backports(release)];
  if (mesaCandidate(...suite) < oldestMesaMajor) return;
  const packages = ['mesa-vulkan-drivers', 'libvulkan1'];
  // Fetched apart from being installed: a download may be broken off at any moment, an installation may not.
  const isFetched = apt(['install', '-y', '--download-only', '--no-install-recommends', ...suite, ...packages], mesaDownloadTimeoutMs);
  if (isFetched) aptInstall(...suite, ...packages);
}

/** An adapter for WebGPU in Node that computes correctly, with the environment that finds it. Throws when there is none. */
export function ensureAdapter() {
  let adapter = bestAdapter();
  if ((adapter === null || !isFastEnough(adapter)) && isCi && process.env['VK_ICD_FILENAMES'] === undefined) {
    tryLavapipe();
    adapter = bestAdapter() ?? adapter;
    if (adapter === null || !isFastEnough(adapter)) say('Mesa’s software driver could not be had; going on with SwiftShader');
  }
  if (adapter === null && aptInstall('libvulkan1')) adapter = bestAdapter();
  if (adapter === null) {
    throw new Error('WebGPU in Node finds no Vulkan driver. Install Chromium (its SwiftShader serves) and libvulkan1, or a driver of your GPU.');
  }
  return adapter;
}

/** Path of coturn's server, or null: a test is skipped then. @returns {string | null} */
export function findTurnServer() {
  const named = process.env['TURNSERVER_PATH'];
  if (named !== undefined && named !== '') return named;
  return ['/usr/bin/turnserver', '/usr/local/bin/turnserver', '/opt/homebrew/bin/turnserver'].find((path) => existsSync(path)) ?? null;
}

/** The same, after trying to install it. Debian's package starts a relay as a service, which only a throwaway machine wants. */
export function ensureTurnServer() {
  const startsServices = existsSync('/run/systemd/system') && !isCi;
  if (findTurnServer() === null && !startsServices) aptInstall('coturn');
  return findTurnServer();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    say(`Chromium: ${ensureChromium()}`);
    say(`WebGPU in Node: ${ensureAdapter().name}`);
    say(`coturn: ${ensureTurnServer() ?? 'none, so the test of relayed connections will be skipped'}`);
  } catch (error) {
    console.error(`setup: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  }
}
