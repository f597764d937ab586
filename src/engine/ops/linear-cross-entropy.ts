/**
 * The head of a language model and its loss in one op: logits = hidden · weightᵀ, then the weighted sum of
 * −log softmax(logits)[target] over rows. Gradients are computed with the loss, chunk by chunk of rows, so the whole
 * [rows, vocabulary] matrix never exists; a weight larger than one binding is visited in ranges of tokens. It is a sum,
 * never a mean: who divides is the trainer.
 */
import crossEntropyShader from '../../../shaders/cross-entropy.wgsl?raw';
import { EngineError, invariant } from '../errors.ts';
import { floatType, isFloat, sameShape } from '../graph.ts';
import type { Graph } from '../graph.ts';
import type { AdapterProfile, Dispatch, FloatType, Lowering, Op, ReferenceArray, Tensor, TensorSpec } from '../op.ts';
import { rowsOf, rowStep } from '../ranges.ts';
import { input, output, scratch } from './bindings.ts';
import { isUnitSeed } from './elementwise.ts';
import { workgroupGrid } from './matmul-lowering.ts';
import type { MatmulForm, MatrixRef } from './matmul-lowering.ts';
import { lowerWeightMatmul } from './matmul-ranges.ts';

interface LinearCrossEntropyAttrs {
  /** Whether the gradients are outputs too. */
  readonly differentiates: boolean;
  /** Whether the weight's gradient is left out of them. */
  readonly isWeightFrozen: boolean;
  /** Share of each target that is spread evenly over the vocabulary, 0 to 1. */
  readonly labelSmoothing: number;
}

interface Extents {
  readonly rows: number;
  readonly width: number;
  readonly vocabulary: number;
}

/** Logits of one chunk: enough rows to fill a GPU, little enough to be found on any. */
const maxLogitsBytes = 64 * 2 ** 20;
const [logitsScratch, lossesScratch, partialsScratch] = [0, 1, 2];

function extents(inputs: readonly TensorSpec[]): Extents {
  const describe = (): string =>
    `linearCrossEntropy of ${inputs.map((spec) => `${spec.dtype}[${spec.shape.join(', ')}]`).join(', ')} does not fit`;
  const [hidden, weight, targets, lossWeights] = inputs;
  const [rows, width] = hidden?.shape ?? [];
  const [vocabulary] = weight?.shape ?? [];
  if (!hidden || !weight || !targets || !lossWeights || !rows || !width || !vocabulary) throw new EngineError(describe());
  invariant(
    sameShape(hidden.shape, [rows, width]) &&
      sameShape(weight.shape, [vocabulary, width]) &&
      sameShape(targets.shape, [rows]) &&
      sameShape(lossWeights.shape, [rows]) &&
      targets.dtype === 'u32' &&
      lossWeights.dtype === 'f32' &&
      isFloat(hidden) &&
      isFloat(weight),
    describe,
  );
  return { rows, width, vocabulary };
}

/** Rows per chunk: a multiple of what lets a chunk of any per-row tensor be bound. */
function chunkRows(rowElements: number, adapter: AdapterProfile): number {
  const rowBytes = rowElements * 4;
  const budget = Math.min(maxLogitsBytes, adapter.maxStorageBufferBindingBytes);
  const rows = Math.max(Math.floor(budget / rowBytes / rowStep), 1) * rowStep;
  invariant(
    rows * rowBytes <= adapter.maxStorageBufferBindingBytes,
    () => `${rowStep} rows of logits over a vocabulary of ${rowElements} do not fit a binding of ${adapter.name}`,
    'out-of-memory',
  );
  return rows;
}

interface LowerRequest {
  readonly size: Extents;
  readonly dtypes: { readonly hidden: FloatType; readonly weight: FloatType };
  readonly accumulate: readonly boolean[];
  readonly attrs: LinearCrossEntropyAttrs;
  readonly adapter: AdapterProfile;
}

