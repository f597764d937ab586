/**
 * Causal self-attention with grouped queries, straight on the projections' layout [batch, time, heads, head size]. The
 * [time, time] matrix is never stored: the forward pass keeps one number for each query and head, the backward pass
 * computes the rest again (Dao et al., FlashAttention, 2022). No rotary embedding and no projections here.
 */
import backwardShader from '../../../shaders/attention-backward.wgsl?raw';
import forwardShader from '../../../shaders/attention-forward.wgsl?raw';
import rowsShader from '../../../shaders/attention-rows.wgsl?raw';
import softwareBackwardShader from '../../../shaders/attention-software-backward.wgsl?raw';
import softwareForwardShader from '../../../shaders/attention-software-forward.wgsl?raw';
import { EngineError, invariant } from '../errors.ts';
import { elementCount, isFloat, sameShape } from '../graph.ts';
import type { Graph } from '../graph.ts';
import type { AdapterProfile, Op, ReferenceArray, ShaderConstants, Tensor, TensorSpec } from '../op.ts';
import { input, output, scratch } from './bindings.ts';
import { elementGrid } from './grid.ts';
import { workgroupGrid } from './matmul-lowering.ts';

type NoAttrs = Readonly<Record<never, never>>;

interface Extents {
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
  /** How vectors are stored; sums over them and scalars of a query are f32 all the same. */
  readonly stored: 'f32' | 'f16';
}

function extents(name: string, inputs: readonly TensorSpec[], inputCount: number): Extents {
  const describe = (): string =>
    `${name} of ${inputs.map((spec) => `${spec.dtype}[${spec.shape.join(', ')}]`).join(', ')} does not fit`;
  const [q, k, v, o, logSumExp, dO] = inputs;
  const [batch, time, heads, headSize] = q?.shape ?? [];
  const kvHeads = k?.shape[2];
  if (!q || !k || !v || !batch || !time || !heads || !headSize || !kvHeads || inputs.length !== inputCount) {
    throw new EngineError(describe());
  }
  const keyShape = [batch, time, kvHeads, headSize];
  invariant(
    isFloat(q) &&
      inputs.every((spec) => spec.dtype === (spec === logSumExp ? 'f32' : q.dtype)) &&
      q.shape.length === 4 &&
      sameShape(k.shape, keyShape) &&
      sameShape(v.shape, keyShape) &&
      heads % kvHeads === 0 &&
      (!o || sameShape(o.shape, q.shape)) &&
      (!logSumExp || sameShape(logSumExp.shape, [batch, heads, time])) &&
      (!dO || sameShape(dO.shape, q.shape)),
    describe,
  );
  invariant(headSize % 4 === 0, () => `${name}: a head size of ${headSize} is not a multiple of 4`);
  return { batch, time, heads, kvHeads, headSize, stored: q.dtype === 'f16' ? 'f16' : 'f32' };
}

function constants(size: Extents, lanes: number): ShaderConstants {
  return {
    BATCH: size.batch,
    TIME: size.time,
    HEADS: size.heads,
    KV_HEADS: size.kvHeads,
    HEAD_SIZE: size.headSize,
    LANES: lanes,
    STORED: size.stored,
    HALF: size.stored === 'f16',
  };
}

interface Kernels {
  readonly forward: string;
  readonly backward: string;
  readonly lanes: number;
  /** Running sums lie in memory, which must be of their own where tensors are f16. */
  readonly sumsInMemory: boolean;
  /** The grid for a kernel in which neighbouring positions of each of `heads` heads are owned. */
  grid(size: Extents, heads: number): readonly [number, number, number];
}

/**
 * Software adapters want few memory accesses in the text and lanes that walk equally far; eight lanes are lavapipe's
 * vector and two of SwiftShader's. GPUs want registers and coinciding reads.
 */
function kernelsFor(adapter: AdapterProfile): Kernels {
  if (adapter.isSoftware) {
    const lanes = 8;
    return {
      forward: softwareForwardShader,
      backward: softwareBackwardShader,
      lanes,
      sumsInMemory: true,
      grid: ({ batch, time }, heads) => workgroupGrid(Math.ceil((batch * heads * Math.ceil(time / 8)) / lanes), adapter),
    };
  }
  const lanes = 32;
  return {
    forward: forwardShader,
    backward: backwardShader,
    lanes,
    sumsInMemory: false,
    grid({ batch, time }, heads) {
      const workgroups = [Math.ceil(time / (4 * lanes)), heads, batch] as const;
      invariant(
        Math.max(...workgroups) <= adapter.maxWorkgroupsPerDimension,
        () => `attention over ${workgroups.join('×')} workgroups is too large for one dispatch on ${adapter.name}`,
      );
      return workgroups;
    },
  };
}

