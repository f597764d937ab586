/**
 * The same values in another type: f16 copies of weights for kernels that read them often. Its gradient flows through as it
 * is, so that what arrives in f32 for an f16 copy of a weight is added to the weight's gradient in f32.
 */
import shader from '../../../shaders/cast.wgsl?raw';
import { invariant } from '../errors.ts';
import { elementCount, floatType, isFloat, wordsFor } from '../graph.ts';
import { alignmentElements } from '../layout.ts';
import type { AdapterProfile, BindingRef, DType, FloatType, Op, Tensor, Trace } from '../op.ts';
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
    return {
      dispatches: bindableRanges(elementCount(x?.shape ?? []), adapter).map(({ start, count }) => {
        const { workgroups, constants } = elementGrid(count, adapter);
        const part = (kind: BindingRef['kind'], type: FloatType): BindingRef => ({
          kind,
          index: 0,
          offsetElements: wordsFor(start, type),
          lengthElements: wordsFor(count, type),
        });
        return {
          label: 'cast',
          shader,
          entryPoint: 'convert',
          constants: { ...constants, ...types },
          bindings: [part('input', types.FROM), part('output', types.TO)],
          workgroups,
        };
      }),
    };
  },
};

/** Ranges that fit one binding as f32 and start where a binding may, as f16 too. */
function bindableRanges(elements: number, adapter: AdapterProfile): { readonly start: number; readonly count: number }[] {
  const step = 2 * alignmentElements;
  const most = Math.floor(adapter.maxStorageBufferBindingBytes / 4 / step) * step;
  return Array.from({ length: Math.ceil(elements / most) }, (_, index) => {
    const start = index * most;
    return { start, count: Math.min(most, elements - start) };
  });
}

/** x in the given type, rounded to nearest where that is narrower; x itself where it has that type. */
export function cast(graph: Trace, x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : graph.apply1(castOp, [x], { dtype });
}
