/**
 * Products whose weight is larger than one binding: a product for each range of the weight's rows. What a single product
 * becomes is `matmul-lowering.ts`'s affair.
 */
import { wordsFor } from '../graph.ts';
import type { AdapterProfile, Lowering } from '../op.ts';
import { rowRanges } from '../ranges.ts';
import type { RowRange } from '../ranges.ts';
import { lowerMatmul } from './matmul-lowering.ts';
import type { MatmulPlan, MatrixRef } from './matmul-lowering.ts';

/** The weight is b in NT and NN, and c in TN, whose rows are those of its gradient. */
export function lowerWeightMatmul(plan: MatmulPlan, adapter: AdapterProfile, scratchIndex = 0): Lowering {
  const weight = plan.form === 'TN' ? plan.c : plan.b;
  const rows = { NT: plan.n, NN: plan.k, TN: plan.m }[plan.form];
  const ranges = rowRanges(rows, weight.rowElements, adapter);
  if (ranges.length === 1) return lowerMatmul(plan, adapter, scratchIndex);
  const lowerings = ranges.map((range, index) => lowerMatmul(ofRange(plan, range, index === 0), adapter, scratchIndex));
  const partialElements = Math.max(...lowerings.map(({ scratchElements }) => scratchElements?.[0] ?? 0));
  return {
    dispatches: lowerings.flatMap(({ dispatches }) => dispatches),
    ...(partialElements > 0 && { scratchElements: [partialElements] }),
  };
}

function ofRange(plan: MatmulPlan, range: RowRange, isFirst: boolean): MatmulPlan {
  const { a, b, c } = plan;
  const count = range.endRow - range.firstRow;
  switch (plan.form) {
    case 'NT':
      return { ...plan, n: count, b: rowsOfMatrix(b, range), c: fromColumn(c, range) };
    case 'NN': {
      const { residual, ...rest } = plan;
      const part = { ...rest, k: count, a: fromColumn(a, range), b: rowsOfMatrix(b, range) };
      return isFirst ? { ...part, ...(residual && { residual }) } : { ...part, accumulate: true };
    }
    case 'TN':
      return { ...plan, m: count, a: fromColumn(a, range), c: rowsOfMatrix(c, range) };
  }
}

function rowsOfMatrix(matrix: MatrixRef, { firstRow, endRow }: RowRange): MatrixRef {
  const { ref, rowElements, dtype } = matrix;
  const offsetElements = (ref.offsetElements ?? 0) + wordsFor(firstRow * rowElements, dtype);
  return { ...matrix, ref: { ...ref, offsetElements, lengthElements: wordsFor((endRow - firstRow) * rowElements, dtype) } };
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
