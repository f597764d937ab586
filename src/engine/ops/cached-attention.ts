/**
 * Keys and values kept from position to position, for decoding: writing those of new positions behind what is there, and
 * attention of the new positions over all of it. How much there is comes as data (`span`), so one program serves every
 * length. No rotary embedding here, no gradients, and no decision about what happens when the cache is full.
 */
import attentionShader from '../../../shaders/attention-cached.wgsl?raw';
import writeShader from '../../../shaders/cache-write.wgsl?raw';
import { invariant } from '../errors.ts';
import { elementCount, sameShape } from '../graph.ts';
import type { Graph } from '../graph.ts';
import type { Op, ReferenceArray, Tensor, TensorSpec } from '../op.ts';
import { input, output } from './bindings.ts';
import { elementsPerWorkgroup } from './grid.ts';
import { workgroupGrid } from './matmul-lowering.ts';

/** Keys and values of one layer: [capacity, key heads, head size] each. */
export interface CachedLayer {
  readonly keys: Tensor;
  readonly values: Tensor;
}

const largestHead = 256;

function is(spec: TensorSpec | undefined, dtype: 'f32' | 'u32', shape: readonly number[]): boolean {
  return spec !== undefined && spec.dtype === dtype && sameShape(spec.shape, shape);
}

function describe(name: string, inputs: readonly TensorSpec[]): string {
  return `${name} of ${inputs.map((spec) => `${spec.dtype}[${spec.shape.join(', ')}]`).join(', ')} does not fit`;
}

/** [first position, how many of the rows count], held within the capacity as the kernels do. */
function spanOf(span: ReferenceArray | undefined, rows: number): readonly [first: number, count: number] {
  return [span?.[0] ?? 0, Math.min(rows, span?.[1] ?? 0)];
}

/** (key cache, value cache [C, KV, hd], keys, values [1, T, KV, hd], span u32 [2]) → both caches with the new rows in place. */
const cacheWriteOp: Op<null> = {
  name: 'cacheWrite',
  infer(inputs) {
    const [keyCache, valueCache, keys, values, span] = inputs;
    const [capacity = 0, keyHeads = 0, headSize = 0] = keyCache?.shape ?? [];
    const rows = keys?.shape[1] ?? 0;
    const cacheShape = [capacity, keyHeads, headSize];
    const rowShape = [1, rows, keyHeads, headSize];
    invariant(
      rows > 0 &&
        (keyHeads * headSize) % 4 === 0 &&
        is(keyCache, 'f32', cacheShape) &&
        is(valueCache, 'f32', cacheShape) &&
        is(keys, 'f32', rowShape) &&
        is(values, 'f32', rowShape) &&
        is(span, 'u32', [2]),
      () => describe('cacheWrite', inputs),
    );
    return [
      { shape: cacheShape, dtype: 'f32' },
      { shape: cacheShape, dtype: 'f32' },
    ];
  },
  reference([keyCache = none, valueCache = none, keys = none, values = none, span], _attrs, { inputs: [cache, , rows] }) {
    const width = (cache?.shape[1] ?? 0) * (cache?.shape[2] ?? 0);
    const [first, count] = spanOf(span, rows?.shape[1] ?? 0);
    const written = Math.max(0, Math.min(count, (cache?.shape[0] ?? 0) - first)) * width;
    return [[keyCache, keys] as const, [valueCache, values] as const].map(([before, added]) => {
      const after = before.slice();
      if (written > 0) after.set(added.subarray(0, written), first * width);
      return after;
    });
  },
  lower({ inputs: [cache, , keys], adapter }) {
    const [capacity = 0, keyHeads = 0, headSize = 0] = cache?.shape ?? [];
    const rows = keys?.shape[1] ?? 0;
    const widthQuads = (keyHeads * headSize) / 4;
    return {
      dispatches: [
        {
          label: `cache write ${rows}×${4 * widthQuads}`,
          shader: writeShader,
          entryPoint: 'append',
          constants: {},
          bindings: [input(2), input(3), input(4), output(0), output(1)],
          uniform: [rows, widthQuads, capacity],
          workgroups: workgroupGrid(Math.ceil((rows * widthQuads) / elementsPerWorkgroup), adapter),
        },
      ],
    };
  },
  overwrites: [0, 1],
};