function lower({ size, dtypes, accumulate, attrs, adapter }: LowerRequest): Lowering {
  const { differentiates, isWeightFrozen, labelSmoothing } = attrs;
  const { rows, width, vocabulary } = size;
  // Rows of whole quads, so that the matmuls can read and write them as vectors. What pads them is never used.
  const rowElements = Math.ceil(vocabulary / 4) * 4;
  const rowsPerChunk = Math.min(rows, chunkRows(rowElements, adapter));
  const dispatches: Dispatch[] = [];
  let partialElements = 0;
  const product = (form: MatmulForm, extent: readonly [number, number, number], operands: readonly MatrixRef[], add: boolean): void => {
    const [m, n, k] = extent;
    const [a, b, c] = operands;
    invariant(a !== undefined && b !== undefined && c !== undefined, () => 'a product has three operands');
    const lowering = lowerWeightMatmul({ form, m, n, k, a, b, c, accumulate: add }, adapter, partialsScratch);
    dispatches.push(...lowering.dispatches);
    partialElements = Math.max(partialElements, lowering.scratchElements?.[0] ?? 0);
  };
  const logits: MatrixRef = { ref: scratch(logitsScratch), rowElements, dtype: 'f32' };
  const weight: MatrixRef = { ref: input(1), rowElements: width, dtype: dtypes.weight };
  const dWeight: MatrixRef = { ref: output(2), rowElements: width, dtype: 'f32' };

  for (let start = 0; start < rows; start += rowsPerChunk) {
    const chunk = { firstRow: start, endRow: Math.min(start + rowsPerChunk, rows) };
    const count = chunk.endRow - start;
    const hidden: MatrixRef = { ref: rowsOf(input(0), chunk, width, dtypes.hidden), rowElements: width, dtype: dtypes.hidden };
    product('NT', [count, vocabulary, width], [hidden, weight, logits], false);
    const byInvocation = adapter.isSoftware;
    const lanes = byInvocation ? 16 : vocabulary > 1024 ? 256 : 64;
    dispatches.push({
      label: `cross-entropy ${count}×${vocabulary}`,
      shader: crossEntropyShader,
      entryPoint: byInvocation ? 'rowsByInvocation' : 'rowsByWorkgroup',
      constants: {
        ROWS: count,
        ROW: rowElements,
        VOCABULARY: vocabulary,
        LANES: lanes,
        GRADIENT: differentiates,
        SMOOTHED: labelSmoothing > 0,
        SMOOTHING_F: labelSmoothing,
        SUMMING: false,
        ACCUMULATE: false,
      },
      bindings: [
        logits.ref,
        rowsOf(input(2), chunk, 1, 'u32'),
        rowsOf(input(3), chunk, 1, 'f32'),
        rowsOf(scratch(lossesScratch), chunk, 1, 'f32'),
      ],
      workgroups: workgroupGrid(byInvocation ? Math.ceil(count / lanes) : count, adapter),
    });
    if (!differentiates) continue;
    const dHidden: MatrixRef = { ref: rowsOf(output(1), chunk, width, dtypes.hidden), rowElements: width, dtype: dtypes.hidden };
    product('NN', [count, width, vocabulary], [logits, weight, dHidden], accumulate[1] === true);
    if (!isWeightFrozen) product('TN', [vocabulary, width, count], [logits, hidden, dWeight], accumulate[2] === true || start > 0);
  }
  dispatches.push({
    label: `loss sum ${rows}`,
    shader: crossEntropyShader,
    entryPoint: 'sumLosses',
    constants: { ROWS: rows, LANES: 64, SUMMING: true, ACCUMULATE: accumulate[0] === true },
    bindings: [scratch(lossesScratch), output(0)],
    workgroups: [1, 1, 1],
  });
  return {
    dispatches,
    scratchElements: [rowsPerChunk * rowElements, rows, ...(partialElements > 0 ? [partialElements] : [])],
  };
}

function reference(inputs: readonly ReferenceArray[], size: Extents, attrs: LinearCrossEntropyAttrs): readonly ReferenceArray[] {
  const { differentiates, isWeightFrozen, labelSmoothing } = attrs;
  const { rows, width, vocabulary } = size;
  const [hidden, weight, targets, lossWeights] = inputs;
  invariant(
    hidden !== undefined && weight !== undefined && targets !== undefined && lossWeights !== undefined,
    () => 'linearCrossEntropy has four inputs',
  );
  const lossSum = new Float64Array(1);
  const dHidden = new Float64Array(rows * width);
  const dWeight = new Float64Array(vocabulary * width);
  for (let row = 0; row < rows; row++) {
    const rowWeight = lossWeights[row] ?? 0;
    if (rowWeight === 0) continue;
    const h = hidden.subarray(row * width, (row + 1) * width);
    const logits = Float64Array.from({ length: vocabulary }, (_, token) =>
      h.reduce((sum, value, d) => sum + value * (weight[token * width + d] ?? 0), 0),
    );
    const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
    const target = Math.min(targets[row] ?? 0, vocabulary - 1);
    for (let token = 0; token < vocabulary; token++) {
      const logit = logits[token] ?? 0;
      const wanted = labelSmoothing / vocabulary + (token === target ? 1 - labelSmoothing : 0);
      lossSum[0] = (lossSum[0] ?? 0) + rowWeight * wanted * (largest + Math.log(sum) - logit);
      const slope = rowWeight * (Math.exp(logit - largest) / sum - wanted);
      for (let d = 0; d < width; d++) {
        const at = token * width + d;
        dHidden[row * width + d] = (dHidden[row * width + d] ?? 0) + slope * (weight[at] ?? 0);
        dWeight[at] = (dWeight[at] ?? 0) + slope * (h[d] ?? 0);
      }
    }
  }
  if (!differentiates) return [lossSum];
  return isWeightFrozen ? [lossSum, dHidden] : [lossSum, dHidden, dWeight];
}

