/**
 * Pipelines and bind groups: turns a kernel request with concrete buffer regions into something that can be encoded.
 * Resolves what WebGPU forbids within one dispatch (a buffer both read-only and written, overlapping writable ranges).
 * It does not decide where tensors live (`planner.ts`) nor when kernels run.
 */
import type { DirectDispatch, EngineCounters, Region } from './engine.ts';
import { EngineError, invariant } from './errors.ts';
import type { AdapterProfile } from './op.ts';
import { bindingsOf, canMerge, isolateEntryPoint, mergeBinding, specialise, widenAccess } from './wgsl.ts';
import type { BindingDeclaration } from './wgsl.ts';

export interface ReadyDispatch {
  readonly request: DirectDispatch;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
}

interface BoundDeclaration {
  readonly declaration: BindingDeclaration;
  readonly region: Region;
}

const bytesPerElement = 4;

export class KernelCache {
  readonly #device: GPUDevice;
  readonly #profile: AdapterProfile;
  readonly #counters: EngineCounters;
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();

  constructor(device: GPUDevice, profile: AdapterProfile, counters: EngineCounters) {
    this.#device = device;
    this.#profile = profile;
    this.#counters = counters;
  }

  /** Throws `EngineError` that names the kernel when the shader does not compile or the bindings don't fit it. */
  async prepare(request: DirectDispatch): Promise<ReadyDispatch> {
    try {
      return await this.#prepare(request);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new EngineError(`kernel ${request.label} (${request.entryPoint}): ${reason}`, { cause: error });
    }
  }

  async #prepare(request: DirectDispatch): Promise<ReadyDispatch> {
    const limit = this.#profile.maxWorkgroupsPerDimension;
    invariant(
      request.workgroups.every((count) => Number.isInteger(count) && count >= 1 && count <= limit),
      () => `${request.workgroups.join('×')} workgroups: each must be from 1 to ${limit}`,
    );
    const plain = isolateEntryPoint(specialise(request.shader, request.constants), request.entryPoint);
    const declared = bindingsOf(plain, request.entryPoint).map((declaration): BoundDeclaration => {
      const region = request.bindings[declaration.binding];
      invariant(region !== undefined, () => `binding ${declaration.binding} (${declaration.name}) is given no buffer`);
      this.#checkRegion(declaration, region);
      return { declaration, region };
    });
    const { source, bound } = resolveAliases(plain, declared);
    const layout = this.#layout(bound.map(({ declaration }) => declaration));
    const bindGroup = this.#device.createBindGroup({
      label: request.label,
      layout,
      entries: bound.map(({ declaration, region }) => ({
        binding: declaration.binding,
        resource: {
          buffer: region.buffer,
          offset: region.offsetElements * bytesPerElement,
          size: region.lengthElements * bytesPerElement,
        },
      })),
    });
    const pipeline = await this.#pipeline(source, request, layout);
    return { request, pipeline, bindGroup };
  }

  #checkRegion({ name }: BindingDeclaration, region: Region): void {
    invariant(
      region.offsetElements % 64 === 0,
      () => `${name} starts at element ${region.offsetElements}, which is not a multiple of 64`,
    );
    const bytes = region.lengthElements * bytesPerElement;
    const limit = this.#profile.maxStorageBufferBindingBytes;
    invariant(bytes > 0 && bytes <= limit, () => `${name} has ${bytes} bytes; a binding here holds 4 to ${limit}`);
  }

  #layout(declarations: readonly BindingDeclaration[]): GPUBindGroupLayout {
    const key = declarations.map(({ binding, access }) => `${binding}:${access}`).join();
    const known = this.#layouts.get(key);
    if (known) return known;
    const types = { uniform: 'uniform', read: 'read-only-storage', read_write: 'storage' } as const;
    const layout = this.#device.createBindGroupLayout({
      label: key,
      entries: declarations.map(({ binding, access }) => ({
        binding,
        visibility: 4, // GPUShaderStage.COMPUTE, which is no global in every Node host
        buffer: { type: types[access] },
      })),
    });
    this.#layouts.set(key, layout);
    return layout;
  }

  #pipeline(source: string, request: DirectDispatch, layout: GPUBindGroupLayout): Promise<GPUComputePipeline> {
    const key = `${request.entryPoint}\n${source}`;
    const known = this.#pipelines.get(key);
    if (known) return known;
    this.#counters.pipelinesCreated++;
    const created = this.#createPipeline(source, request, layout);
    this.#pipelines.set(key, created);
    return created;
  }

  async #createPipeline(source: string, request: DirectDispatch, layout: GPUBindGroupLayout): Promise<GPUComputePipeline> {
    const { label, entryPoint } = request;
    this.#device.pushErrorScope('validation');
    const module = this.#device.createShaderModule({ label, code: source });
    const scope = this.#device.popErrorScope();
    const { messages } = await module.getCompilationInfo();
    await scope;
    const lines = source.split('\n');
    const errors = messages.filter((message) => message.type === 'error');
    invariant(errors.length === 0, () =>
      errors.map(({ message, lineNum }) => `${message} at: ${(lines[lineNum - 1] ?? '').trim()}`).join('; '),
    );
    return this.#device.createComputePipelineAsync({
      label,
      layout: this.#device.createPipelineLayout({ label, bindGroupLayouts: [layout] }),
      compute: { module, entryPoint },
    });
  }
}

