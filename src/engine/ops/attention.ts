/**
 * Causal self-attention with grouped queries, straight on the projections' layout [batch, time, heads, head size]. The
 * [time, time] matrix is never stored: the forward pass keeps one number for each query and head, the backward pass
 * computes the rest again (Dao et al., FlashAttention, 2022). No rotary embedding and no projections here.
 */
import { EngineError, invariant } from '../errors.ts';
import { elementCount, floatType, isFloat, sameShape } from '../graph.ts';
import type { Graph } from '../graph.ts';
import type { DType, Op, ReferenceArray, Shape, Tensor, TensorSpec } from '../op.ts';
import { lowerBackward, lowerForward } from './attention-lowering.ts';
import type { Extents } from './attention-lowering.ts';

type NoAttrs = Readonly<Record<never, never>>;

/** Of (q, k, v) or (q, k, v, o, logSumExp, dO), `inputCount` of them, and perhaps documentStarts behind them. */
function extents(name: string, inputs: readonly TensorSpec[], inputCount: 3 | 6): Extents {
  const describe = (): string =>
    `${name} of ${inputs.map((spec) => `${spec.dtype}[${spec.shape.join(', ')}]`).join(', ')} does not fit`;
  const [q, k, v, o, logSumExp, dO] = inputs.slice(0, inputCount);
  const documentStarts = inputs[inputCount];
  const [batch, time, heads, headSize] = q?.shape ?? [];
  const kvHeads = k?.shape[2];
  const isCounted = inputs.length === inputCount || inputs.length === inputCount + 1;
  if (!q || !k || !v || !batch || !time || !heads || !headSize || !kvHeads || !isCounted) throw new EngineError(describe());
  const keyShape = [batch, time, kvHeads, headSize];
  invariant(
    isFloat(q) &&
      q.shape.length === 4 &&
      is(k, q.dtype, keyShape) &&
      is(v, q.dtype, keyShape) &&
      heads % kvHeads === 0 &&
      (!o || is(o, q.dtype, q.shape)) &&
      (!logSumExp || is(logSumExp, 'f32', [batch, heads, time])) &&
      (!dO || is(dO, q.dtype, q.shape)) &&
      (!documentStarts || is(documentStarts, 'u32', [batch, time])),
    describe,
  );
  invariant(
    headSize % 4 === 0 && headSize <= largestHead,
    () => `${name}: a head size of ${headSize} is not a multiple of 4 up to ${largestHead}`,
  );
  return { batch, time, heads, kvHeads, headSize, stored: floatType(q), hasDocuments: documentStarts !== undefined };
}

const largestHead = 256;

function is(spec: TensorSpec, dtype: DType, shape: Shape): boolean {
  return spec.dtype === dtype && sameShape(spec.shape, shape);
}

/**
 * Calls `visit` with the scaled scores of what each query attends to; query and key are offsets of the heads' first elements.
 * A document that would start after the query starts with it.
 */
function forEachQuery(
  size: Extents,
  q: ReferenceArray,
  k: ReferenceArray,
  documentStarts: ReferenceArray | undefined,
  visit: (row: number, queryAt: number, keyAts: readonly number[], scores: readonly number[]) => void,
): void {
  const { batch, time, heads, kvHeads, headSize } = size;
  const groupSize = heads / kvHeads;
  for (let b = 0; b < batch; b++) {
    for (let head = 0; head < heads; head++) {
      const keyAt = (j: number): number => ((b * time + j) * kvHeads + Math.floor(head / groupSize)) * headSize;
      for (let i = 0; i < time; i++) {
        const queryAt = ((b * time + i) * heads + head) * headSize;
        const start = Math.min(i, documentStarts?.[b * time + i] ?? 0);
        const keyAts = Array.from({ length: i + 1 - start }, (_, j) => keyAt(start + j));
        const scores = keyAts.map((at) => dot(q, queryAt, k, at, headSize) / Math.sqrt(headSize));
        visit((b * heads + head) * time + i, queryAt, keyAts, scores);
      }
    }
  }
}

function dot(a: ReferenceArray, atA: number, b: ReferenceArray, atB: number, length: number): number {
  let sum = 0;
  for (let d = 0; d < length; d++) sum += (a[atA + d] ?? 0) * (b[atB + d] ?? 0);
  return sum;
}

function addScaled(to: ReferenceArray, atTo: number, from: ReferenceArray, atFrom: number, length: number, scale: number): void {
  for (let d = 0; d < length; d++) to[atTo + d] = (to[atTo + d] ?? 0) + scale * (from[atFrom + d] ?? 0);
}

