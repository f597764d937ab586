/**
 * The engine as the rest of Cotrain sees it: an opened adapter that compiles graphs to programs and runs kernels.
 * Interfaces only; `device.ts` and `program.ts` implement them on WebGPU.
 */
import type { Graph } from './graph.ts';
import type { ParameterLayout } from './layout.ts';
import type { AdapterProfile, ShaderConstants, Tensor } from './op.ts';

export interface EngineCounters {
  submits: number;
  dispatches: number;
  pipelinesCreated: number;
  buffersCreated: number;
  bufferBytes: number;
}

/** A part of a GPU buffer, in 4-byte elements. */
export interface Region {
  readonly buffer: GPUBuffer;
  readonly offsetElements: number;
  readonly lengthElements: number;
}

/** Regions that follow one another: a flat buffer of a layout, which may be larger than one GPU buffer can be. */
export interface FlatMemory {
  readonly parts: readonly Region[];
  readonly lengthElements: number;
}

export type Memory = Region | FlatMemory;

/** A kernel run outside a graph (optimizer, norms, hashes, codecs). `bindings[i]` is `@binding(i)`. */
export interface DirectDispatch {
  readonly label: string;
  readonly shader: string;
  readonly entryPoint: string;
  readonly constants: ShaderConstants;
  readonly bindings: readonly Region[];
  readonly workgroups: readonly [number, number, number];
  readonly flops?: number;
}

/** A fixed list of dispatches with bind groups and pipelines built once. */
export interface Sequence {
  /** Encodes everything into one command buffer and submits it. */
  run(): void;
}

export interface ProgramStats {
  readonly dispatchesPerRun: number;
  /** What the plan takes of the arenas that all programs of an engine share. */
  readonly arenaBytes: number;
  /** The largest sum of live activations at any moment: no plan can need less. */
  readonly arenaLowerBoundBytes: number;
}

/** What one dispatch of a program costs by itself. */
export interface DispatchTiming {
  readonly label: string;
  readonly milliseconds: number;
  /** Multiplications and additions; 0 where the kernel does not count them. */
  readonly flops: number;
  /** Bytes of everything it is bound to: no kernel can move less unless it skips some. */
  readonly boundBytes: number;
}

/** A planned graph: one submit per run. Inputs are written with the queue, so a run may be queued before the last one ended. */
export interface Program {
  readonly stats: ProgramStats;
  setInput(name: string, data: Float32Array | Uint32Array): void;
  run(): void;
  /**
   * Copies a named output (given to `compile`) to the host; f16 values are widened, u32 ones are seen as f32 bits. Resolves
   * when the runs queued so far have ended.
   */
  readOutput(name: string): Promise<Float32Array>;
  /**
   * Runs each dispatch alone, over and over, for a benchmark's breakdown. What the program computed is garbage after it,
   * the accumulated gradients and totals included.
   */
  timings(): Promise<readonly DispatchTiming[]>;
  /** Frees the memory that is the program's alone: inputs, outputs, constants. It can't run after this. */
  release(): void;
}

export interface CompileOptions {
  readonly parameters: Memory;
  readonly layout: ParameterLayout;
  /** Where `kind: 'gradient'` accumulations go, by the layout; absent for graphs that don't differentiate. */
  readonly gradients?: Memory;
  /** Where `kind: 'total'` accumulations go: one region for each name. */
  readonly totals?: ReadonlyMap<string, Region>;
  /** Where the graph's states lie: one region for each name. Programs that are given the same one hand it on to each other. */
  readonly states?: ReadonlyMap<string, Region>;
  /** Tensors to keep after a run, by name, for `readOutput`. */
  readonly outputs?: ReadonlyMap<string, Tensor>;
}

export interface Engine {
  readonly profile: AdapterProfile;
  readonly device: GPUDevice;
  readonly counters: EngineCounters;
  /** Resolves when the device is lost for any reason but `destroy()`. */
  readonly lost: Promise<{ readonly reason: string; readonly message: string }>;
  /** A zero-filled storage buffer that can be copied from and to. Throws `EngineError` when memory runs out. */
  allocate(label: string, lengthElements: number): Region;
  /** The same for a flat buffer of a layout. Flat buffers of one layout have parts of the same lengths. */
  allocateFlat(label: string, layout: ParameterLayout): FlatMemory;
  /**
   * Memory that work can go on without, of so many buffers: where there is none, this alone rejects, with an `EngineError` of
   * code `out-of-memory`, and nothing is kept.
   */
  allocateSpare(label: string, lengthsElements: readonly number[]): Promise<FlatMemory>;
  /** What the activations of a graph would take, without compiling anything. */
  activationBytes(graph: Graph): number;
  compile(graph: Graph, options: CompileOptions): Promise<Program>;
  sequence(label: string, dispatches: readonly DirectDispatch[]): Promise<Sequence>;
  write(memory: Memory, data: Float32Array | Uint32Array, offsetElements?: number): void;
  /** Zeroes all of them with one submit. */
  clear(...memories: readonly Memory[]): void;
  /** Host copy through a ring of staging buffers. What is queued meanwhile may change parts that were not read yet. */
  read(memory: Memory): Promise<ArrayBuffer>;
  /** Frees buffers that nothing will use any more; what was submitted before still runs. */
  release(...memories: readonly Memory[]): void;
  destroy(): void;
}
