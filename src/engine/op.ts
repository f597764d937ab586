/**
 * What an op is: the contract between the graph, the autodiff, the planner and the kernels.
 * An op knows its shapes, its meaning in f64 (`reference`), its vector-Jacobian product and the dispatches that
 * compute it. It does not know which buffers it runs on, nor what model it is part of.
 */

import type { MatmulChoice } from './matmul-variants.ts';

/** f16 tensors hold values in half the bytes; kernels compute and add in f32 all the same. */
export type DType = 'f32' | 'f16' | 'u32';
export type FloatType = Exclude<DType, 'u32'>;
export type Shape = readonly number[];

/** A number or flag becomes `const NAME` in front of a shader; a type takes the place of NAME in it. */
export type ShaderConstants = Readonly<Record<string, number | boolean | 'f32' | 'f16'>>;

export interface TensorSpec {
  readonly shape: Shape;
  readonly dtype: DType;
}

/**
 * A symbolic value in a traced graph. It has no data: the plan gives it a region of a buffer. Tensors of the same id are
 * the same value, seen with different shapes (`Graph.reshape`).
 */
export interface Tensor extends TensorSpec {
  readonly id: number;
  readonly name: string;
}

/** Host values of one tensor, as the f64 reference interpreter sees them (u32 tensors hold exact integers). */
export type ReferenceArray = Float64Array;

/** What of the adapter the kernels may use, and which of them suit it. Read once when the device is opened. */
export interface AdapterProfile {
  readonly name: string;
  /** SwiftShader, llvmpipe and the like: lanes of a CPU, which want other kernels than a GPU. */
  readonly isSoftware: boolean;
  /** The kernels of matrix products. */
  readonly matmul: MatmulChoice;
  readonly hasF16: boolean;
  /** Lanes of every subgroup; 0 where there are no subgroups, or not all of one size. */
  readonly subgroupSize: number;
  readonly maxStorageBufferBindingBytes: number;
  readonly maxBufferBytes: number;
  readonly maxWorkgroupsPerDimension: number;
  /** A dispatch that needs more multiplications and additions is cut: drivers kill what runs for seconds. */
  readonly maxDispatchFlops: number;
}

/** A binding of a dispatch: an input, an output or a scratch buffer of the node, whole or in part. */
export interface BindingRef {
  readonly kind: 'input' | 'output' | 'scratch';
  readonly index: number;
  /** First element (4-byte units) of the part that is bound; must be a multiple of 64 (256-byte binding alignment). */
  readonly offsetElements?: number;
  readonly lengthElements?: number;
}

/**
 * One compute dispatch. `shader` is the text of a file in `shaders/`; `constants` become WGSL `const` declarations in
 * front of it, and flags for its `#if` lines. `bindings[i]` is `@group(0) @binding(i)`; shader files declare the
 * access they need (`read` or `read_write`) and the executor widens `read` where a buffer is also written by
 * the same dispatch. What differs between dispatches of one pipeline goes into `uniform`: pipelines are slow to compile.
 */
export interface Dispatch {
  readonly label: string;
  readonly shader: string;
  readonly entryPoint: string;
  readonly constants: ShaderConstants;
  readonly bindings: readonly BindingRef[];
  /** u32 words of a uniform, bound after the bindings. */
  readonly uniform?: readonly number[];
  readonly workgroups: readonly [number, number, number];
  /** For the benchmark's breakdown. */
  readonly flops?: number;
}

export interface Lowering {
  readonly dispatches: readonly Dispatch[];
  /** Sizes in 4-byte elements of scratch regions that live for this node only. */
  readonly scratchElements?: readonly number[];
}

export interface LowerArgs<Attrs> {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** accumulate[i]: output i is added to what its region holds (gradients of parameters, loss sums). */
  readonly accumulate: readonly boolean[];
  readonly attrs: Attrs;
  readonly adapter: AdapterProfile;
}

/** One application of an op in a graph. */
export interface GraphNode {
  readonly op: Op<unknown>;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly attrs: unknown;
}

/** What a vector-Jacobian product sees of the graph it extends (`Graph` in graph.ts, where the methods are described). */
export interface Trace {
  readonly nodes: readonly GraphNode[];
  apply<Attrs>(op: Op<Attrs>, inputs: readonly Tensor[], attrs: Attrs): readonly Tensor[];
  apply1<Attrs>(op: Op<Attrs>, inputs: readonly Tensor[], attrs: Attrs): Tensor;
  reshape(tensor: Tensor, shape: Shape): Tensor;
}

export interface VjpArgs<Attrs> {
  readonly graph: Trace;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /** One per output; null where nothing flows back. */
  readonly cotangents: readonly (Tensor | null)[];
  readonly attrs: Attrs;
  /** needs[i]: whether the gradient of input i is wanted; return null for the others. */
  readonly needs: readonly boolean[];
  /** sums[i]: with `addsSum[i]`, what has flowed back to input i so far, for the op to add to its gradient; else null. */
  readonly sums: readonly (Tensor | null)[];
}

export interface Op<Attrs> {
  readonly name: string;
  /** Shapes of the outputs; throws `EngineError` naming the op and the shapes when they don't fit. */
  infer(inputs: readonly TensorSpec[], attrs: Attrs): readonly TensorSpec[];
  /** The meaning of the op, in f64. Accumulation is done by the interpreter, not here. */
  reference(
    inputs: readonly ReferenceArray[],
    attrs: Attrs,
    specs: { readonly inputs: readonly TensorSpec[]; readonly outputs: readonly TensorSpec[] },
  ): readonly ReferenceArray[];
  /** Gradients by input. Absent for ops that are only used backward. */
  vjp?(args: VjpArgs<Attrs>): readonly (Tensor | null)[];
  lower(args: LowerArgs<Attrs>): Lowering;
  /** addsSum[i]: the `vjp` adds `sums[i]` to the gradient of input i where one is given, at less cost than an op of its own. */
  readonly addsSum?: readonly boolean[];
  /** accumulates[i]: `lower` honours `accumulate[i]`. Needed of every op whose output can be a parameter's gradient. */
  readonly accumulates?: readonly boolean[];
  /** inPlace[i] = j: output i may overwrite input j when nobody reads j afterwards. */
  readonly inPlace?: readonly (number | null)[];
  /** overwrites[i] = j: output i is input j with some of its elements replaced, in place: j must be a state of the graph (`Graph.state`). */
  readonly overwrites?: readonly (number | null)[];
}