function logSumExpOf(scores: readonly number[]): number {
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  return largest + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - largest), 0));
}

export const attentionBackwardOp: Op<NoAttrs> = {
  name: 'attentionBackward',
  infer(inputs) {
    extents('attentionBackward', inputs, 6);
    return inputs.slice(0, 3).map(({ shape, dtype }) => ({ shape, dtype }));
  },
  reference(inputs, _attrs, specs) {
    const size = extents('attentionBackward', specs.inputs, 6);
    const [q, k, v, o, , dO, documentStarts] = inputs;
    invariant(!!q && !!k && !!v && !!o && !!dO, () => 'attentionBackward has six inputs');
    const [dQ, dK, dV] = [new Float64Array(q.length), new Float64Array(k.length), new Float64Array(v.length)];
    const { headSize } = size;
    forEachQuery(size, q, k, documentStarts, (_row, queryAt, keyAts, scores) => {
      const norm = logSumExpOf(scores);
      const delta = dot(dO, queryAt, o, queryAt, headSize);
      keyAts.forEach((keyAt, j) => {
        const share = Math.exp((scores[j] ?? 0) - norm);
        const slope = (share * (dot(dO, queryAt, v, keyAt, headSize) - delta)) / Math.sqrt(headSize);
        addScaled(dQ, queryAt, k, keyAt, headSize, slope);
        addScaled(dK, keyAt, q, queryAt, headSize, slope);
        addScaled(dV, keyAt, dO, queryAt, headSize, share);
      });
    });
    return [dQ, dK, dV];
  },
  lower: ({ inputs, adapter }) => lowerBackward(extents('attentionBackward', inputs, 6), adapter),
};

export const attentionOp: Op<NoAttrs> = {
  name: 'attention',
  infer(inputs) {
    const { batch, time, heads, headSize, stored } = extents('attention', inputs, 3);
    return [
      { shape: [batch, time, heads, headSize], dtype: stored },
      { shape: [batch, heads, time], dtype: 'f32' },
    ];
  },
  reference(inputs, _attrs, specs) {
    const size = extents('attention', specs.inputs, 3);
    const [q, k, v, documentStarts] = inputs;
    invariant(!!q && !!k && !!v, () => 'attention has three inputs');
    const o = new Float64Array(q.length);
    const logSumExp = new Float64Array(q.length / size.headSize);
    forEachQuery(size, q, k, documentStarts, (row, queryAt, keyAts, scores) => {
      const norm = logSumExpOf(scores);
      logSumExp[row] = norm;
      keyAts.forEach((keyAt, j) => addScaled(o, queryAt, v, keyAt, size.headSize, Math.exp((scores[j] ?? 0) - norm)));
    });
    return [o, logSumExp];
  },
  vjp({ graph, inputs, outputs, cotangents, needs }) {
    const [dO, dLogSumExp] = cotangents;
    invariant(!dLogSumExp, () => 'attention has no gradient through its log-sum-exp');
    if (!dO) return inputs.map(() => null);
    const [q, k, v, ...documentStarts] = inputs;
    invariant(!!q && !!k && !!v, () => 'attention has three inputs or four');
    const gradients = graph.apply(attentionBackwardOp, [q, k, v, ...outputs, dO, ...documentStarts], {});
    return inputs.map((_, index) => (needs[index] === true ? (gradients[index] ?? null) : null));
  },
  lower: ({ inputs, adapter }) => lowerForward(extents('attention', inputs, 3), adapter),
};

/**
 * Causal attention: q [B, T, H, hd], k and v [B, T, KV, hd] → [B, T, H, hd], scores scaled by 1/√hd. H is a multiple
 * of KV (query head h reads key head ⌊h·KV/H⌋), hd a multiple of 4 up to 256, and all are f32 or all f16, as the result is then;
 * throws `EngineError` otherwise.
 * With `documentStarts` u32 [B, T] a position attends to nothing before the place in its row that stands there: where its
 * document starts. Documents are contiguous, so starts never decrease along a row.
 */
export function attention(graph: Graph, q: Tensor, k: Tensor, v: Tensor, documentStarts?: Tensor): Tensor {
  const [o] = graph.apply(attentionOp, documentStarts ? [q, k, v, documentStarts] : [q, k, v], {});
  invariant(o !== undefined && elementCount(o.shape) > 0, () => 'attention gives an output');
  return o;
}
