/**
 * Opens Dawn in Node for kernel tests. The adapter is the one VK_ICD_FILENAMES names, else a real GPU, else a software
 * driver of this machine. The choice is made before the first adapter is requested.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { homedir, platform, tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, globals } from 'webgpu';
import { openEngine } from '../../src/engine/index.ts';
import type { Engine } from '../../src/engine/index.ts';
import type { EngineOptions } from '../../src/engine/device.ts';

let gpu: GPU | undefined;
let shared: Promise<Engine> | undefined;

/** Dawn's `navigator.gpu`, one per process. */
export function nodeGpu(): GPU {
  if (gpu) return gpu;
  Object.assign(globalThis, globals);
  process.env['XDG_RUNTIME_DIR'] ??= tmpdir();
  if (process.env['VK_ICD_FILENAMES'] === undefined && !hasRealGpu()) process.env['VK_ICD_FILENAMES'] = softwareDriver();
  gpu = create([]);
  return gpu;
}

/** An engine that all tests of a process share; tests that count or break things open their own. */
export function sharedEngine(): Promise<Engine> {
  shared ??= openEngine(nodeGpu());
  return shared;
}

export function freshEngine(options: EngineOptions = {}): Promise<Engine> {
  return openEngine(nodeGpu(), options);
}

function hasRealGpu(): boolean {
  if (platform() !== 'linux') return true;
  const nodes = existsSync('/dev/dri') ? readdirSync('/dev/dri') : [];
  return nodes.some((name) => name.startsWith('renderD')) || existsSync('/dev/nvidia0');
}

/** Path of a Vulkan driver manifest: lavapipe where it is recent enough for Dawn, else the SwiftShader of a Chromium. */
function softwareDriver(): string {
  const lavapipe = ['lvp_icd.json', 'lvp_icd.x86_64.json', 'lvp_icd.aarch64.json']
    .map((name) => join('/usr/share/vulkan/icd.d', name))
    .find((path) => existsSync(path) && isRecent(path));
  const found = lavapipe ?? chromiumFolders().map((folder) => join(folder, 'vk_swiftshader_icd.json')).find(existsSync);
  if (found === undefined) {
    throw new Error(
      'No GPU and no software driver for WebGPU found. Install a Chromium (npx playwright install chromium) or Mesa 25, ' +
        'or name a Vulkan driver manifest in VK_ICD_FILENAMES.',
    );
  }
  return found;
}

/** Mesa 25 is the first whose lavapipe offers Vulkan 1.4; older ones fail in Dawn. */
function isRecent(manifestPath: string): boolean {
  const match = /"api_version"\s*:\s*"(\d+)\.(\d+)/.exec(readFileSync(manifestPath, 'utf8'));
  return match !== null && Number(match[1]) * 100 + Number(match[2]) >= 104;
}

function chromiumFolders(): string[] {
  const cache = process.env['PLAYWRIGHT_BROWSERS_PATH'] ?? join(homedir(), '.cache', 'ms-playwright');
  const browsers = existsSync(cache) ? readdirSync(cache).filter((name) => name.startsWith('chromium')) : [];
  const bundled = browsers.flatMap((browser) => readdirSync(join(cache, browser)).map((folder) => join(cache, browser, folder)));
  return ['/usr/lib/chromium', '/opt/google/chrome', ...bundled];
}
