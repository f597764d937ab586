import { describe, expect, test } from 'vitest';
import { Graph, interpret, valueAndGrad } from '../../src/engine/index.ts';
import type { Tensor } from '../../src/engine/index.ts';
import type { Op } from '../../src/engine/op.ts';
import { add, copy, isUnitSeed } from '../../src/engine/ops/elementwise.ts';
import { linearCrossEntropy } from '../../src/engine/ops/linear-cross-entropy.ts';
import { linear } from '../../src/engine/ops/matmul.ts';
import { liveNodes } from '../../src/engine/planner.ts';

/** A loss that computes its gradient with its value, as the fused cross-entropy does: half the sum of squares. */
const halfSquaresOp: Op<null> = {
  name: 'halfSquares',
  infer: ([x]) => [{ shape: [1], dtype: 'f32' }, x ?? { shape: [1], dtype: 'f32' }],
  reference: ([x = new Float64Array()]) => [Float64Array.of(x.reduce((sum, v) => sum + (v * v) / 2, 0)), x.slice()],
  vjp: ({ outputs: [, gradient], cotangents: [seed], graph }) => {
    expect(seed && isUnitSeed(graph, seed)).toBe(true);
    return [gradient ?? null];
  },
  lower: () => ({ dispatches: [] }),
  accumulates: [true, true],
};

function halfSquares(graph: Graph, x: Tensor): Tensor {
  return graph.apply(halfSquaresOp, [x], null)[0] as Tensor;
}

const run = (graph: Graph, p: number[]) =>
  interpret(graph, { parameters: new Map([['p', Float64Array.from(p)]]), inputs: new Map() });

describe('valueAndGrad', () => {
  test('takes no node for the seed when the loss does not read its cotangent', () => {
    const graph = new Graph({ differentiates: true });
    valueAndGrad(graph, halfSquares(graph, graph.parameter('p', [3])), 'loss');
    expect(liveNodes(graph, new Set()).map(({ op }) => op.name)).toEqual(['halfSquares']);
    const { gradients, totals } = run(graph, [1, 2, 3]);
    expect(totals.get('loss')).toBe(7);
    expect(gradients.get('p')).toEqual(Float64Array.of(1, 2, 3));
  });

  test('refuses a cross-entropy that is not the loss itself, since its gradients are made with its value', () => {
    const graph = new Graph({ differentiates: true });
    const input = (name: string, dtype: 'f32' | 'u32'): Tensor => graph.input(name, [2], dtype);
    const hidden = graph.parameter('hidden', [2, 4]);
    const loss = linearCrossEntropy(graph, hidden, graph.parameter('head', [3, 4]), input('targets', 'u32'), input('weights', 'f32'));
    expect(() => valueAndGrad(graph, halfSquares(graph, loss), 'loss')).toThrow('linearCrossEntropy must be the loss itself');
  });

  test('accumulates every contribution to a parameter by itself, never their sum', () => {
    const graph = new Graph({ differentiates: true });
    const p = graph.parameter('p', [2]);
    valueAndGrad(graph, halfSquares(graph, add(graph, p, copy(graph, p))), 'loss');
    const targets = [...graph.accumulations.values()].filter(({ kind }) => kind === 'gradient');
    expect(targets).toEqual([
      { kind: 'gradient', name: 'p' },
      { kind: 'gradient', name: 'p' },
    ]);
    expect(liveNodes(graph, new Set()).filter(({ op }) => op.name === 'add')).toHaveLength(1);
    expect(run(graph, [1, 2]).gradients.get('p')).toEqual(Float64Array.of(4, 8));
  });

  test('gives two parameters the same gradient without one reading the running sum of the other', () => {
    const graph = new Graph({ differentiates: true });
    const sum = add(graph, copy(graph, graph.parameter('p', [2])), graph.parameter('q', [2]));
    valueAndGrad(graph, halfSquares(graph, sum), 'loss');
    const accumulated = new Set(graph.accumulations.keys());
    const read = graph.nodes.flatMap(({ inputs }) => inputs).filter(({ id }) => accumulated.has(id));
    expect(read).toEqual([]);
    expect(accumulated.size).toBe(3);
  });

  test('sums the cotangents of a value with several consumers, seen through other shapes too', () => {
    const graph = new Graph({ differentiates: true });
    const p = copy(graph, graph.parameter('p', [2, 3]));
    const flat = graph.reshape(p, [6]);
    const both = add(graph, add(graph, flat, flat), graph.reshape(copy(graph, p), [6]));
    valueAndGrad(graph, halfSquares(graph, both), 'loss');
    expect(run(graph, [1, 0, 0, 0, 0, 2]).gradients.get('p')).toEqual(Float64Array.of(9, 0, 0, 0, 0, 18));
  });

  test('lets an op add what flowed back before, where it can, once', () => {
    const backwardOps = (build: (graph: Graph, x: Tensor, w: Tensor) => Tensor): string[] => {
      const graph = new Graph({ differentiates: true });
      const x = copy(graph, graph.parameter('x', [2, 2]));
      const loss = halfSquares(graph, build(graph, x, graph.parameter('w', [2, 2])));
      const forward = graph.nodes.length;
      valueAndGrad(graph, loss, 'loss');
      const values = { x: Float64Array.of(1, -2, 3, 4), w: Float64Array.of(2, 1, -1, 3) };
      const { gradients } = interpret(graph, { parameters: new Map(Object.entries(values)), inputs: new Map() });
      results.push([...(gradients.get('x') ?? [])]);
      return graph.nodes.slice(forward).map(({ op, inputs }) => `${op.name}/${inputs.length}`);
    };
    const results: number[][] = [];
    expect(backwardOps((graph, x, w) => add(graph, linear(graph, x, w), x))).toContain('matmulNN/3');
    // y = x wᵀ + x = [[1, −9], [13, 13]], dx = y w + y.
    expect(results).toEqual([[12, -35, 26, 65]]);
    expect(backwardOps((graph, x, w) => add(graph, linear(graph, x, w), linear(graph, x, w))).filter((op) => op === 'add/2')).toEqual([]);
    expect(backwardOps((graph, x) => linear(graph, x, x)).filter((op) => op.startsWith('matmulNN'))).toEqual(['matmulNN/2']);
  });

  test('of a loss that depends on no parameter accumulates the loss alone', () => {
    const graph = new Graph({ differentiates: true });
    valueAndGrad(graph, halfSquares(graph, graph.input('x', [1], 'f32')), 'loss');
    expect([...graph.accumulations.values()]).toEqual([{ kind: 'total', name: 'loss' }]);
  });

  test('is refused for a graph traced without gradients and for a loss that is no number', () => {
    const plain = new Graph({ differentiates: false });
    expect(() => valueAndGrad(plain, plain.parameter('p', [1]), 'loss')).toThrow(/without gradients/);
    const graph = new Graph({ differentiates: true });
    expect(() => valueAndGrad(graph, graph.parameter('p', [2]), 'loss')).toThrow(/not one number/);
  });
});

describe('the interpreter', () => {
  test('names what it is not given', () => {
    const graph = new Graph({ differentiates: false });
    copy(graph, graph.parameter('p', [2]));
    expect(() => interpret(graph, { parameters: new Map(), inputs: new Map() })).toThrow(/parameter p \[2\] is given 0 values/);
  });
});
