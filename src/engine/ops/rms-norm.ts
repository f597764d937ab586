/**
 * Root-mean-square normalization (Zhang & Sennrich, 2019) over the last dimension, with a learned weight per column. The
 * same op serves the norms of the residual stream and those of queries and keys, whose rows are heads.
 */
import shader from '../../../shaders/rms-norm.wgsl?raw';
import { invariant } from '../errors.ts';
import { elementCount, floatType, isFloat, sameShape } from '../graph.ts';
import type { Graph } from '../graph.ts';
import type { AdapterProfile, FloatType, Op, Tensor, TensorSpec } from '../op.ts';
import { input, output, scratch } from './bindings.ts';
import { foldedGrid } from './grid.ts';

interface NormAttrs {
  readonly epsilon: number;
  /** Of the result. */
  readonly dtype: FloatType;
}

const invocations = 64;

/** (x [.., D], w [D]) → y [.., D] and 1/rms of each row, which the backward pass reads. */
const normOp: Op<NormAttrs> = {
  name: 'rmsNorm',
  infer([x, w], { dtype }) {
    invariant(
      x !== undefined && isFloat(x) && w?.dtype === 'f32' && w.shape.length === 1 && x.shape.at(-1) === w.shape[0],
      () => `rmsNorm: x [${x?.shape.join() ?? ''}], weight [${w?.shape.join() ?? ''}]`,
    );
    return [
      { shape: x.shape, dtype },
      { shape: [rowsOf(x)], dtype: 'f32' },
    ];
  },
  reference([x = empty, w = empty], { epsilon }) {
    const width = w.length;
    const y = new Float64Array(x.length);
    const scale = new Float64Array(x.length / width);
    for (let row = 0; row < scale.length; row++) {
      const values = x.subarray(row * width, (row + 1) * width);
      const squares = values.reduce((sum, value) => sum + value * value, 0);
      const factor = 1 / Math.sqrt(squares / width + epsilon);
      scale[row] = factor;
      for (let d = 0; d < width; d++) y[row * width + d] = at(values, d) * factor * at(w, d);
    }
    return [y, scale];
  },
  addsSum: [true],
  vjp({ graph, inputs: [x, w], outputs: [, scale], cotangents: [dy], needs: [needsX, needsW], sums: [sum] }) {
    if (!x || !w || !scale || !dy) return [null, null];
    // The weight's gradient first: it is the last but one to read dy, which dx may then overwrite.
    const dw = needsW === true ? graph.apply1(weightGradientOp, [x, scale, dy], null) : null;
    const dx = needsX === true ? graph.apply1(inputGradientOp, sum ? [x, w, scale, dy, sum] : [x, w, scale, dy], null) : null;
    return [dx, dw];
  },
  lower({ inputs: [x], attrs: { epsilon, dtype }, adapter }) {
    const grid = rowGrid(x, adapter);
    const constants = { ...unusedConstants, ...grid.constants, EPSILON_F: epsilon, X_TYPE: floatType(x), Y_TYPE: dtype };
    const { workgroups } = grid;
    const bindings = [input(0), input(1), output(0), output(1)];
    return { dispatches: [{ label: 'rmsNorm', shader, entryPoint: 'forward', constants, bindings, workgroups }] };
  },
};

/** (x, w, 1/rms, dy, and what else flows back to x, if anything) → dx. */
const inputGradientOp: Op<null> = {
  name: 'rmsNormInputGradient',
  infer([x, , , dy, sum = dy]) {
    invariant(
      x !== undefined && dy !== undefined && sum !== undefined && sameShape(x.shape, dy.shape) && sameShape(x.shape, sum.shape) && (sum === dy || sum.dtype === x.dtype),
      () => 'rmsNormInputGradient: x, dy and what is added differ',
    );
    return [{ shape: x.shape, dtype: x.dtype }];
  },
  reference([x = empty, w = empty, scale = empty, dy = empty, sum]) {
    const width = w.length;
    const dx = sum?.slice() ?? new Float64Array(x.length);
    for (let row = 0; row < scale.length; row++) {
      const start = row * width;
      let products = 0;
      for (let d = 0; d < width; d++) products += at(w, d) * at(x, start + d) * at(dy, start + d);
      const factor = at(scale, row);
      const pull = (factor ** 3 * products) / width;
      for (let d = 0; d < width; d++) {
        dx[start + d] = at(dx, start + d) + factor * at(w, d) * at(dy, start + d) - at(x, start + d) * pull;
      }
    }
    return [dx];
  },
  lower({ inputs: [x, , , dy, sum], adapter }) {
    const grid = rowGrid(x, adapter);
    const types = { X_TYPE: floatType(x), Y_TYPE: floatType(dy) };
    const constants = { ...unusedConstants, ...grid.constants, ...types, ADDS_SUM: sum !== undefined };
    const { workgroups } = grid;
    const bindings = [input(0), input(1), input(2), input(3), output(0), ...(sum ? [input(4)] : [])];
    return { dispatches: [{ label: 'rmsNorm dx', shader, entryPoint: 'inputGradient', constants, bindings, workgroups }] };
  },
  inPlace: [3],
};

