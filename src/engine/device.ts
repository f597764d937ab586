/**
 * Opens a WebGPU adapter as an `Engine`: features, limits, buffers, reads, errors and loss of the device.
 * It is handed `navigator.gpu` or Dawn's equivalent, so that it runs in pages, workers and Node alike.
 */
import type { CompileOptions, DirectDispatch, Engine, EngineCounters, FlatMemory, Memory, Program, Region, Sequence } from './engine.ts';
import { EngineError, invariant } from './errors.ts';
import type { Graph } from './graph.ts';
import { KernelCache, submitDispatches } from './kernels.ts';
import type { ParameterLayout } from './layout.ts';
import { defaultChoice, sameForAll } from './matmul-variants.ts';
import type { MatmulVariant } from './matmul-variants.ts';
import type { AdapterProfile } from './op.ts';
import { partsOf, sliceOf } from './memory.ts';
import { activationBytes, compileProgram } from './program.ts';
import { partLengths } from './ranges.ts';
import { StagingRing } from './staging.ts';
import { probeOf } from './tuning-probe.ts';
import { tunedChoice, tuningKey } from './tuning.ts';
import type { MeasureVariant, TuningOptions } from './tuning.ts';

export interface EngineOptions {
  /** Kernels for software adapters or for GPUs, whatever the adapter is; for tests. */
  readonly forceKernels?: 'software' | 'gpu';
  /** One variant for all matrix products; for tests and measurements. */
  readonly forceMatmul?: MatmulVariant;
  /** Chooses the variants of matrix products by a measurement, remembered where a store is given; default: the built-in choice. */
  readonly tuning?: TuningOptions;
  /** Stay within WebGPU's default limits even where the adapter offers more. */
  readonly clampToDefaultLimits?: boolean;
  /** Plan as if no binding, buffer or dispatch could be larger, even where the adapter allows it; for tests. */
  readonly limits?: Partial<Pick<AdapterProfile, 'maxStorageBufferBindingBytes' | 'maxBufferBytes' | 'maxDispatchFlops'>>;
  readonly powerPreference?: GPUPowerPreference;
}

const wantedFeatures: readonly GPUFeatureName[] = ['shader-f16', 'subgroups', 'timestamp-query'];
const softwareNames = /swiftshader|llvmpipe|lavapipe|softpipe|basic render|\bwarp\b|\bcpu\b/i;

/**
 * What takes about 100 ms at the slowest: SwiftShader on two cores has 3 to 4 GFLOP/s, and integrated GPUs of ten years ago
 * about 100 of their 400. On anything faster such a dispatch is still long enough to hide what another one costs.
 */
const softwareDispatchFlops = 4e8;
const gpuDispatchFlops = 1e10;

// GPUBufferUsage is no global in every Node host.
const usageCopySrc = 0x0004;
const usageCopyDst = 0x0008;
const usageUniform = 0x0040;
const usageStorage = 0x0080;

/** Throws `EngineError` when there is no adapter or it gives no device. */
export async function openEngine(gpu: GPU, options: EngineOptions = {}): Promise<Engine> {
  const { tuning } = options;
  const opened = await openUntuned(gpu, options);
  const { profile, device } = opened;
  if (!tuning || options.forceMatmul || (profile.isSoftware && tuning.includesSoftware !== true)) {
    return new GpuEngine(device, profile);
  }
  const probing = lazyProbe(async () => {
    const { device: ownDevice, profile: ownProfile } = await openUntuned(gpu, options);
    return new GpuEngine(ownDevice, ownProfile);
  });
  try {
    const matmul = await tunedChoice(tuningKey(device.adapterInfo, device.features), profile, tuning, probing.measure);
    return new GpuEngine(device, { ...profile, matmul });
  } finally {
    probing.close();
  }
}

async function openUntuned(gpu: GPU, options: EngineOptions): Promise<{ readonly device: GPUDevice; readonly profile: AdapterProfile }> {
  const powerPreference = options.powerPreference ?? 'high-performance';
  const adapter = await gpu.requestAdapter({ powerPreference });
  if (!adapter) throw new EngineError('the browser offers no WebGPU adapter', { code: 'no-adapter' });
  const device = await requestDevice(adapter, options);
  return { device, profile: profileOf(adapter, device, options) };
}

/** A probe on a device of its own: what a variant breaks on it is broken for nobody else. Opened by the first measurement. */
function lazyProbe(open: () => Promise<Engine>): { readonly measure: MeasureVariant; close(): void } {
  let engine: Engine | null = null;
  let probe: MeasureVariant | null = null;
  return {
    async measure(variant, shapeClass) {
      try {
        engine ??= await open();
        probe ??= probeOf(engine);
        return await probe(variant, shapeClass);
      } catch (error) {
        // Doesn't compile here, or took the device with it: no variant for this adapter.
        if (error instanceof EngineError) return null;
        throw error;
      }
    },
    close: () => engine?.destroy(),
  };
}

