/**
 * The plainest ops: sum of two tensors, copy, and a tensor of one constant. The autodiff needs all three: cotangents
 * with several consumers are added, gradients whose op can't accumulate are copied, and the loss is seeded with one.
 */
import addShader from '../../../shaders/add.wgsl?raw';
import copyShader from '../../../shaders/copy.wgsl?raw';
import fillShader from '../../../shaders/fill.wgsl?raw';
import { invariant } from '../errors.ts';
import { elementCount, floatType, isFloat, sameShape } from '../graph.ts';
import type { Op, Shape, Tensor, Trace } from '../op.ts';
import { input, output } from './bindings.ts';
import { elementGrid } from './grid.ts';

const addOp: Op<null> = {
  name: 'add',
  infer([a, b]) {
    invariant(
      a !== undefined && isFloat(a) && b?.dtype === a.dtype && sameShape(a.shape, b.shape),
      () => `add: ${a?.dtype ?? ''}[${a?.shape.join() ?? ''}] and ${b?.dtype ?? ''}[${b?.shape.join() ?? ''}]`,
    );
    return [{ shape: a.shape, dtype: a.dtype }];
  },
  reference([a = empty, b = empty]) {
    return [a.map((value, i) => value + (b[i] ?? 0))];
  },
  vjp({ cotangents: [cotangent = null], needs }) {
    return needs.map((isNeeded) => (isNeeded ? cotangent : null));
  },
  lower({ outputs: [sum], adapter }) {
    const grid = elementGrid(elementCount(sum?.shape ?? []), adapter);
    const { workgroups } = grid;
    const constants = { ...grid.constants, TYPE: floatType(sum) };
    const bindings = [input(0), input(1), output(0)];
    return { dispatches: [{ label: 'add', shader: addShader, entryPoint: 'add', constants, bindings, workgroups }] };
  },
  inPlace: [0],
};

const copyOp: Op<null> = {
  name: 'copy',
  infer([a]) {
    invariant(a?.dtype === 'f32', () => 'copy takes one f32 tensor');
    return [{ shape: a.shape, dtype: 'f32' }];
  },
  reference([a = empty]) {
    return [a.slice()];
  },
  vjp({ cotangents: [cotangent = null] }) {
    return [cotangent];
  },
  lower({ outputs: [result], accumulate, adapter }) {
    const grid = elementGrid(elementCount(result?.shape ?? []), adapter);
    const constants = { ...grid.constants, ACCUMULATE: accumulate[0] === true };
    const bindings = [input(0), output(0)];
    const { workgroups } = grid;
    return { dispatches: [{ label: 'copy', shader: copyShader, entryPoint: 'copy', constants, bindings, workgroups }] };
  },
  accumulates: [true],
};

interface FillAttrs {
  readonly shape: Shape;
  readonly value: number;
}

const fillOp: Op<FillAttrs> = {
  name: 'fill',
  infer: (_inputs, { shape }) => [{ shape, dtype: 'f32' }],
  reference: (_inputs, { shape, value }) => [new Float64Array(elementCount(shape)).fill(value)],
  lower({ attrs, adapter }) {
    const grid = elementGrid(elementCount(attrs.shape), adapter);
    const constants = { ...grid.constants, VALUE_F: attrs.value };
    const bindings = [output(0)];
    const { workgroups } = grid;
    return { dispatches: [{ label: 'fill', shader: fillShader, entryPoint: 'fill', constants, bindings, workgroups }] };
  },
};

const empty = new Float64Array(0);

/** a + b, of one shape. */
export function add(graph: Trace, a: Tensor, b: Tensor): Tensor {
  return graph.apply1(addOp, [a, b], null);
}

/** The same values in memory of their own; as a gradient or total they are added to what is there. */
export function copy(graph: Trace, a: Tensor): Tensor {
  return graph.apply1(copyOp, [a], null);
}

/** A tensor of one constant. */
export function fill(graph: Trace, shape: Shape, value: number): Tensor {
  return graph.apply1(fillOp, [], { shape, value });
}

/** Whether a cotangent is the seed of the loss itself: nothing scaled the loss on its way to the end. */
export function isUnitSeed(graph: Trace, tensor: Tensor): boolean {
  const producer = graph.nodes.find(({ outputs }) => outputs.some(({ id }) => id === tensor.id));
  return producer?.op.name === fillOp.name && (producer.attrs as FillAttrs).value === 1;
}
