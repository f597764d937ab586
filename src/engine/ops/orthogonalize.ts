/**
 * A matrix's nearest one with orthonormal rows or columns, whichever are fewer, by five Newton–Schulz iterations of degree five: every singular
 * value comes to between 0.7 and 1.2, which is near enough for an optimizer (K. Jordan et al., Muon, 2024, whose coefficients these are).
 * Forward only; what it is good for is the optimizer's affair.
 */
import shader from '../../../shaders/orthogonalize.wgsl?raw';
import { elementsPerGroup } from '../flat-ranges.ts';
import { invariant } from '../errors.ts';
import { elementCount, sameShape } from '../graph.ts';
import type { Graph } from '../graph.ts';
import type { Op, Tensor } from '../op.ts';
import { input, output, scratch } from './bindings.ts';
import { copy } from './elementwise.ts';
import { elementGrid, foldedGrid } from './grid.ts';
import { matmulNN, matmulNT, matmulTN } from './matmul.ts';

const iterations = 5;
const [a, b, c] = [3.4445, -4.775, 2.0315] as const;
const smallestNorm = 1e-12;

/** u / ‖u‖, the root of the sum of squares; zero stays zero. */
const unitNormOp: Op<null> = {
  name: 'unitNorm',
  infer([u]) {
    invariant(u?.dtype === 'f32' && u.shape.length === 2, () => `unitNorm takes an f32 matrix, not ${u?.dtype ?? ''}[${u?.shape.join() ?? ''}]`);
    return [{ shape: u.shape, dtype: 'f32' }];
  },
  reference([u = empty]) {
    const norm = Math.sqrt(u.reduce((sum, value) => sum + value * value, 0));
    return [u.map((value) => value / Math.max(norm, smallestNorm))];
  },
  lower({ inputs: [u], adapter }) {
    const count = elementCount(u?.shape ?? []);
    const parts = Math.ceil(count / elementsPerGroup);
    const { workgroups, constants: grid } = foldedGrid(parts, adapter);
    const constants = { ...grid, COUNT: count, PARTS: parts };
    return {
      dispatches: [
        { label: 'norm of a matrix', shader, entryPoint: 'squares', constants, bindings: [input(0), scratch(0)], workgroups },
        { label: 'matrix of norm 1', shader, entryPoint: 'normalize', constants, bindings: [input(0), scratch(0), output(0)], workgroups },
      ],
      scratchElements: [parts],
    };
  },
};

interface Polynomial {
  readonly a: number;
  readonly b: number;
  readonly c: number;
}

/** (gram, gram²) → a·I + b·gram + c·gram². */
const polynomialOp: Op<Polynomial> = {
  name: 'gramPolynomial',
  infer([gram, squared]) {
    invariant(
      gram !== undefined && squared !== undefined && sameShape(gram.shape, squared.shape) && gram.shape[0] === gram.shape[1],
      () => `gramPolynomial: [${gram?.shape.join() ?? ''}] and [${squared?.shape.join() ?? ''}]`,
    );
    return [{ shape: gram.shape, dtype: 'f32' }];
  },
  reference([gram = empty, squared = empty], of, { inputs: [spec] }) {
    const side = spec?.shape[0] ?? 1;
    return [gram.map((value, i) => (Math.floor(i / side) === i % side ? of.a : 0) + of.b * value + of.c * (squared[i] ?? 0))];
  },
  lower({ inputs: [gram], attrs, adapter }) {
    const grid = elementGrid(elementCount(gram?.shape ?? []), adapter);
    const { workgroups } = grid;
    const constants = { ...grid.constants, SIDE: gram?.shape[0] ?? 1, COEFFICIENT_A_F: attrs.a, COEFFICIENT_B_F: attrs.b, COEFFICIENT_C_F: attrs.c };
    return { dispatches: [{ label: 'gram polynomial', shader, entryPoint: 'polynomial', constants, bindings: [input(0), input(1), output(0)], workgroups }] };
  },
  inPlace: [0],
};

const empty = new Float64Array(0);

/** [n, k] → [n, k], times `scale`. */
export function orthogonalize(graph: Graph, matrix: Tensor, scale: number): Tensor {
  const [rows = 1, columns = 1] = matrix.shape;
  const isWide = rows <= columns;
  let x = graph.apply1(unitNormOp, [matrix], null);
  for (let iteration = 1; iteration <= iterations; iteration++) {
    // The last one is linear in its coefficients.
    const by = iteration === iterations ? scale : 1;
    // A kernel can't bind one range as two operands of other types, hence the copies.
    const gram = graph.apply1(isWide ? matmulNT : matmulTN, [x, copy(graph, x)], {});
    const squared = graph.apply1(matmulNN, [gram, copy(graph, gram)], {});
    const factor = graph.apply1(polynomialOp, [gram, squared], { a: by * a, b: by * b, c: by * c });
    x = graph.apply1(matmulNN, isWide ? [factor, x] : [x, factor], {});
  }
  return x;
}
