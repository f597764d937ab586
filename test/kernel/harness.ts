/**
 * Opens engines on Dawn in Node for kernel tests. Which Vulkan driver there is, is decided before (tools/vulkan.mjs); set
 * VK_ICD_FILENAMES to choose another.
 */
import { tmpdir } from 'node:os';
import { create, globals } from 'webgpu';
import type { EngineOptions } from '../../src/engine/device.ts';
import { openEngine } from '../../src/engine/index.ts';
import type { Engine } from '../../src/engine/index.ts';
import { withoutFeatures } from '../wrapped-gpu.ts';

/** Features that the tests do without, as on a GPU that lacks them: `COTRAIN_TEST_WITHOUT=subgroups,shader-f16 npx vitest …`. */
const doneWithout: readonly string[] = (process.env['COTRAIN_TEST_WITHOUT'] ?? '').split(',').filter(Boolean);

let gpu: GPU | undefined;
let shared: Promise<Engine> | undefined;

/** Dawn's `navigator.gpu`, one per process. */
export function nodeGpu(): GPU {
  if (gpu) return gpu;
  Object.assign(globalThis, globals);
  // Mesa's software driver asks for it and has no need of it.
  process.env['XDG_RUNTIME_DIR'] ??= tmpdir();
  gpu = withoutFeatures(create([]), doneWithout);
  return gpu;
}

/** An engine that all tests of a process share; tests that count or break things open their own. */
export function sharedEngine(): Promise<Engine> {
  shared ??= freshEngine();
  return shared;
}

export async function freshEngine(options: EngineOptions = {}): Promise<Engine> {
  try {
    return await openEngine(nodeGpu(), options);
  } catch (error) {
    throw new Error(
      'No WebGPU adapter: install a Chromium (npx playwright install chromium) or Mesa 25, or name a Vulkan driver manifest in VK_ICD_FILENAMES.',
      { cause: error },
    );
  }
}
