/**
 * Turns one matrix product into dispatches: asks the adapter's profile for the kernel, and whether the depth is split. Knows bindings and strides, not ops; `linear-cross-entropy.ts` uses it for its chunks.
 */
import packShader from '../../../shaders/matmul-pack.wgsl?raw';
import registerShader from '../../../shaders/matmul-register.wgsl?raw';
import subgroupShader from '../../../shaders/matmul-subgroup.wgsl?raw';
import splitSumShader from '../../../shaders/matmul-split-sum.wgsl?raw';
import workgroupShader from '../../../shaders/matmul-workgroup.wgsl?raw';
import { invariant } from '../errors.ts';
import { shapeClassOf } from '../matmul-variants.ts';
import type { MatmulVariant } from '../matmul-variants.ts';
import { alignmentElements } from '../layout.ts';
import type { AdapterProfile, BindingRef, Dispatch, FloatType, Lowering } from '../op.ts';

/** C[m,n] = Σ_k A·B with A [m,k] or (TN) [k,m], and B [k,n] or (NT) [n,k]. */
export type MatmulForm = 'NN' | 'NT' | 'TN';

/** A row-major matrix: where it is, and how many elements lie between the starts of two rows. */
export interface MatrixRef {
  readonly ref: BindingRef;
  /** What its elements are stored as. */
  readonly dtype: FloatType;
  /** Counts elements, of whatever width; the parts that `ref` may name are in words. */
  readonly rowElements: number;
}

export interface MatmulPlan {
  readonly form: MatmulForm;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: MatrixRef;
  readonly b: MatrixRef;
  readonly c: MatrixRef;
  /** Added to the product; has the layout and type of c. */
  readonly residual?: BindingRef;
  readonly accumulate: boolean;
}

interface Tiling {
  readonly shader: string;
  readonly constants: Readonly<Record<string, number | boolean>>;
  /** Operands that it reads and writes by quads where their rows allow it; asking for more would only make more pipelines. */
  readonly vectors: 'ABC' | 'B' | '';
  /** Elements of C that one workgroup owns. */
  readonly rows: number;
  readonly columns: number;
  /** Values of k that it takes at a time: a split starts at a multiple. */
  readonly depth: number;
  /** Splitting the depth starts below this many workgroups: about what keeps the adapter busy. */
  readonly wantedWorkgroups: number;
  /** A split shorter than this costs more in partial sums than it gains. */
  readonly minSplitDepth: number;
}

/** About what a GPU holds at a time that has a hundred cores or so; smaller ones lose little by it. */
const wantedInvocations = 32_768;

function tilingFor(variant: MatmulVariant): Tiling {
  switch (variant.kind) {
    case 'register': {
      const { lanesM, lanesN } = variant;
      return {
        shader: registerShader,
        constants: { LANES_M: lanesM, LANES_N: lanesN },
        vectors: '',
        rows: 8 * lanesM,
        columns: 8 * lanesN,
        depth: 16,
        wantedWorkgroups: 8,
        minSplitDepth: 256,
      };
    }
    case 'subgroup':
      return {
        shader: subgroupShader,
        constants: { LANES_8: variant.lanes === 8 },
        vectors: 'B',
        rows: 16,
        columns: 32,
        depth: 16,
        wantedWorkgroups: 8,
        minSplitDepth: 256,
      };
    case 'workgroup': {
      const { tileM, tileN, tileK, threadM, threadN } = variant;
      const invocations = (tileM / threadM) * (tileN / threadN);
      return {
        shader: workgroupShader,
        constants: {
          TILE_M: tileM,
          TILE_N: tileN,
          TILE_K: tileK,
          THREAD_M: threadM,
          THREAD_N: threadN,
          TWO_BLOCKS_M: threadM === 8,
          TWO_BLOCKS_N: threadN === 8,
        },
        vectors: 'ABC',
        rows: tileM,
        columns: tileN,
        depth: tileK,
        wantedWorkgroups: wantedInvocations / invocations,
        // Few rows have few partial sums.
        minSplitDepth: tileM > 16 ? 128 : 64,
      };
    }
  }
}

const maxPartialBytes = 64 * 2 ** 20;
/** Of the kernels that add partial sums and that pack rows. */
const invocationsPerWorkgroup = 64;
/** From this many rows of C on, packing B costs a software adapter less than reading it by scalars (up to 1.9 times as long). */
const minPackedRows = 64;

/** A grid of at least `count` workgroups that stays within the limit of one dimension. */
export function workgroupGrid(count: number, adapter: AdapterProfile): readonly [number, number, number] {
  const y = Math.ceil(count / adapter.maxWorkgroupsPerDimension);
  return [Math.ceil(count / y), y, 1];
}

interface Packed {
  readonly matrix: MatrixRef;
  readonly words: number;
  readonly dispatch: Dispatch;
}

