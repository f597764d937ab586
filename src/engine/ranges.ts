/**
 * Division of what is larger than one binding or one buffer: row ranges of a matrix, and the parts of the flat buffers of a
 * layout. Both follow from sizes and limits alone, so kernels that go by ranges never meet a part's end within one.
 */
import { alignmentElements } from './layout.ts';
import type { LayoutEntry, ParameterLayout } from './layout.ts';
import { invariant } from './errors.ts';
import { wordsFor } from './graph.ts';
import type { AdapterProfile, BindingRef, DType } from './op.ts';

type Limits = Pick<AdapterProfile, 'maxStorageBufferBindingBytes' | 'maxBufferBytes'>;

export interface RowRange {
  readonly firstRow: number;
  readonly endRow: number;
}

/** Rows at whose multiples a binding may start whatever the width, in f16 too. */
export const rowStep = 2 * alignmentElements;

/** The rows of a matrix in as few ranges as fit one f32 binding each. */
export function rowRanges(rows: number, width: number, limits: Limits): readonly RowRange[] {
  const most = Math.floor(mostElements(limits) / width);
  const rowsPerRange = most >= rows ? rows : Math.floor(most / rowStep) * rowStep;
  invariant(rowsPerRange > 0, () => `${rowStep} rows of ${width} elements don't fit one binding`, 'out-of-memory');
  const ranges: RowRange[] = [];
  for (let firstRow = 0; firstRow < rows; firstRow += rowsPerRange) {
    ranges.push({ firstRow, endRow: Math.min(rows, firstRow + rowsPerRange) });
  }
  return ranges;
}

/** A range of rows, as a part of what `ref` binds. */
export function rowsOf(ref: BindingRef, { firstRow, endRow }: RowRange, width: number, dtype: DType): BindingRef {
  return {
    ...ref,
    offsetElements: wordsFor(firstRow * width, dtype),
    lengthElements: wordsFor((endRow - firstRow) * width, dtype),
  };
}

/** 8 GiB of weights within WebGPU's default limits: no device that has no more to offer could train such a model. */
const mostParts = 64;

/**
 * Elements of each buffer that together hold a flat buffer of the layout, such that a buffer can be bound as a whole and no
 * tensor, or row range of one that is larger, crosses from one to the next.
 */
export function partLengths({ entries, totalElements }: ParameterLayout, limits: Limits): readonly number[] {
  const most = mostElements(limits);
  invariant(
    totalElements <= mostParts * most,
    () => `a flat buffer of ${totalElements * 4} bytes would need more than ${mostParts} buffers of this adapter`,
    'out-of-memory',
  );
  const cuts = [...entries.flatMap((entry) => startsOf(entry, limits)), totalElements];
  const lengths: number[] = [];
  let start = 0;
  for (const [index, cut] of cuts.entries()) {
    const next = cuts[index + 1];
    if (next !== undefined && next - start <= most) continue;
    if (cut > start) lengths.push(cut - start);
    start = cut;
  }
  return lengths.length > 0 ? lengths : [alignmentElements];
}

/** Where the tensor starts, and where the ranges of rows start in which kernels visit one that is too large. */
function startsOf({ name, shape, offsetElements, lengthElements }: LayoutEntry, limits: Limits): number[] {
  const [rows = 1, ...rest] = shape;
  const width = rest.reduce((product, extent) => product * extent, 1);
  invariant(
    shape.length === 2 || lengthElements <= mostElements(limits),
    () => `${name} has ${lengthElements * 4} bytes, which this adapter can't bind at once`,
    'out-of-memory',
  );
  return rowRanges(rows, width, limits).map(({ firstRow }) => offsetElements + firstRow * width);
}

function mostElements({ maxStorageBufferBindingBytes, maxBufferBytes }: Limits): number {
  return Math.floor(Math.min(maxStorageBufferBindingBytes, maxBufferBytes) / 4 / alignmentElements) * alignmentElements;
}
