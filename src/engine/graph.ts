/**
 * The traced graph: parameters, inputs and op applications in the order they were traced.
 * It is data for the autodiff, the interpreter and the planner, and computes nothing itself.
 */
import { EngineError, invariant } from './errors.ts';
import type { DType, FloatType, GraphNode, Op, Shape, Tensor, TensorSpec, Trace } from './op.ts';

export type { GraphNode } from './op.ts';

/** Where the value of an output is added instead of being stored: a parameter's gradient or a running total. */
export interface AccumulationTarget {
  readonly kind: 'gradient' | 'total';
  readonly name: string;
}

/** Host values that every run reads and no run writes, such as a table of angles. */
export interface GraphConstant {
  readonly tensor: Tensor;
  readonly values: Float64Array;
}

/** Nodes from `start` up to but not including `end`. */
export interface GraphSegment {
  readonly start: number;
  readonly end: number;
}

export function elementCount(shape: Shape): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** 4-byte words that so many elements take; an odd number of f16 leaves half of the last one unused. */
export function wordsFor(elements: number, dtype: DType): number {
  return dtype === 'f16' ? Math.ceil(elements / 2) : elements;
}

export function wordCount({ shape, dtype }: TensorSpec): number {
  return wordsFor(elementCount(shape), dtype);
}

export function isFloat({ dtype }: TensorSpec): boolean {
  return dtype !== 'u32';
}

/** The type that a float tensor's elements are stored as. */
export function floatType(spec: TensorSpec | undefined): FloatType {
  invariant(spec !== undefined && spec.dtype !== 'u32', () => `${spec?.dtype ?? 'nothing'} is no float type`);
  return spec.dtype;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((extent, axis) => extent === b[axis]);
}

export class Graph implements Trace {
  readonly nodes: GraphNode[] = [];
  readonly parameters = new Map<string, Tensor>();
  readonly inputs = new Map<string, Tensor>();
  readonly constants = new Map<string, GraphConstant>();
  readonly states = new Map<string, Tensor>();
  /** By tensor id: values of a state, as it comes and as ops have left it, which all lie in its memory. */
  readonly stateOf = new Map<number, string>();
  /** By tensor id: outputs that are accumulated into a persistent region instead of the arena. */
  readonly accumulations = new Map<number, AccumulationTarget>();
  /** Whether ops should prepare gradients while they compute values (see `linearCrossEntropy`). */
  readonly differentiates: boolean;
  /** Ranges of nodes that the backward pass computes again instead of keeping their values; see `recomputed`. */
  readonly segments: GraphSegment[] = [];
  readonly #overwritten = new Set<number>();
  #nextId = 0;

  constructor(options: { readonly differentiates: boolean }) {
    this.differentiates = options.differentiates;
  }

  parameter(name: string, shape: Shape): Tensor {
    const known = this.parameters.get(name);
    if (known) {
      invariant(sameShape(known.shape, shape), () => `parameter ${name} is [${known.shape}] and [${shape}]`);
      return known;
    }
    const tensor = this.#tensor(name, shape, 'f32');
    this.parameters.set(name, tensor);
    return tensor;
  }

  input(name: string, shape: Shape, dtype: DType): Tensor {
    if (this.inputs.has(name)) throw new EngineError(`input ${name} is declared twice`);
    const tensor = this.#tensor(name, shape, dtype);
    this.inputs.set(name, tensor);
    return tensor;
  }

  /**
   * An f32 tensor that outlives a run: a run finds it as the one before left it. Only ops that overwrite it in place change it,
   * and their output is what it is from then on.
   */
  state(name: string, shape: Shape): Tensor {
    invariant(!this.states.has(name), () => `state ${name} is declared twice`);
    const tensor = this.#tensor(name, shape, 'f32');
    this.states.set(name, tensor);
    this.stateOf.set(tensor.id, name);
    return tensor;
  }

  /** An f32 table known when the graph is traced. `build` is called once per key, so layers share their tables. */
  constant(key: string, shape: Shape, build: () => Float64Array): Tensor {
    const known = this.constants.get(key);
    if (known) return known.tensor;
    const values = build();
    invariant(values.length === elementCount(shape), () => `constant ${key} has ${values.length} values for [${shape}]`);
    const tensor = this.#tensor(key, shape, 'f32');
    this.constants.set(key, { tensor, values });
    return tensor;
  }

  apply<Attrs>(op: Op<Attrs>, inputs: readonly Tensor[], attrs: Attrs): readonly Tensor[] {
    for (const { id, name } of inputs) invariant(!this.#overwritten.has(id), () => `${op.name} reads ${name}, which was overwritten`);
    const specs = op.infer(inputs, attrs);
    const outputs = specs.map((spec, index) =>
      this.#tensor(`${op.name}${this.nodes.length}.${index}`, spec.shape, spec.dtype),
    );
    op.overwrites?.forEach((input, output) => {
      const [before, after] = [input === null ? undefined : inputs[input], outputs[output]];
      if (!before || !after) return;
      const state = this.stateOf.get(before.id);
      invariant(state !== undefined, () => `${op.name} overwrites ${before.name}, which is no state`);
      this.#overwritten.add(before.id);
      this.stateOf.set(after.id, state);
    });
    this.nodes.push({ op, inputs, outputs, attrs });
    return outputs;
  }

  /** The same value seen with another shape of as many elements. It is no node and takes no time or memory. */
  reshape(tensor: Tensor, shape: Shape): Tensor {
    invariant(
      elementCount(tensor.shape) === elementCount(shape),
      () => `${tensor.name} [${tensor.shape.join()}] can't be seen as [${shape.join()}]`,
    );
    return { ...tensor, shape };
  }

  /**
   * Activation checkpointing (Chen et al., 2016): of what `build` traces only its inputs are kept for the backward pass,
   * which computes the rest again, bit for bit. Segments neither nest nor overlap.
   */
  recomputed<T>(build: () => T): T {
    const start = this.nodes.length;
    const result = build();
    this.segments.push({ start, end: this.nodes.length });
    return result;
  }

  /** Applies an op that has one output. */
  apply1<Attrs>(op: Op<Attrs>, inputs: readonly Tensor[], attrs: Attrs): Tensor {
    const [output, ...rest] = this.apply(op, inputs, attrs);
    invariant(output !== undefined && rest.length === 0, () => `${op.name} has ${rest.length + 1} outputs, not one`);
    return output;
  }

  /** Adds the tensor's value to a persistent region at every run. Its op must be able to accumulate. */
  accumulate(tensor: Tensor, target: AccumulationTarget): void {
    this.accumulations.set(tensor.id, target);
  }

  #tensor(name: string, shape: Shape, dtype: DType): Tensor {
    return { id: this.#nextId++, name, shape, dtype };
  }
}
