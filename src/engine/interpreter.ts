/**
 * Runs a graph on the CPU in f64, by the ops' references: the oracle of the kernel tests, and the engine of simulated
 * rooms. It shares nothing with the GPU's path but the graph, and makes no attempt at speed beyond small models.
 */
import { EngineError, invariant } from './errors.ts';
import { elementCount } from './graph.ts';
import type { Graph } from './graph.ts';
import type { Tensor } from './op.ts';

export interface HostValues {
  readonly parameters: ReadonlyMap<string, Float64Array>;
  /** u32 inputs as exact integers. */
  readonly inputs: ReadonlyMap<string, Float64Array>;
  /** As the run finds them; what it leaves is the value of the tensor that the last op gave. Default: the graph has none. */
  readonly states?: ReadonlyMap<string, Float64Array>;
}

export interface Interpretation {
  /** The value of any tensor of the graph. */
  values(tensor: Tensor): Float64Array;
  /** Sums of this run alone, by parameter. */
  readonly gradients: Map<string, Float64Array>;
  readonly totals: Map<string, number>;
}

/** Throws `EngineError` when a parameter or input of the graph is missing or has another size. */
export function interpret(graph: Graph, host: HostValues): Interpretation {
  const values = new Map<number, Float64Array>();
  const bind = (kind: string, tensors: ReadonlyMap<string, Tensor>, given: ReadonlyMap<string, Float64Array>): void => {
    for (const [name, tensor] of tensors) {
      const value = given.get(name);
      invariant(
        value?.length === elementCount(tensor.shape),
        () => `${kind} ${name} [${tensor.shape.join()}] is given ${value?.length ?? 0} values`,
      );
      values.set(tensor.id, value);
    }
  };
  bind('parameter', graph.parameters, host.parameters);
  bind('input', graph.inputs, host.inputs);
  bind('state', graph.states, host.states ?? new Map());
  for (const { tensor, values: table } of graph.constants.values()) values.set(tensor.id, table);

  const valueOf = (tensor: Tensor): Float64Array => {
    const value = values.get(tensor.id);
    if (!value) throw new EngineError(`${tensor.name} is no value of this graph`);
    return value;
  };
  const gradients = new Map<string, Float64Array>();
  const totals = new Map<string, number>();
  for (const { op, inputs, outputs, attrs } of graph.nodes) {
    const results = op.reference(inputs.map(valueOf), attrs, { inputs, outputs });
    outputs.forEach((output, index) => {
      const result = results[index];
      invariant(
        result?.length === elementCount(output.shape),
        () => `the reference of ${op.name} gives output ${index} ${result?.length ?? 0} values for [${output.shape.join()}]`,
      );
      values.set(output.id, result);
      const target = graph.accumulations.get(output.id);
      if (target?.kind === 'gradient') gradients.set(target.name, summed(gradients.get(target.name), result));
      if (target?.kind === 'total') totals.set(target.name, (totals.get(target.name) ?? 0) + (result[0] ?? 0));
    });
  }
  return { values: valueOf, gradients, totals };
}

function summed(sum: Float64Array | undefined, term: Float64Array): Float64Array {
  return sum ? sum.map((value, index) => value + (term[index] ?? 0)) : term.slice();
}
