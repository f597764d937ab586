/**
 * Where Dawn in Node finds a Vulkan driver. A machine with a GPU, or with Mesa's software driver, has one in the usual
 * places and nothing is done. Otherwise the SwiftShader that comes with every Chromium serves, and if the system has no
 * Vulkan loader either, so does the one beside it. Not here: choosing between adapters, installing anything.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Directories of ICD manifests that the Vulkan loader reads by itself (its documentation, “Driver discovery on Linux”). */
const driverDirectories = [
  '/usr/share/vulkan/icd.d',
  '/usr/local/share/vulkan/icd.d',
  '/etc/vulkan/icd.d',
  '/usr/local/etc/vulkan/icd.d',
];

const loaderName = 'libvulkan.so.1';

/** Where Debian's, Google's and others' Chromium keep their own libraries. */
const chromiumDirectories = ['/usr/lib/chromium', '/usr/lib/chromium-browser', '/opt/google/chrome', '/snap/chromium/current/usr/lib/chromium-browser'];

/** Set in the child that was started again with a library path, so that it never starts a third. */
const reenteredVariable = 'COTRAIN_VULKAN_READY';

/** @returns {string | null} Path of Playwright's own Chromium, if it has been downloaded. */
export function playwrightChromium() {
  try {
    const playwright = /** @type {typeof import('playwright')} */ (createRequire(import.meta.url)('playwright'));
    const path = playwright.chromium.executablePath();
    return existsSync(path) ? path : null;
  } catch {
    // Playwright is a development package; without it there is simply no such Chromium.
    return null;
  }
}

/** Path of a Chromium to run pages in: $CHROMIUM_PATH, one installed on the system, or Playwright's. Null: none. */
export function findChromium() {
  const named = process.env['CHROMIUM_PATH'];
  if (named !== undefined && named !== '') return named;
  const installed = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/opt/google/chrome/chrome'];
  return installed.find((path) => existsSync(path)) ?? playwrightChromium();
}

/** @returns {string | null} Directory with SwiftShader's manifest and library, and Chromium's Vulkan loader. */
export function swiftShaderDirectory() {
  const chromium = findChromium();
  const candidates = [...(chromium === null ? [] : [dirname(chromium)]), ...chromiumDirectories];
  return candidates.find((directory) => existsSync(join(directory, 'vk_swiftshader_icd.json'))) ?? null;
}

/** @typedef {{ readonly environment: Record<string, string>, readonly name: string, readonly isSoftware: boolean }} Adapter */

const probe = fileURLToPath(new URL('./adapter-probe.mjs', import.meta.url));

/**
 * Asks a child process for an adapter and an answer from it; null when there is none or it is wrong.
 * @type {(environment: Record<string, string>) => Adapter | null}
 */
export function probeAdapter(environment) {
  const child = spawnSync(process.execPath, [probe], { encoding: 'utf8', timeout: 120_000, killSignal: 'SIGKILL', env: { ...process.env, ...environment } });
  if (child.status !== 0) return null;
  const { name, isSoftware } = /** @type {{ name: string, isSoftware: boolean }} */ (JSON.parse(child.stdout));
  return { environment, name, isSoftware };
}

/** Drivers that say they speak Vulkan 1.4 are new enough for Dawn; Debian 12's own Mesa (1.3) is not. */
const surelyNewEnough = /"api_version"\s*:\s*"1\.(?:[4-9]|\d\d)\./;

/**
 * Whether the system has a driver that Dawn takes. Manifests of older drivers, which Debian installs for every GPU
 * there is, prove nothing, so then an adapter is asked for.
 */
function hasOwnDriver() {
  const manifests = driverDirectories
    .filter((directory) => existsSync(directory))
    .flatMap((directory) => readdirSync(directory).map((name) => join(directory, name)))
    .filter((path) => path.endsWith('.json'));
  if (manifests.length === 0) return false;
  return manifests.some((path) => surelyNewEnough.test(readFileSync(path, 'utf8'))) || probeAdapter({}) !== null;
}

function hasLoader() {
  const listing = spawnSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' });
  // Without ldconfig (other C libraries) assume the usual: whoever installed a driver has a loader.
  return listing.status !== 0 || listing.stdout.includes(loaderName);
}

/**
 * Environment variables that let Dawn find a driver here; empty when nothing is missing or nothing would help.
 * @returns {Record<string, string>}
 */
export function vulkanEnvironment() {
  if (process.platform !== 'linux') return {};
  const isNamed = (process.env['VK_ICD_FILENAMES'] ?? process.env['VK_DRIVER_FILES'] ?? '') !== '';
  const needsDriver = !isNamed && !hasOwnDriver();
  const needsLoader = !hasLoader();
  const swiftShader = needsDriver || needsLoader ? swiftShaderDirectory() : null;
  if (swiftShader === null) return {};
  /** @type {Record<string, string>} */
  const variables = {};
  if (needsDriver) variables['VK_ICD_FILENAMES'] = join(swiftShader, 'vk_swiftshader_icd.json');
  if (needsLoader && existsSync(join(swiftShader, loaderName))) {
    const inherited = process.env['LD_LIBRARY_PATH'] ?? '';
    variables['LD_LIBRARY_PATH'] = inherited === '' ? swiftShader : `${inherited}:${swiftShader}`;
  }
  return variables;
}

/**
 * Applies `vulkanEnvironment()` to this process. A library path is read only when a process starts, so where one is
 * needed this process runs its own command again with it and exits with the same code.
 */
export function enterVulkanEnvironment() {
  if (process.env[reenteredVariable] !== undefined) return;
  const variables = vulkanEnvironment();
  Object.assign(process.env, variables, { [reenteredVariable]: '1' });
  if (variables['LD_LIBRARY_PATH'] === undefined) return;
  const child = spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], { stdio: 'inherit' });
  process.exit(child.status ?? 1);
}