/** (x, 1/rms, dy) → dw, by partial sums over a fixed division of the rows. */
const weightGradientOp: Op<null> = {
  name: 'rmsNormWeightGradient',
  infer: ([x]) => [{ shape: [x?.shape.at(-1) ?? 0], dtype: 'f32' }],
  reference([x = empty, scale = empty, dy = empty]) {
    const width = x.length / scale.length;
    const dw = new Float64Array(width);
    for (let row = 0; row < scale.length; row++) {
      for (let d = 0; d < width; d++) {
        dw[d] = at(dw, d) + at(dy, row * width + d) * at(x, row * width + d) * at(scale, row);
      }
    }
    return [dw];
  },
  lower({ inputs: [x, , dy], accumulate }) {
    const width = x?.shape.at(-1) ?? 0;
    const rows = rowsOf(x);
    const columns = Math.min(invocations, nextPowerOfTwo(width));
    const partsPerGroup = invocations / columns;
    const groups = Math.min(mostPartGroups, Math.ceil(rows / (rowsPerPart * partsPerGroup)));
    const parts = groups * partsPerGroup;
    const constants = {
      ...unusedConstants,
      X_TYPE: floatType(x),
      Y_TYPE: floatType(dy),
      ROWS: rows,
      WIDTH: width,
      COLUMNS: columns,
      PARTS: parts,
      ROWS_PER_PART: Math.ceil(rows / parts),
      ACCUMULATE: accumulate[0] === true,
    };
    return {
      scratchElements: [parts * width],
      dispatches: [
        {
          label: 'rmsNorm dw',
          shader,
          entryPoint: 'weightGradient',
          constants,
          // Binding 1 is the weight, which this entry point does not touch.
          bindings: [input(0), input(0), input(1), input(2), scratch(0)],
          workgroups: [Math.ceil(width / columns), groups, 1],
        },
        {
          label: 'rmsNorm dw sum',
          shader,
          entryPoint: 'sumParts',
          constants,
          bindings: [scratch(0), output(0)],
          workgroups: [Math.ceil(width / invocations), 1, 1],
        },
      ],
    };
  },
  accumulates: [true],
};

const empty = new Float64Array(0);
/** Enough rows for a part to be worth its place in the second pass, few enough to fill a GPU at a thousand rows. */
const rowsPerPart = 32;
const mostPartGroups = 128;

/** WGSL checks all of a file, so constants of the other entry points need some value. */
const unusedConstants = {
  ROWS: 1,
  WIDTH: 1,
  LANES: 1,
  GROUPS_X: 1,
  COLUMNS: 1,
  PARTS: 1,
  ROWS_PER_PART: 1,
  EPSILON_F: 0,
  COOPERATIVE: false,
  ACCUMULATE: false,
  ADDS_SUM: false,
  X_TYPE: 'f32',
  Y_TYPE: 'f32',
} as const;

/** Software adapters pay for barriers, so there one invocation takes a row; GPUs want neighbours on neighbouring columns. */
function rowGrid(x: TensorSpec | undefined, adapter: AdapterProfile) {
  const width = x?.shape.at(-1) ?? 0;
  const rows = rowsOf(x);
  const lanes = adapter.isSoftware ? 1 : Math.min(invocations, nextPowerOfTwo(Math.ceil(width / 4)));
  const { workgroups, constants } = foldedGrid(Math.ceil((rows * lanes) / invocations), adapter);
  return { workgroups, constants: { ...constants, ROWS: rows, WIDTH: width, LANES: lanes, COOPERATIVE: lanes > 1 } };
}

function rowsOf(x: TensorSpec | undefined): number {
  return x ? elementCount(x.shape) / (x.shape.at(-1) ?? 1) : 0;
}

function nextPowerOfTwo(value: number): number {
  let power = 1;
  while (power < value) power *= 2;
  return power;
}

function at(values: Float64Array, index: number): number {
  return values[index] ?? 0;
}

/** y[.., d] = x[.., d] / sqrt(mean over the last dimension of x² + epsilon) · w[d], of x's type unless another is asked for. */
export function rmsNorm(graph: Graph, x: Tensor, w: Tensor, epsilon: number, dtype: FloatType = floatType(x)): Tensor {
  const [y] = graph.apply(normOp, [x, w], { epsilon, dtype });
  invariant(y !== undefined, () => 'rmsNorm has an output');
  return y;
}
