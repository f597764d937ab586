/**
 * Matrix products in the three forms a linear layer and its gradients need:
 *   NT  y[.., N]  = x[.., K] · w[N, K]ᵀ (+ residual)   the layer; weights are [out, in], as Hugging Face stores them
 *   NN  dx[.., K] = dy[.., N] · w[N, K] (+ residual)    gradient of its input
 *   TN  dw[N, K]  = dy[.., N]ᵀ · x[.., K]               gradient of its weight
 * Leading dimensions count as rows. Every operand may be f32 or f16, whatever the others are; sums are f32. How a product
 * becomes dispatches is in `matmul-lowering.ts`.
 */
import { EngineError, invariant } from '../errors.ts';
import { elementCount, floatType, isFloat, sameShape } from '../graph.ts';
import type { Graph } from '../graph.ts';
import type { FloatType, Op, ReferenceArray, Tensor, TensorSpec } from '../op.ts';
import type { MatmulForm } from './matmul-lowering.ts';
import { lowerWeightMatmul } from './matmul-ranges.ts';

interface MatmulAttrs {
  /** Of the result. Default: the residual's, else the first input's; f32 for TN, whose results are weights' gradients. */
  readonly dtype?: FloatType;
}

interface Extents {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly shape: readonly number[];
}

function lastExtent(spec: TensorSpec): number {
  return spec.shape.at(-1) ?? 1;
}

/** [rows, columns] of a tensor whose leading dimensions count as rows. */
export function flattened(spec: TensorSpec): readonly [rows: number, columns: number] {
  const columns = lastExtent(spec);
  return [columns === 0 ? 0 : elementCount(spec.shape) / columns, columns];
}

function extents(form: MatmulForm, inputs: readonly TensorSpec[]): Extents {
  const [a, b, residual] = inputs;
  const describe = (): string =>
    `matmul ${form} of ${inputs.map((spec) => `${spec.dtype}[${spec.shape.join(', ')}]`).join(', ')} does not fit`;
  if (!a || !b || inputs.length > (form === 'TN' ? 2 : 3)) throw new EngineError(describe());
  invariant(
    inputs.every((spec) => isFloat(spec) && spec.shape.length > 0 && elementCount(spec.shape) > 0),
    describe,
  );
  const [rowsA, columnsA] = flattened(a);
  const [rowsB, columnsB] = flattened(b);
  if (form === 'TN') {
    invariant(rowsA === rowsB, describe);
    return { m: columnsA, n: columnsB, k: rowsA, shape: [columnsA, columnsB] };
  }
  invariant(b.shape.length === 2, describe);
  const n = form === 'NT' ? rowsB : columnsB;
  invariant(columnsA === (form === 'NT' ? columnsB : rowsB), describe);
  const shape = [...a.shape.slice(0, -1), n];
  invariant(!residual || sameShape(residual.shape, shape), describe);
  return { m: rowsA, n, k: columnsA, shape };
}

function resultType(form: MatmulForm, inputs: readonly TensorSpec[], { dtype }: MatmulAttrs): FloatType {
  const [a, , residual] = inputs;
  invariant(a !== undefined, () => 'matmul needs two inputs');
  invariant(
    !residual || dtype === undefined || dtype === residual.dtype,
    () => `matmul ${form} gives ${dtype ?? ''} and can't add a residual of ${residual?.dtype ?? ''}`,
  );
  return dtype ?? (form === 'TN' ? 'f32' : floatType(residual ?? a));
}

function reference(form: MatmulForm, inputs: readonly ReferenceArray[], size: Extents): ReferenceArray {
  const [a, b, residual] = inputs;
  invariant(a !== undefined && b !== undefined, () => 'matmul needs two inputs');
  const { m, n, k } = size;
  const [stepM, stepA] = form === 'TN' ? [1, m] : [k, 1];
  const [stepN, stepB] = form === 'NT' ? [k, 1] : [1, n];
  const c = new Float64Array(m * n);
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      let sum = residual?.[row * n + column] ?? 0;
      for (let depth = 0; depth < k; depth++) {
        sum += (a[row * stepM + depth * stepA] ?? 0) * (b[column * stepN + depth * stepB] ?? 0);
      }
      c[row * n + column] = sum;
    }
  }
  return c;
}

function matmulOp(form: MatmulForm): Op<MatmulAttrs> {
  return {
    name: `matmul${form}`,
    accumulates: [true],
    infer: (inputs, attrs) => [{ shape: extents(form, inputs).shape, dtype: resultType(form, inputs, attrs) }],
    reference: (inputs, _attrs, specs) => [reference(form, inputs, extents(form, specs.inputs))],
    lower({ inputs, outputs, accumulate, adapter }) {
      const { m, n, k } = extents(form, inputs);
      const [a, b] = inputs;
      const [c] = outputs;
      invariant(a !== undefined && b !== undefined && c !== undefined, () => 'matmul has two inputs and a result');
      return lowerWeightMatmul(
        {
          form,
          m,
          n,
          k,
          a: { ref: { kind: 'input', index: 0 }, dtype: floatType(a), rowElements: form === 'TN' ? m : k },
          b: { ref: { kind: 'input', index: 1 }, dtype: floatType(b), rowElements: form === 'NT' ? k : n },
          c: { ref: { kind: 'output', index: 0 }, dtype: floatType(c), rowElements: n },
          ...(inputs.length === 3 && { residual: { kind: 'input', index: 2 } }),
          accumulate: accumulate[0] === true,
        },
        adapter,
      );
    },
  };
}

/** The sum with the residual may take the residual's place: each element is read by whoever writes it. */
const overResidual = { inPlace: [2] } as const;

export const matmulNN: Op<MatmulAttrs> = { ...matmulOp('NN'), ...overResidual };
export const matmulTN: Op<MatmulAttrs> = matmulOp('TN');
export const matmulNT: Op<MatmulAttrs> = {
  ...matmulOp('NT'),
  ...overResidual,
  addsSum: [true],
  vjp({ graph, inputs, cotangents, needs, sums: [sum] }) {
    const [x, weight] = inputs;
    const [dy] = cotangents;
    invariant(x !== undefined && weight !== undefined, () => 'matmulNT has two or three inputs');
    if (!dy) return inputs.map(() => null);
    return [
      needs[0] ? graph.apply1(matmulNN, sum ? [dy, weight, sum] : [dy, weight], { dtype: floatType(x) }) : null,
      needs[1] ? graph.apply1(matmulTN, [dy, x], {}) : null,
      ...(inputs.length === 3 ? [needs[2] ? dy : null] : []),
    ];
  },
};

/**
 * A linear layer without bias: y[.., N] = x[.., K] · weight[N, K]ᵀ, plus `residual` [.., N] where one is given (added
 * in the same kernel). The result has the type of the residual, or else of x, unless `dtype` asks for another. Throws
 * `EngineError` when shapes or types don't fit.
 */
export function linear(graph: Graph, x: Tensor, weight: Tensor, residual?: Tensor, dtype?: FloatType): Tensor {
  return graph.apply1(matmulNT, residual ? [x, weight, residual] : [x, weight], dtype === undefined ? {} : { dtype });
}
