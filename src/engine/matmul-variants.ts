/**
 * The kernels that a matrix product may run on, as data: which there are, which an adapter can run, and which it is given
 * until somebody measures (`tuning.ts`). How a variant becomes a dispatch is in `ops/matmul-lowering.ts`.
 */

/** Keeps its tile in registers and shares nothing: software adapters without subgroups. */
export interface RegisterVariant {
  readonly kind: 'register';
  /** Invocations of a workgroup along M and N; each owns 8×8 elements. */
  readonly lanesM: number;
  readonly lanesN: number;
}

/** The lanes of one subgroup, which must have this size, hand each other what they load: software adapters. */
export interface SubgroupVariant {
  readonly kind: 'subgroup';
  readonly lanes: 4 | 8;
}

/** A workgroup copies tiles into workgroup memory: GPUs. An invocation owns threadM × threadN elements. */
export interface WorkgroupVariant {
  readonly kind: 'workgroup';
  readonly tileM: number;
  readonly tileN: number;
  readonly tileK: number;
  readonly threadM: 4 | 8;
  readonly threadN: 4 | 8;
}

export type MatmulVariant = RegisterVariant | SubgroupVariant | WorkgroupVariant;

/**
 * Products are told apart by what limits them: few rows (reading B), a result too small to fill a GPU with large tiles, and
 * all others.
 */
export const shapeClasses = ['large', 'small', 'skinny'] as const;
export type ShapeClass = (typeof shapeClasses)[number];

/** The variant for each class of shapes. */
export type MatmulChoice = Readonly<Record<ShapeClass, MatmulVariant>>;

const skinnyRows = 16;
/** Elements of C: 128 tiles of 128×128. */
const largeElements = 2 ** 21;

export function shapeClassOf(m: number, n: number): ShapeClass {
  if (m <= skinnyRows) return 'skinny';
  return m * n >= largeElements ? 'large' : 'small';
}

const register: RegisterVariant = { kind: 'register', lanesM: 4, lanesN: 4 };

/**
 * GPUs choose among these by measurement. Registers are as Mesa's compiler for RDNA 2 counts them (32 lanes, no spills).
 *
 * Most products for each load from workgroup memory: 16 quads for 256 of them. 128 registers.
 */
const widest: WorkgroupVariant = { kind: 'workgroup', tileM: 128, tileN: 128, tileK: 8, threadM: 8, threadN: 8 };
/** A quarter of the tile in 72 registers: for results with fewer tiles, and GPUs with fewer registers. */
const middle: WorkgroupVariant = { kind: 'workgroup', tileM: 64, tileN: 64, tileK: 16, threadM: 8, threadN: 4 };
/** Many small workgroups: 64 registers. */
const narrow: WorkgroupVariant = { kind: 'workgroup', tileM: 32, tileN: 32, tileK: 16, threadM: 4, threadN: 4 };
/** Few rows: reads B once, 64 bytes of a row at a time, five loads under way in each of its 64 invocations. */
const flat: WorkgroupVariant = { kind: 'workgroup', tileM: 16, tileN: 64, tileK: 16, threadM: 4, threadN: 4 };

const forGpus = { large: [widest, middle], small: [middle, narrow], skinny: [flat, narrow] } as const;

/** What of an adapter decides which variants it can run. */
export interface VariantLimits {
  readonly isSoftware: boolean;
  readonly subgroupSize: number;
}

/** The first is the default. */
export type Candidates = readonly [MatmulVariant, ...MatmulVariant[]];

/** What an adapter chooses from. */
export function candidateVariants(adapter: VariantLimits): Readonly<Record<ShapeClass, Candidates>> {
  if (!adapter.isSoftware) return forGpus;
  const { subgroupSize: lanes } = adapter;
  const software: Candidates = lanes === 4 || lanes === 8 ? [{ kind: 'subgroup', lanes }, register] : [register];
  return { large: software, small: software, skinny: software };
}

/** Sound without a measurement. */
export function defaultChoice(adapter: VariantLimits): MatmulChoice {
  const { large, small, skinny } = candidateVariants(adapter);
  return { large: large[0], small: small[0], skinny: skinny[0] };
}

export function sameForAll(variant: MatmulVariant): MatmulChoice {
  return { large: variant, small: variant, skinny: variant };
}

/** Every variant that this adapter can run, whether it suits it or not: for tests and benchmarks. */
export function runnableVariants(subgroupSize: number): readonly MatmulVariant[] {
  const all = [true, false].flatMap((isSoftware) => Object.values(candidateVariants({ isSoftware, subgroupSize })).flat());
  return [...new Map(all.map((variant) => [variantName(variant), variant])).values()];
}

/** Names a variant for people and in what is stored; different variants have different names. */
export function variantName(variant: MatmulVariant): string {
  switch (variant.kind) {
    case 'register':
      return `register ${variant.lanesM}×${variant.lanesN}`;
    case 'subgroup':
      return `subgroup of ${variant.lanes}`;
    case 'workgroup':
      return `workgroup ${variant.tileM}×${variant.tileN}×${variant.tileK} of ${variant.threadM}×${variant.threadN}`;
  }
}