/** B with rows of whole quads, in scratch memory from `offsetElements` on. */
function packed({ form, n, k, b }: MatmulPlan, adapter: AdapterProfile, scratchIndex: number, offsetElements: number): Packed {
  const [rows, columns] = form === 'NT' ? [n, k] : [k, n];
  const rowElements = Math.ceil(columns / 4) * 4;
  const words = (rows * rowElements) / (b.dtype === 'f16' ? 2 : 1);
  const ref: BindingRef = { kind: 'scratch', index: scratchIndex, offsetElements, lengthElements: words };
  const dispatch: Dispatch = {
    label: `matmul pack ${rows}×${columns}`,
    shader: packShader,
    entryPoint: 'main',
    constants: { B_TYPE: b.dtype },
    bindings: [b.ref, ref],
    uniform: [rows, columns, b.rowElements, rowElements],
    workgroups: workgroupGrid(Math.ceil((rows * rowElements) / 4 / invocationsPerWorkgroup), adapter),
  };
  return { matrix: { ref, dtype: b.dtype, rowElements }, words, dispatch };
}

/** What pads rows may be NaN, and past the depth it would be multiplied, if only by zero. */
function hasWholeQuads({ form, k, b }: MatmulPlan): boolean {
  return b.rowElements % 4 === 0 && (form !== 'NT' || k % 4 === 0);
}

/**
 * The dispatches of a product. With a split depth the first scratch region holds the partial sums, which are added in a
 * fixed order, so that the same inputs give the same bits; behind them, B in whole quads where the kernel gains by that.
 * `scratchIndex` is where the caller puts that region.
 */
export function lowerMatmul(plan: MatmulPlan, adapter: AdapterProfile, scratchIndex = 0): Lowering {
  const { form, m, n, k, a, c, residual, accumulate } = plan;
  const tiling = tilingFor(adapter.matmul[shapeClassOf(m, n)]);
  const [gridX, gridY] = [Math.ceil(n / tiling.columns), Math.ceil(m / tiling.rows)];
  invariant(
    Math.max(gridX, gridY) <= adapter.maxWorkgroupsPerDimension,
    () => `a product of ${m}×${n} is too large for one dispatch on ${adapter.name}`,
  );
  const maxPartialElements = Math.min(maxPartialBytes, adapter.maxStorageBufferBindingBytes) / 4;
  const wanted = Math.min(
    Math.ceil(tiling.wantedWorkgroups / (gridX * gridY)),
    Math.floor(k / tiling.minSplitDepth),
    Math.floor(maxPartialElements / (m * n)),
  );
  const depthPerSplit = Math.ceil(k / Math.max(wanted, 1) / tiling.depth) * tiling.depth;
  const splits = Math.ceil(k / depthPerSplit);

  const partialElements = splits > 1 ? splits * m * n : 0;
  const partials: MatrixRef = {
    ref: { kind: 'scratch', index: scratchIndex, lengthElements: partialElements },
    dtype: 'f32',
    rowElements: n,
  };
  const packs = tiling.vectors === 'B' && !hasWholeQuads(plan) && m >= minPackedRows;
  const packedB = packs ? packed(plan, adapter, scratchIndex, Math.ceil(partialElements / alignmentElements) * alignmentElements) : null;
  const b = packedB?.matrix ?? plan.b;
  const target = splits > 1 ? partials : c;
  const epilogue = { ACCUMULATE: accumulate, RESIDUAL: residual !== undefined };
  const residualBinding = residual ? [residual] : [];
  const types = { A_TYPE: a.dtype, B_TYPE: b.dtype, C_TYPE: target.dtype };
  const size = `${form} ${m}×${n}×${k}`;
  const product: Dispatch = {
    label: `matmul ${size}`,
    shader: tiling.shader,
    entryPoint: 'main',
    constants: {
      ...tiling.constants,
      ...types,
      A_BY_COLUMN: form === 'TN',
      B_BY_COLUMN: form === 'NT',
      ...(tiling.vectors.includes('A') && { VECTOR_A: a.rowElements % 4 === 0 }),
      ...(tiling.vectors.includes('B') && { VECTOR_B: packs || hasWholeQuads(plan) }),
      ...(tiling.vectors.includes('C') && { VECTOR_C: target.rowElements % 4 === 0 && n % 4 === 0 }),
      ...(splits > 1 ? { ACCUMULATE: false, RESIDUAL: false } : epilogue),
    },
    bindings: [a.ref, b.ref, target.ref, ...(splits > 1 ? [] : residualBinding)],
    uniform: [m, n, k, a.rowElements, b.rowElements, target.rowElements, depthPerSplit],
    workgroups: [gridX, gridY, splits],
    flops: 2 * m * n * k,
  };
  const before = packedB ? [packedB.dispatch] : [];
  const scratchElements = packedB ? [(packedB.matrix.ref.offsetElements ?? 0) + packedB.words] : splits > 1 ? [partialElements] : [];
  if (splits === 1) return { dispatches: [...before, product], scratchElements };
  const sum: Dispatch = {
    label: `matmul sum ${size}`,
    shader: splitSumShader,
    entryPoint: 'main',
    constants: { C_TYPE: c.dtype, ...epilogue },
    bindings: [partials.ref, c.ref, ...residualBinding],
    uniform: [m, n, c.rowElements, splits],
    workgroups: workgroupGrid(Math.ceil((m * n) / invocationsPerWorkgroup), adapter),
  };
  return { dispatches: [...before, product, sum], scratchElements };
}