async function requestDevice(adapter: GPUAdapter, { clampToDefaultLimits = false }: EngineOptions): Promise<GPUDevice> {
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  try {
    return await adapter.requestDevice({
      label: 'cotrain',
      requiredFeatures: wantedFeatures.filter((feature) => adapter.features.has(feature)),
      requiredLimits: clampToDefaultLimits ? {} : { maxBufferSize, maxStorageBufferBindingSize },
    });
  } catch (error) {
    throw new EngineError(`the adapter gives no device: ${messageOf(error)}`, { cause: error });
  }
}

function profileOf(adapter: GPUAdapter, device: GPUDevice, options: EngineOptions): AdapterProfile {
  const { vendor, architecture, device: product, description } = adapter.info;
  const isFallback = 'isFallbackAdapter' in adapter.info && adapter.info.isFallbackAdapter;
  const { subgroupMinSize, subgroupMaxSize } = adapter.info;
  const isUniform = device.features.has('subgroups') && subgroupMinSize === subgroupMaxSize;
  const subgroupSize = isUniform ? subgroupMinSize : 0;
  const isSoftwareAdapter = isFallback || softwareNames.test([vendor, architecture, product, description].join(' '));
  const isSoftware = options.forceKernels === undefined ? isSoftwareAdapter : options.forceKernels === 'software';
  return {
    name: description || product || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed adapter',
    isSoftware,
    matmul: options.forceMatmul ? sameForAll(options.forceMatmul) : defaultChoice({ isSoftware, subgroupSize }),
    hasF16: device.features.has('shader-f16'),
    subgroupSize,
    maxStorageBufferBindingBytes: device.limits.maxStorageBufferBindingSize,
    maxBufferBytes: device.limits.maxBufferSize,
    maxWorkgroupsPerDimension: device.limits.maxComputeWorkgroupsPerDimension,
    maxDispatchFlops: isSoftware ? softwareDispatchFlops : gpuDispatchFlops,
    ...options.limits,
  };
}

class GpuEngine implements Engine {
  readonly profile: AdapterProfile;
  readonly device: GPUDevice;
  readonly lost: Engine['lost'];
  readonly counters: EngineCounters = { submits: 0, dispatches: 0, pipelinesCreated: 0, buffersCreated: 0, bufferBytes: 0 };
  readonly kernels: KernelCache;
  readonly #staging: StagingRing;
  readonly #buffers = new Set<GPUBuffer>();
  readonly #arenas: Region[] = [];
  /** The first error that no scope caught; every later wait for the GPU reports it. */
  #failure: EngineError | null = null;
  #destroyed = false;

