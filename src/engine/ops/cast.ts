/**
 * The same values in another type: f16 copies of weights for kernels that read them often. Its gradient flows through as it
 * is, so that what arrives in f32 for an f16 copy of a weight is added to the weight's gradient in f32.
 */
import shader from '../../../shaders/cast.wgsl?raw';
import { invariant } from '../errors.ts';
import { elementCount, floatType, isFloat } from '../graph.ts';
import type { DType, Op, Tensor, Trace } from '../op.ts';
import { rowRanges, rowsOf } from '../ranges.ts';
import { input, output } from './bindings.ts';
import { elementGrid } from './grid.ts';

interface CastAttrs {
  readonly dtype: DType;
}

const castOp: Op<CastAttrs> = {
  name: 'cast',
  infer([x], { dtype }) {
    invariant(x !== undefined && isFloat(x) && isFloat({ ...x, dtype }), () => `cast of ${x?.dtype ?? 'nothing'} to ${dtype}`);
    return [{ shape: x.shape, dtype }];
  },
  reference: ([x]) => [x?.slice() ?? new Float64Array(0)],
  vjp({ graph, inputs: [x], cotangents: [cotangent] }) {
    return [x && cotangent ? cast(graph, cotangent, x.dtype) : null];
  },
  lower({ inputs: [x], outputs: [y], adapter }) {
    const types = { FROM: floatType(x), TO: floatType(y) };
    const [rows = 1, ...rest] = x?.shape ?? [];
    const width = elementCount(rest);
    return {
      // The ranges in which every kernel visits a weight that is larger than one binding.
      dispatches: rowRanges(rows, width, adapter).map((range) => {
        const { workgroups, constants } = elementGrid((range.endRow - range.firstRow) * width, adapter);
        return {
          label: 'cast',
          shader,
          entryPoint: 'convert',
          constants: { ...constants, ...types },
          bindings: [rowsOf(input(0), range, width, types.FROM), rowsOf(output(0), range, width, types.TO)],
          workgroups,
        };
      }),
    };
  },
};

/** x in the given type, rounded to nearest where that is narrower; x itself where it has that type. */
export function cast(graph: Trace, x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : graph.apply1(castOp, [x], { dtype });
}