/** Calls `visit` with the scaled score of every unmasked pair; query and key are offsets of the heads' first elements. */
function forEachQuery(
  size: Extents,
  q: ReferenceArray,
  k: ReferenceArray,
  visit: (row: number, queryAt: number, keyAts: readonly number[], scores: readonly number[]) => void,
): void {
  const { batch, time, heads, kvHeads, headSize } = size;
  const groupSize = heads / kvHeads;
  for (let b = 0; b < batch; b++) {
    for (let head = 0; head < heads; head++) {
      const keyAt = (j: number): number => ((b * time + j) * kvHeads + Math.floor(head / groupSize)) * headSize;
      for (let i = 0; i < time; i++) {
        const queryAt = ((b * time + i) * heads + head) * headSize;
        const keyAts = Array.from({ length: i + 1 }, (_, j) => keyAt(j));
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
    const [q, k, v, o, , dO] = inputs;
    invariant(!!q && !!k && !!v && !!o && !!dO, () => 'attentionBackward has six inputs');
    const [dQ, dK, dV] = [new Float64Array(q.length), new Float64Array(k.length), new Float64Array(v.length)];
    const { headSize } = size;
    forEachQuery(size, q, k, (_row, queryAt, keyAts, scores) => {
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
  lower({ inputs, adapter }) {
    const size = extents('attentionBackward', inputs, 6);
    const kernels = kernelsFor(adapter);
    const { batch, time, heads, kvHeads, headSize } = size;
    const pairs = (batch * heads * time * (time + 1)) / 2;
    const rows = scratch(0);
    const hasSums = kernels.sumsInMemory && size.stored === 'f16';
    const sums = hasSums ? [scratch(1)] : [];
    const sumElements = batch * time * headSize * Math.max(heads, 2 * kvHeads);
    const [q, k, v, o, logSumExp, dO] = [input(0), input(1), input(2), input(3), input(4), input(5)];
    const rowGrid = elementGrid(batch * heads * time, adapter);
    return {
      dispatches: [
        {
          label: `attention rows ${batch}×${time}×${heads}×${headSize}`,
          shader: rowsShader,
          entryPoint: 'prepare',
          constants: { ...rowGrid.constants, TIME: time, HEADS: heads, HEAD_SIZE: headSize, STORED: size.stored },
          bindings: [o, dO, logSumExp, rows],
          workgroups: rowGrid.workgroups,
          flops: 2 * batch * heads * time * headSize,
        },
        {
          label: `attention dQ ${batch}×${time}×${heads}×${headSize}`,
          shader: kernels.backward,
          entryPoint: 'backwardQueries',
          constants: { ...constants(size, kernels.lanes), QUERIES: true },
          bindings: [q, k, v, dO, rows, output(0), ...sums],
          workgroups: kernels.grid(size, heads),
          flops: 6 * pairs * headSize,
        },
        {
          label: `attention dK dV ${batch}×${time}×${heads}×${headSize}`,
          shader: kernels.backward,
          entryPoint: 'backwardKeys',
          constants: { ...constants(size, kernels.lanes), QUERIES: false },
          bindings: [q, k, v, dO, rows, output(1), output(2), ...sums],
          workgroups: kernels.grid(size, kvHeads),
          flops: 8 * pairs * headSize,
        },
      ],
      scratchElements: [2 * batch * heads * time, ...(hasSums ? [sumElements] : [])],
    };
  },
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
    const [q, k, v] = inputs;
    invariant(!!q && !!k && !!v, () => 'attention has three inputs');
    const o = new Float64Array(q.length);
    const logSumExp = new Float64Array(q.length / size.headSize);
    forEachQuery(size, q, k, (row, queryAt, keyAts, scores) => {
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
    const gradients = graph.apply(attentionBackwardOp, [...inputs, ...outputs, dO], {});
    return gradients.map((gradient, index) => (needs[index] ? gradient : null));
  },
  lower({ inputs, adapter }) {
    const size = extents('attention', inputs, 3);
    const { batch, time, heads, headSize } = size;
    const kernels = kernelsFor(adapter);
    const hasSums = kernels.sumsInMemory && size.stored === 'f16';
    return {
      scratchElements: hasSums ? [batch * time * heads * headSize] : [],
      dispatches: [
        {
          label: `attention ${batch}×${time}×${heads}×${headSize}`,
          shader: kernels.forward,
          entryPoint: 'forward',
          constants: constants(size, kernels.lanes),
          bindings: [input(0), input(1), input(2), output(0), output(1), ...(hasSums ? [scratch(0)] : [])],
          workgroups: kernels.grid(size, heads),
          flops: 2 * batch * heads * time * (time + 1) * headSize,
        },
      ],
    };
  },
};

/**
 * Causal attention: q [B, T, H, hd], k and v [B, T, KV, hd] → [B, T, H, hd], scores scaled by 1/√hd. H is a multiple
 * of KV (query head h reads key head ⌊h·KV/H⌋), hd a multiple of 4, and all are f32 or all f16, as the result is then; throws
 * `EngineError` otherwise.
 */
export function attention(graph: Graph, q: Tensor, k: Tensor, v: Tensor): Tensor {
  const [o] = graph.apply(attentionOp, [q, k, v], {});
  invariant(o !== undefined && elementCount(o.shape) > 0, () => 'attention gives an output');
  return o;
}