  constructor(device: GPUDevice, profile: AdapterProfile) {
    this.device = device;
    this.profile = profile;
    this.kernels = new KernelCache(device, profile, this.counters);
    this.#staging = new StagingRing(device, this.counters);
    device.addEventListener('uncapturederror', ({ error }) => {
      this.#failure ??= new EngineError(error.message, { code: isOutOfMemory(error) ? 'out-of-memory' : 'failed' });
    });
    this.lost = new Promise((resolve) => {
      void device.lost.then(({ reason, message }) => {
        this.#failure ??= new EngineError(`the GPU was lost: ${message}`, { code: 'lost' });
        if (!this.#destroyed) resolve({ reason, message });
      });
    });
  }

  allocate(label: string, lengthElements: number): Region {
    this.device.pushErrorScope('out-of-memory');
    const region = this.#createRegion(label, lengthElements);
    void this.device.popErrorScope().then((error) => {
      if (error) this.#failure ??= noMemoryFor(label, region);
    }, ignoreLoss);
    return region;
  }

  async allocateSpare(label: string, lengthsElements: readonly number[]): Promise<FlatMemory> {
    this.device.pushErrorScope('out-of-memory');
    const parts = lengthsElements.map((length, index) => this.#createRegion(`${label} ${index}`, length));
    const error = await this.device.popErrorScope();
    const memory = { parts, lengthElements: parts.reduce((sum, part) => sum + part.lengthElements, 0) };
    if (error === null) return memory;
    this.release(memory);
    throw noMemoryFor(label, memory);
  }

  #createRegion(label: string, lengthElements: number): Region {
    const size = Math.max(4, lengthElements * 4);
    invariant(
      size <= this.profile.maxBufferBytes,
      () => `${label} needs ${size} bytes in one buffer; this adapter allows ${this.profile.maxBufferBytes}`,
      'out-of-memory',
    );
    const usage = usageStorage | usageCopySrc | usageCopyDst | usageUniform;
    const buffer = this.device.createBuffer({ label, size, usage });
    this.#buffers.add(buffer);
    this.counters.buffersCreated++;
    this.counters.bufferBytes += size;
    return { buffer, offsetElements: 0, lengthElements };
  }

  allocateFlat(label: string, layout: ParameterLayout): FlatMemory {
    const lengths = partLengths(layout, this.profile);
    const parts = lengths.map((length, index) => this.allocate(lengths.length > 1 ? `${label} ${index}` : label, length));
    return { parts, lengthElements: lengths.reduce((sum, length) => sum + length, 0) };
  }

  arena(index: number, lengthElements: number): Region {
    const known = this.#arenas[index];
    if (known && known.lengthElements >= lengthElements) return known;
    const larger = this.allocate(`arena ${index}`, lengthElements);
    this.#arenas[index] = larger;
    return larger;
  }

  activationBytes(graph: Graph): number {
    return activationBytes(this.profile, graph);
  }

  async compile(graph: Graph, options: CompileOptions): Promise<Program> {
    return this.#checked(() => compileProgram(this, graph, options));
  }

  async sequence(label: string, dispatches: readonly DirectDispatch[]): Promise<Sequence> {
    const ready = await this.#checked(() => Promise.all(dispatches.map((dispatch) => this.kernels.prepare(dispatch))));
    return { run: () => submitDispatches(this.device, this.counters, label, ready) };
  }

  write(memory: Memory, data: Float32Array | Uint32Array, offsetElements = 0): void {
    invariant(
      offsetElements + data.length <= memory.lengthElements,
      () => `${data.length} elements at ${offsetElements} don't fit a region of ${memory.lengthElements}`,
    );
    let written = 0;
    for (const piece of sliceOf(memory, offsetElements, data.length)) {
      const bytes = piece.lengthElements * 4;
      this.device.queue.writeBuffer(piece.buffer, piece.offsetElements * 4, data.buffer, data.byteOffset + written, bytes);
      written += bytes;
    }
  }

  clear(...memories: readonly Memory[]): void {
    const encoder = this.device.createCommandEncoder({ label: 'clear' });
    for (const { buffer, offsetElements, lengthElements } of memories.flatMap(partsOf)) {
      encoder.clearBuffer(buffer, offsetElements * 4, lengthElements * 4);
    }
    this.device.queue.submit([encoder.finish()]);
    this.counters.submits++;
  }

  async read(memory: Memory): Promise<ArrayBuffer> {
    const parts = partsOf(memory);
    const [only] = parts;
    if (only && parts.length === 1) return this.#checked(() => this.#staging.read(only));
    const whole = new Uint8Array(memory.lengthElements * 4);
    let offsetBytes = 0;
    // One after another: all at once would take as much staging memory as the whole.
    for (const part of parts) {
      whole.set(new Uint8Array(await this.#checked(() => this.#staging.read(part))), offsetBytes);
      offsetBytes += part.lengthElements * 4;
    }
    return whole.buffer;
  }

  release(...memories: readonly Memory[]): void {
    for (const { buffer } of memories.flatMap(partsOf)) {
      if (!this.#buffers.delete(buffer)) continue;
      this.counters.bufferBytes -= buffer.size;
      buffer.destroy();
    }
  }

  destroy(): void {
    this.#destroyed = true;
    this.#staging.destroy();
    for (const buffer of this.#buffers) buffer.destroy();
    this.device.destroy();
  }

  /** Runs something that waits for the GPU and throws what went wrong on it meanwhile. */
  async #checked<T>(work: () => Promise<T>): Promise<T> {
    this.#throwFailure();
    try {
      const result = await work();
      this.#throwFailure();
      return result;
    } catch (error) {
      this.#throwFailure();
      throw error instanceof EngineError ? error : new EngineError(messageOf(error), { code: isOutOfMemory(error) ? 'out-of-memory' : 'failed', cause: error });
    }
  }

  #throwFailure(): void {
    const failure: EngineError | null = this.#failure;
    if (failure) throw failure;
  }
}

function noMemoryFor(label: string, { lengthElements }: Memory): EngineError {
  return new EngineError(`the GPU has no memory left for ${label} (${lengthElements * 4} bytes)`, { code: 'out-of-memory' });
}

/** A scope that can't be popped any more belongs to a lost device, which `lost` reports. */
function ignoreLoss(): void {
  return undefined;
}

/** Browsers and drivers say so in words only: WebGPU has no code for it outside error scopes. */
function isOutOfMemory(error: unknown): boolean {
  return /out of memory|allocation failed|too large for the implementation/i.test(messageOf(error));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