export const linearCrossEntropyOp: Op<LinearCrossEntropyAttrs> = {
  name: 'linearCrossEntropy',
  accumulates: [true, true, true],
  infer(inputs, { differentiates, isWeightFrozen, labelSmoothing }) {
    const { rows, width, vocabulary } = extents(inputs);
    invariant(labelSmoothing >= 0 && labelSmoothing <= 1, () => `label smoothing is a share from 0 to 1, and ${labelSmoothing} is none`);
    const [hidden] = inputs;
    const lossSum: TensorSpec = { shape: [1], dtype: 'f32' };
    if (!differentiates || !hidden) return [lossSum];
    const dHidden: TensorSpec = { shape: [rows, width], dtype: hidden.dtype };
    return isWeightFrozen ? [lossSum, dHidden] : [lossSum, dHidden, { shape: [vocabulary, width], dtype: 'f32' }];
  },
  reference: (inputs, attrs, specs) => reference(inputs, extents(specs.inputs), attrs),
  lower({ inputs, accumulate, attrs, adapter }) {
    const [hidden, weight] = inputs;
    invariant(hidden !== undefined && weight !== undefined, () => 'linearCrossEntropy has four inputs');
    const dtypes = { hidden: floatType(hidden), weight: floatType(weight) };
    return lower({ size: extents(inputs), dtypes, accumulate, attrs, adapter });
  },
  /** The gradients were computed with the loss, for the cotangent one that seeds every backward pass. */
  vjp({ graph, outputs, cotangents, needs }) {
    const [, dHidden, dWeight] = outputs;
    const [cotangent] = cotangents;
    // The gradients were written in the forward pass, for the loss as it is: a scaled one would get them unscaled.
    invariant(cotangent !== undefined && cotangent !== null && isUnitSeed(graph, cotangent), () => 'linearCrossEntropy must be the loss itself');
    invariant(dHidden !== undefined, () => 'the graph was traced without differentiation');
    invariant(dWeight !== undefined || needs[1] !== true, () => 'a weight that is frozen here is learned elsewhere');
    return [needs[0] ? dHidden : null, needs[1] ? (dWeight ?? null) : null, null, null];
  },
};

export interface LinearCrossEntropyOptions {
  /** Default 0. */
  readonly labelSmoothing?: number;
  /** Whether nobody wants the weight's gradient, so that it need not be computed. Default false. */
  readonly isWeightFrozen?: boolean;
}

/**
 * lossSum[1] = Σ_i lossWeights_i · −log softmax(hidden_i · weightᵀ)[targets_i], for hidden [N, D], weight [V, D], targets
 * u32 [N] and lossWeights f32 [N]. Hidden and weight may be f16, and hidden's gradient has its type. Rows of weight zero
 * contribute nothing, and a target past the vocabulary counts as its last entry. With logits all equal, each row adds its weight times ln V.
 * With label smoothing ε the target is a distribution, as in PyTorch's `cross_entropy`: 1 − ε on the target and ε / V on every token.
 * Throws `EngineError` on wrong shapes.
 */
export function linearCrossEntropy(
  graph: Graph,
  hidden: Tensor,
  weight: Tensor,
  targets: Tensor,
  lossWeights: Tensor,
  { labelSmoothing = 0, isWeightFrozen = false }: LinearCrossEntropyOptions = {},
): Tensor {
  const inputs = [hidden, weight, targets, lossWeights];
  const [lossSum] = graph.apply(linearCrossEntropyOp, inputs, { differentiates: graph.differentiates, labelSmoothing, isWeightFrozen });
  invariant(lossSum !== undefined, () => 'linearCrossEntropy gives a loss');
  return lossSum;
}