/** (q [1, T, H, hd], key cache, value cache [C, KV, hd], span u32 [2]) → [1, T, H, hd]. */
const cachedAttentionOp: Op<null> = {
  name: 'cachedAttention',
  infer(inputs) {
    const [q, keyCache, valueCache, span] = inputs;
    const [, rows = 0, heads = 0, headSize = 0] = q?.shape ?? [];
    const [capacity = 0, keyHeads = 0] = keyCache?.shape ?? [];
    const cacheShape = [capacity, keyHeads, headSize];
    invariant(
      rows > 0 &&
        keyHeads > 0 &&
        heads % keyHeads === 0 &&
        is(q, 'f32', [1, rows, heads, headSize]) &&
        is(keyCache, 'f32', cacheShape) &&
        is(valueCache, 'f32', cacheShape) &&
        is(span, 'u32', [2]),
      () => describe('cachedAttention', inputs),
    );
    invariant(
      headSize % 4 === 0 && headSize <= largestHead,
      () => `cachedAttention: a head size of ${headSize} is not a multiple of 4 up to ${largestHead}`,
    );
    return [{ shape: [1, rows, heads, headSize], dtype: 'f32' }];
  },
  reference([q = none, keyCache = none, valueCache = none, span], _attrs, { inputs: [query, cache] }) {
    const [, rows = 0, heads = 0, headSize = 0] = query?.shape ?? [];
    const [capacity = 0, keyHeads = 0] = cache?.shape ?? [];
    const [first, count] = spanOf(span, rows);
    const o = new Float64Array(q.length);
    for (let row = 0; row < rows; row++) {
      const visible = Math.min(first + Math.min(row + 1, count), capacity);
      for (let head = 0; head < heads; head++) {
        const queryAt = (row * heads + head) * headSize;
        const keyHead = Math.floor((head * keyHeads) / heads);
        const at = (position: number): number => (position * keyHeads + keyHead) * headSize;
        const scores = Array.from({ length: visible }, (_, j) => dot(q, queryAt, keyCache, at(j), headSize) / Math.sqrt(headSize));
        const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
        const shares = scores.map((score) => Math.exp(score - largest));
        const total = shares.reduce((a, b) => a + b, 0);
        for (const [j, share] of shares.entries()) {
          for (let d = 0; d < headSize; d++) o[queryAt + d] = (o[queryAt + d] ?? 0) + (share / total) * (valueCache[at(j) + d] ?? 0);
        }
      }
    }
    return [o];
  },
  lower({ inputs: [q, cache], adapter }) {
    const [, rows = 0, heads = 0, headSize = 0] = q?.shape ?? [];
    const [capacity = 0, keyHeads = 0] = cache?.shape ?? [];
    const groups = rows * heads;
    const flops = 4 * groups * capacity * headSize;
    const groupsPerDispatch = Math.ceil(groups / Math.ceil(flops / adapter.maxDispatchFlops));
    return {
      dispatches: Array.from({ length: Math.ceil(groups / groupsPerDispatch) }, (_, index) => {
        const before = index * groupsPerDispatch;
        return {
          label: `cached attention ${rows}×${heads}×${headSize} of ${capacity}`,
          shader: attentionShader,
          entryPoint: 'attend',
          constants: {},
          bindings: [input(0), input(1), input(2), input(3), output(0)],
          uniform: [rows, heads, keyHeads, headSize / 4, capacity, before],
          workgroups: workgroupGrid(Math.min(groupsPerDispatch, groups - before), adapter),
        };
      }),
    };
  },
};

const none = new Float64Array(0);

function dot(a: ReferenceArray, atA: number, b: ReferenceArray, atB: number, length: number): number {
  let sum = 0;
  for (let d = 0; d < length; d++) sum += (a[atA + d] ?? 0) * (b[atB + d] ?? 0);
  return sum;
}

/**
 * Writes keys and values [1, T, KV, hd] behind the first `span[0]` positions of a layer's cache; of the rows only the first
 * `span[1]` count, the others are padding. What would not fit is left out. Returns the cache as it is from then on; the tensors
 * given must not be read any more. Throws `EngineError` when shapes don't fit or the caches are no states.
 */
export function cacheWrite(graph: Graph, cache: CachedLayer, keys: Tensor, values: Tensor, span: Tensor): CachedLayer {
  const [keyCache, valueCache] = graph.apply(cacheWriteOp, [cache.keys, cache.values, keys, values, span], null);
  invariant(keyCache !== undefined && valueCache !== undefined, () => 'cacheWrite gives both caches');
  return { keys: keyCache, values: valueCache };
}

/**
 * q [1, T, H, hd] → [1, T, H, hd]: row i attends to the first span[0] + i + 1 positions of the cache, which holds its own key and
 * value; scores are scaled by 1/√hd. H is a multiple of KV (head h reads key head ⌊h·KV/H⌋), hd a multiple of 4 up to 256. Rows
 * from span[1] on, which are padding, give something finite. Throws `EngineError` when shapes don't fit.
 */
export function cachedAttention(graph: Graph, q: Tensor, cache: CachedLayer, span: Tensor): Tensor {
  invariant(elementCount(q.shape) > 0, () => 'cachedAttention needs a query');
  return graph.apply1(cachedAttentionOp, [q, cache.keys, cache.values, span], null);
}
