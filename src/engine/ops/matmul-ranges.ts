/**
 * Products whose weight is larger than one binding, as a product for each range of the weight's rows, and products that would
 * run for too long, in pieces. What a single product becomes is `matmul-lowering.ts`'s affair.
 */
import { wordsFor } from '../graph.ts';
import type { AdapterProfile, Lowering } from '../op.ts';
import { rowRanges, rowStep } from '../ranges.ts';
import type { RowRange } from '../ranges.ts';
import { lowerMatmul } from './matmul-lowering.ts';
import type { MatmulPlan, MatrixRef } from './matmul-lowering.ts';

/** The weight is b in NT and NN, and c in TN, whose rows are those of its gradient. */
export function lowerWeightMatmul(plan: MatmulPlan, adapter: AdapterProfile, scratchIndex = 0): Lowering {
  const weight = plan.form === 'TN' ? plan.c : plan.b;
  const rows = { NT: plan.n, NN: plan.k, TN: plan.m }[plan.form];
  const ranges = rowRanges(rows, weight.rowElements, adapter);
  const ofWeight = ranges.length === 1 ? [plan] : ranges.map((range, index) => ofRange(plan, range, index === 0));
  const lowerings = ofWeight.flatMap((part) => cutRows(part, adapter)).map((part) => lowerMatmul(part, adapter, scratchIndex));
  const [only] = lowerings;
  if (only && lowerings.length === 1) return only;
  const partialElements = Math.max(...lowerings.map(({ scratchElements }) => scratchElements?.[0] ?? 0));
  return {
    dispatches: lowerings.flatMap(({ dispatches }) => dispatches),
    ...(partialElements > 0 && { scratchElements: [partialElements] }),
  };
}

/** The same product in pieces of few enough rows of C that none runs for too long. */
function cutRows(plan: MatmulPlan, { maxDispatchFlops }: AdapterProfile): readonly MatmulPlan[] {
  const { form, m, n, k, a, c, residual } = plan;
  const rowsPerPiece = Math.max(rowStep, Math.floor(maxDispatchFlops / (2 * n * k * rowStep)) * rowStep);
  if (rowsPerPiece >= m) return [plan];
  return Array.from({ length: Math.ceil(m / rowsPerPiece) }, (_, index) => {
    const range = { firstRow: index * rowsPerPiece, endRow: Math.min((index + 1) * rowsPerPiece, m) };
    return {
      ...plan,
      m: range.endRow - range.firstRow,
      a: form === 'TN' ? fromColumn(a, range) : rowsOfMatrix(a, range, k),
      c: rowsOfMatrix(c, range, n),
      ...(residual && { residual: rowsOfMatrix({ ...c, ref: residual }, range, n).ref }),
    };
  });
}

function ofRange(plan: MatmulPlan, range: RowRange, isFirst: boolean): MatmulPlan {
  const { a, b, c } = plan;
  const count = range.endRow - range.firstRow;
  switch (plan.form) {
    case 'NT':
      return { ...plan, n: count, b: rowsOfMatrix(b, range, plan.k), c: fromColumn(c, range) };
    case 'NN': {
      const { residual, ...rest } = plan;
      const part = { ...rest, k: count, a: fromColumn(a, range), b: rowsOfMatrix(b, range, plan.n) };
      return isFirst ? { ...part, ...(residual && { residual }) } : { ...part, accumulate: true };
    }
    case 'TN':
      return { ...plan, m: count, a: fromColumn(a, range), c: rowsOfMatrix(c, range, plan.n) };
  }
}

/** Some rows of a matrix of which `columns` count; it may start in a column of a wider one, and then ends with the last that counts. */
function rowsOfMatrix(matrix: MatrixRef, { firstRow, endRow }: RowRange, columns: number): MatrixRef {
  const { ref, rowElements, dtype } = matrix;
  // Kernels read whole quads where rows are made of such.
  const lastRow = rowElements % 4 === 0 ? Math.ceil(columns / 4) * 4 : columns;
  const offsetElements = (ref.offsetElements ?? 0) + wordsFor(firstRow * rowElements, dtype);
  const lengthElements = wordsFor((endRow - firstRow - 1) * rowElements + lastRow, dtype);
  return { ...matrix, ref: { ...ref, offsetElements, lengthElements } };
}

/** The same matrix bound from one of its columns on, which may run to the end of what the binding holds. */
function fromColumn(matrix: MatrixRef, { firstRow: column }: RowRange): MatrixRef {
  const { ref, dtype } = matrix;
  const words = wordsFor(column, dtype);
  const { lengthElements } = ref;
  return {
    ...matrix,
    ref: { ...ref, offsetElements: (ref.offsetElements ?? 0) + words, ...(lengthElements !== undefined && { lengthElements: lengthElements - words }) },
  };
}
