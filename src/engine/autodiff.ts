/**
 * Reverse-mode differentiation of a traced graph: appends the backward nodes that the ops' vector-Jacobian products ask
 * for, blind to what model it is. Gradients of parameters are never added up in the arena: each contribution goes
 * straight to the parameter's persistent sum, in the fixed order of the trace.
 */
import { EngineError, invariant } from './errors.ts';
import { elementCount, isFloat } from './graph.ts';
import type { AccumulationTarget, Graph, GraphSegment } from './graph.ts';
import type { Tensor } from './op.ts';
import { add, copy, fill } from './ops/elementwise.ts';

/**
 * Extends the graph so that a run adds the loss to the total `totalName`, and its gradient with respect to every
 * parameter it depends on to that parameter's gradient. `loss` is a single f32. The cotangent it starts from is one,
 * and takes no dispatch when the op that computes the loss has no use for it. Frozen parameters get no gradient, and what lies
 * below the lowest that is not frozen has no backward pass.
 */
export function valueAndGrad(graph: Graph, loss: Tensor, totalName: string, frozen: ReadonlySet<string> = new Set()): void {
  invariant(graph.differentiates, () => 'valueAndGrad of a graph that was traced without gradients');
  invariant(elementCount(loss.shape) === 1, () => `the loss is [${loss.shape.join()}], not one number`);
  const forward = [...graph.nodes];
  const trained = [...graph.parameters].filter(([name]) => !frozen.has(name));
  const dependsOnParameters = new Set(trained.map(([, { id }]) => id));
  for (const { inputs, outputs } of forward) {
    if (!inputs.some(({ id }) => dependsOnParameters.has(id))) continue;
    for (const output of outputs) if (isFloat(output)) dependsOnParameters.add(output.id);
  }
  const parameterNames = new Map(trained.map(([name, { id }]) => [id, name]));
  const cotangents = new Map<number, Tensor>();
  const contributions: { readonly tensor: Tensor; readonly target: AccumulationTarget }[] = [
    { tensor: loss, target: { kind: 'total', name: totalName } },
  ];

  /** `isWhole`: the cotangent includes what flowed to the input before. */
  const flowTo = (input: Tensor, cotangent: Tensor, isWhole = false): void => {
    invariant(
      elementCount(input.shape) === elementCount(cotangent.shape),
      () => `the gradient of ${input.name} is [${cotangent.shape.join()}], not [${input.shape.join()}]`,
    );
    const name = parameterNames.get(input.id);
    if (name !== undefined) {
      contributions.push({ tensor: cotangent, target: { kind: 'gradient', name } });
      return;
    }
    const sum = cotangents.get(input.id);
    cotangents.set(input.id, sum && !isWhole ? add(graph, sum, graph.reshape(cotangent, sum.shape)) : cotangent);
  };

  // By tensor id: values of segments that were computed again, under which name the backward pass reads them.
  const again = new Map<number, Tensor>();
  const kept = (tensor: Tensor): Tensor => {
    const copied = again.get(tensor.id);
    return copied ? graph.reshape(copied, tensor.shape) : tensor;
  };
  const computeAgain = ({ start, end }: GraphSegment): void => {
    for (const { op, inputs, outputs, attrs } of forward.slice(start, end)) {
      const copies = graph.apply(op, inputs.map(kept), attrs);
      for (const [index, { id }] of outputs.entries()) {
        const copied = copies[index];
        if (copied) again.set(id, copied);
      }
    }
  };

  if (dependsOnParameters.has(loss.id)) flowTo(loss, fill(graph, loss.shape, 1));
  for (const [position, { op, inputs, outputs, attrs }] of [...forward.entries()].reverse()) {
    const segment = graph.segments.find(({ end }) => end === position + 1);
    if (segment) computeAgain(segment);
    const arriving = outputs.map(({ id, shape }) => {
      const cotangent = cotangents.get(id);
      return cotangent ? graph.reshape(cotangent, shape) : null;
    });
    const needs = inputs.map((input) => isFloat(input) && dependsOnParameters.has(input.id));
    if (!arriving.some(Boolean) || !needs.some(Boolean)) continue;
    if (!op.vjp) throw new EngineError(`${op.name} has no vector-Jacobian product`);
    const sums = inputs.map(({ id, shape }, index) => {
      const sum = cotangents.get(id);
      // An op that reads a tensor twice has two gradients for it; only one may include the sum.
      const isFirst = inputs.findIndex((other) => other.id === id) === index;
      return sum && isFirst && needs[index] === true && op.addsSum?.[index] === true ? graph.reshape(sum, shape) : null;
    });
    const gradients = op.vjp({
      graph,
      inputs: inputs.map(kept),
      outputs: outputs.map(kept),
      cotangents: arriving,
      attrs,
      needs,
      sums,
    });
    inputs.forEach((input, index) => {
      const gradient = gradients[index];
      if (gradient && needs[index] === true) flowTo(input, gradient, sums[index] !== null);
    });
  }
  registerContributions(graph, contributions);
}

/**
 * Accumulates each tensor where it is computed, if its op can and it is needed for nothing else; otherwise by a copy at
 * the end. A tensor that is accumulated has no value of its own left: its region holds the sum over all runs.
 */
function registerContributions(
  graph: Graph,
  contributions: readonly { readonly tensor: Tensor; readonly target: AccumulationTarget }[],
): void {
  const uses = new Map<number, number>();
  for (const { id } of [...graph.nodes.flatMap(({ inputs }) => inputs), ...contributions.map(({ tensor }) => tensor)]) {
    uses.set(id, (uses.get(id) ?? 0) + 1);
  }
  const accumulable = new Set(
    graph.nodes.flatMap(({ op, outputs }) => outputs.filter((_, index) => op.accumulates?.[index] === true)).map(({ id }) => id),
  );
  for (const { tensor, target } of contributions) {
    const isDirect = accumulable.has(tensor.id) && uses.get(tensor.id) === 1;
    graph.accumulate(isDirect ? tensor : copy(graph, tensor), target);
  }
}
