/** SwiGLU (Shazeer, 2020): the sigmoid-weighted gate times the up projection, and both gradients in one pass. */
import shader from '../../../shaders/swiglu.wgsl?raw';
import { invariant } from '../errors.ts';
import { elementCount, floatType, isFloat, sameShape } from '../graph.ts';
import type { Graph } from '../graph.ts';
import type { Op, Tensor } from '../op.ts';
import { input, output } from './bindings.ts';
import { elementGrid } from './grid.ts';

const swigluOp: Op<null> = {
  name: 'swiglu',
  infer([gate, up]) {
    invariant(
      gate !== undefined && isFloat(gate) && up?.dtype === gate.dtype && sameShape(gate.shape, up.shape),
      () => `swiglu: gate [${gate?.shape.join() ?? ''}], up [${up?.shape.join() ?? ''}]`,
    );
    return [{ shape: gate.shape, dtype: gate.dtype }];
  },
  reference([gate = empty, up = empty]) {
    return [gate.map((g, i) => g * sigmoid(g) * (up[i] ?? 0))];
  },
  vjp({ graph, inputs: [gate, up], cotangents: [dy], needs: [needsGate, needsUp] }) {
    if (!gate || !up || !dy) return [null, null];
    const [dgate = null, dup = null] = graph.apply(swigluGradientOp, [gate, up, dy], null);
    return [needsGate === true ? dgate : null, needsUp === true ? dup : null];
  },
  lower({ inputs: [gate], adapter }) {
    const grid = elementGrid(elementCount(gate?.shape ?? []), adapter);
    const { workgroups } = grid;
    const constants = { ...grid.constants, TYPE: floatType(gate) };
    const bindings = [input(0), input(1), output(0)];
    return { dispatches: [{ label: 'swiglu', shader, entryPoint: 'forward', constants, bindings, workgroups }] };
  },
  inPlace: [0],
};

/** (gate, up, dy) → dgate, dup. */
const swigluGradientOp: Op<null> = {
  name: 'swigluGradient',
  infer([gate, up, dy]) {
    invariant(
      gate !== undefined && up !== undefined && dy?.dtype === gate.dtype && sameShape(gate.shape, dy.shape),
      () => `swigluGradient: gate [${gate?.shape.join() ?? ''}], dy [${dy?.shape.join() ?? ''}]`,
    );
    return [
      { shape: gate.shape, dtype: gate.dtype },
      { shape: up.shape, dtype: up.dtype },
    ];
  },
  reference([gate = empty, up = empty, dy = empty]) {
    const dgate = gate.map((g, i) => {
      const s = sigmoid(g);
      return (dy[i] ?? 0) * (up[i] ?? 0) * s * (1 + g * (1 - s));
    });
    return [dgate, gate.map((g, i) => (dy[i] ?? 0) * g * sigmoid(g))];
  },
  lower({ inputs: [gate], adapter }) {
    const grid = elementGrid(elementCount(gate?.shape ?? []), adapter);
    const { workgroups } = grid;
    const constants = { ...grid.constants, TYPE: floatType(gate) };
    const bindings = [input(0), input(1), input(2), output(0), output(1)];
    return { dispatches: [{ label: 'swiglu gradient', shader, entryPoint: 'backward', constants, bindings, workgroups }] };
  },
  inPlace: [0, 1],
};

const empty = new Float64Array(0);

function sigmoid(value: number): number {
  return 1 / (1 + Math.exp(-value));
}

/** silu(gate) · up, element by element; shapes are equal. */
export function swiglu(graph: Graph, gate: Tensor, up: Tensor): Tensor {
  return graph.apply1(swigluOp, [gate, up], null);
}