/**
 * Within a dispatch a buffer that is written must be `read_write` in all its bindings, and those may not overlap. So a
 * range bound twice becomes one variable, and other reads of a written buffer are widened.
 */
function resolveAliases(
  source: string,
  declared: readonly BoundDeclaration[],
): { readonly source: string; readonly bound: readonly BoundDeclaration[] } {
  const writtenBuffers = new Set(
    declared.filter(({ declaration }) => declaration.access === 'read_write').map(({ region }) => region.buffer),
  );
  // Writers first, so that a reader merges into the writer of its range and not the other way round.
  const writersFirst = [...declared].sort((a, b) => Number(isReader(a)) - Number(isReader(b)));
  const bound: BoundDeclaration[] = [];
  const widened = new Set<number>();
  let text = source;
  for (const candidate of writersFirst) {
    const { declaration, region } = candidate;
    if (!writtenBuffers.has(region.buffer)) {
      bound.push(candidate);
      continue;
    }
    const twin = bound.find((other) => overlaps(other.region, region));
    if (twin) {
      invariant(
        isReader(candidate) && sameRange(twin.region, region) && canMerge(source, declaration, twin.declaration),
        () => `${declaration.name} and ${twin.declaration.name} overlap in a buffer that is written`,
      );
      text = mergeBinding(text, declaration, twin.declaration);
    } else if (isReader(candidate)) {
      widened.add(declaration.binding);
      bound.push({ region, declaration: { ...declaration, access: 'read_write' } });
    } else {
      bound.push(candidate);
    }
  }
  return { source: widenAccess(text, widened), bound: bound.sort((a, b) => a.declaration.binding - b.declaration.binding) };
}

function isReader({ declaration }: BoundDeclaration): boolean {
  return declaration.access !== 'read_write';
}

function sameRange(a: Region, b: Region): boolean {
  return a.offsetElements === b.offsetElements && a.lengthElements === b.lengthElements;
}

function overlaps(a: Region, b: Region): boolean {
  return (
    a.buffer === b.buffer &&
    a.offsetElements < b.offsetElements + b.lengthElements &&
    b.offsetElements < a.offsetElements + a.lengthElements
  );
}

/** One command buffer, one compute pass, one submit. */
export function submitDispatches(
  device: GPUDevice,
  counters: EngineCounters,
  label: string,
  dispatches: readonly ReadyDispatch[],
): void {
  device.queue.submit([encodeDispatches(device, label, dispatches)]);
  counters.submits++;
  counters.dispatches += dispatches.length;
}

export function encodeDispatches(device: GPUDevice, label: string, dispatches: readonly ReadyDispatch[]): GPUCommandBuffer {
  const encoder = device.createCommandEncoder({ label });
  const pass = encoder.beginComputePass({ label });
  let current: GPUComputePipeline | null = null;
  for (const { pipeline, bindGroup, request } of dispatches) {
    if (pipeline !== current) pass.setPipeline(pipeline);
    current = pipeline;
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroups(...request.workgroups);
  }
  pass.end();
  return encoder.finish();
}
