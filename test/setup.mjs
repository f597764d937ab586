/**
 * What the tests need beyond `npm ci`: a Chromium for pages and a Vulkan driver for WebGPU in Node. Finds them, and on a
 * machine that has none installs them where it may (root on Debian; Playwright's download elsewhere). As a program
 * (`npm run test:setup`) it says what it found. Not here: running tests (test/run.mjs).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findChromium, swiftShaderDirectory, vulkanEnvironment } from '../tools/vulkan.mjs';

const probe = fileURLToPath(new URL('./setup-probe.mjs', import.meta.url));
const lavapipeManifests = ['', '.x86_64', '.aarch64'].map((machine) => `/usr/share/vulkan/icd.d/lvp_icd${machine}.json`);

/** The oldest that the tests have run on. */
const oldestMesaMajor = 25;

/** @typedef {{ readonly environment: Record<string, string>, readonly name: string, readonly isSoftware: boolean }} Adapter */

/** @type {(line: string) => void} */
const say = (line) => console.log(`setup: ${line}`);

/**
 * Runs a command with its output shown; true when it succeeded.
 * @type {(command: string, args: readonly string[]) => boolean}
 */
function runs(command, args) {
  say(`${command} ${args.join(' ')}`);
  const child = spawnSync(command, args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  return child.status === 0;
}

/** The words that put a command in root's hands without asking for a password; null when this user may not. */
function rootPrefix() {
  if (process.getuid?.() === 0) return [];
  return spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0 ? ['sudo', '-n'] : null;
}

/** @type {(...args: string[]) => boolean} */
function apt(...args) {
  const prefix = rootPrefix();
  if (prefix === null || !existsSync('/usr/bin/apt-get')) return false;
  const [command, ...rest] = [...prefix, 'apt-get', '-qq', '-o', 'Dpkg::Use-Pty=0', ...args];
  return command !== undefined && runs(command, rest);
}

let listsAreFresh = false;

/** @type {(...packages: string[]) => boolean} */
function aptInstall(...packages) {
  if (!listsAreFresh) listsAreFresh = apt('update');
  return listsAreFresh && apt('install', '-y', '--no-install-recommends', ...packages);
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

/**
 * Asks a child process for an adapter and an answer from it; null when there is none or it is wrong.
 * @type {(environment: Record<string, string>) => Adapter | null}
 */
function probeAdapter(environment) {
  const child = spawnSync(process.execPath, [probe], { encoding: 'utf8', timeout: 120_000, killSignal: 'SIGKILL', env: { ...process.env, ...environment } });
  if (child.status !== 0) return null;
  const { name, isSoftware } = /** @type {{ name: string, isSoftware: boolean }} */ (JSON.parse(child.stdout));
  return { environment, name, isSoftware };
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

/** @returns {string | null} Debian's code name. */
function debianRelease() {
  if (!existsSync('/etc/debian_version') || !existsSync('/etc/os-release')) return null;
  return /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? null;
}

/**
 * Major version of Mesa that apt would install; 0 when none.
 * @type {(...policyArguments: string[]) => number}
 */
function mesaCandidate(...policyArguments) {
  const policy = spawnSync('apt-cache', [...policyArguments, 'policy', 'mesa-vulkan-drivers'], { encoding: 'utf8' });
  return Number(/Candidate: (?:\d+:)?(\d+)/.exec(policy.stdout ?? '')?.[1] ?? 0);
}

/**
 * Installs Mesa's software Vulkan driver, about five times as fast as SwiftShader. Only on a CI machine, since it may
 * need a new package source; the tests pass without it, more slowly.
 */
function tryLavapipe() {
  const release = debianRelease();
  if (release === null || rootPrefix() === null) return;
  const target = `${release}-backports`;
  if (release === 'bookworm' && mesaCandidate('-t', target) < oldestMesaMajor && process.getuid?.() === 0) {
    writeFileSync('/etc/apt/sources.list.d/cotrain-backports.list', `deb http://deb.debian.org/debian ${target} main\n`);
    listsAreFresh = false;
  }
  if (!listsAreFresh) listsAreFresh = apt('update');
  const policyArguments = mesaCandidate() >= oldestMesaMajor ? [] : ['-t', target];
  if (mesaCandidate(...policyArguments) >= oldestMesaMajor) aptInstall(...policyArguments, 'mesa-vulkan-drivers', 'libvulkan1');
}

/** An adapter for WebGPU in Node that computes correctly, with the environment that finds it. Throws when there is none. */
export function ensureAdapter() {
  let adapter = bestAdapter();
  if ((adapter === null || !isFastEnough(adapter)) && process.env['CI'] !== undefined && process.env['VK_ICD_FILENAMES'] === undefined) {
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

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    say(`Chromium: ${ensureChromium()}`);
    say(`WebGPU in Node: ${ensureAdapter().name}`);
  } catch (error) {
    console.error(`setup: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  }
}
