/**
 * Reads of GPU buffers through staging buffers that are reused: a read in steady state creates nothing.
 * Several reads may be under way at once, each with a buffer of its own.
 */
import type { EngineCounters, Region } from './engine.ts';

// GPUBufferUsage and GPUMapMode are no globals in every Node host.
const usageMapRead = 0x0001;
const usageCopyDst = 0x0008;
const mapModeRead = 0x0001;
const smallestBytes = 256;

export class StagingRing {
  readonly #device: GPUDevice;
  readonly #counters: EngineCounters;
  readonly #idle = new Map<number, GPUBuffer[]>();

  constructor(device: GPUDevice, counters: EngineCounters) {
    this.#device = device;
    this.#counters = counters;
  }

  async read(region: Region): Promise<ArrayBuffer> {
    const bytes = region.lengthElements * 4;
    const staging = this.#take(bytes);
    const encoder = this.#device.createCommandEncoder({ label: 'read' });
    encoder.copyBufferToBuffer(region.buffer, region.offsetElements * 4, staging, 0, bytes);
    this.#device.queue.submit([encoder.finish()]);
    this.#counters.submits++;
    await staging.mapAsync(mapModeRead, 0, bytes);
    const copy = staging.getMappedRange(0, bytes).slice(0);
    staging.unmap();
    this.#idle.get(staging.size)?.push(staging);
    return copy;
  }

  #take(bytes: number): GPUBuffer {
    const size = sizeClass(bytes);
    const idle = this.#idle.get(size) ?? [];
    this.#idle.set(size, idle);
    const reused = idle.pop();
    if (reused) return reused;
    this.#counters.buffersCreated++;
    this.#counters.bufferBytes += size;
    return this.#device.createBuffer({ label: `staging ${size}`, size, usage: usageMapRead | usageCopyDst });
  }

  destroy(): void {
    for (const buffers of this.#idle.values()) for (const buffer of buffers) buffer.destroy();
    this.#idle.clear();
  }
}

/** Powers of two up to 1 MiB, then whole mebibytes, so that large reads don't waste up to half of their buffer. */
function sizeClass(bytes: number): number {
  const mebibyte = 1 << 20;
  if (bytes > mebibyte) return Math.ceil(bytes / mebibyte) * mebibyte;
  let size = smallestBytes;
  while (size < bytes) size *= 2;
  return size;
}
