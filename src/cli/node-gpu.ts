/**
 * WebGPU in Node, by Dawn. Which Vulkan driver it finds is decided before the process starts (tools/vulkan.mjs); here it
 * is only opened.
 */
import { tmpdir } from 'node:os';
import { create, globals } from 'webgpu';

let gpu: GPU | undefined;

/** Dawn's `navigator.gpu`, one for the process. Also defines the WebGPU globals (GPUBufferUsage and such). */
export function nodeGpu(): GPU {
  if (gpu === undefined) {
    Object.assign(globalThis, globals);
    // Mesa's drivers complain on stderr without it.
    process.env['XDG_RUNTIME_DIR'] ??= tmpdir();
    gpu = create([]);
  }
  return gpu;
}
