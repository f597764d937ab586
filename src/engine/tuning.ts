/**
 * Which variant of the matrix product serves which shapes on an adapter: measured once, remembered, checked when read
 * back. Decides from timings and stored values alone; `tuning-probe.ts` takes the timings.
 */
import { candidateVariants, shapeClasses, variantName } from './matmul-variants.ts';
import type { Candidates, MatmulChoice, MatmulVariant, ShapeClass, VariantLimits } from './matmul-variants.ts';

/** Where results are kept between visits. Values are plain JSON; what `load` gives is not trusted. */
export interface TuningStore {
  load(key: string): Promise<unknown>;
  save(key: string, value: object): Promise<void>;
}

export interface TuningOptions {
  /** Without one, or when it fails, every engine that is opened measures. */
  readonly store?: TuningStore;
  /** Called before each measurement, of which there are `total` at most. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Measures software adapters too, whose pipelines compile for seconds and which have a known answer; for tests. */
  readonly includesSoftware?: boolean;
}

/** Milliseconds for the products of a class on a variant; null when it can't run or gives wrong or non-finite results. */
export type MeasureVariant = (variant: MatmulVariant, shapeClass: ShapeClass) => Promise<number | null>;

/** Goes up when a kernel, a candidate, a class or what is measured changes: what was stored before is measured again. */
export const kernelSetVersion = 1;

/** No further variant is measured after this. */
const budgetMs = 1500;

type CandidatesByClass = Readonly<Record<ShapeClass, Candidates>>;

interface StoredTuning {
  readonly version: number;
  readonly choice: Readonly<Record<ShapeClass, string>>;
}

/** What a result belongs to: the GPU, its driver as far as it is told, and what of it the kernels use. */
export function tuningKey(info: GPUAdapterInfo, features: Iterable<string>): string {
  const driver = 'driver' in info && typeof info.driver === 'string' ? info.driver : '';
  return ['matmul', info.vendor, info.architecture, info.device, info.description, driver, [...features].sort().join()].join(' | ');
}

/**
 * The fastest variant of each class. A candidate that fails is not chosen while another works; a class without a measured
 * candidate, because all failed or no time was left, gets its default. `isSound`: in no class have all of them failed, which
 * says more of the moment (a lost device) than of the variants, and is not worth keeping.
 */
export async function chooseVariants(
  candidates: CandidatesByClass,
  measure: MeasureVariant,
  now: () => number,
  onProgress: (done: number, total: number) => void = () => undefined,
): Promise<{ readonly choice: MatmulChoice; readonly isSound: boolean }> {
  const startMs = now();
  const total = shapeClasses.reduce((sum, shapeClass) => sum + candidates[shapeClass].length, 0);
  let done = 0;
  let isSound = true;
  const fastest = async (shapeClass: ShapeClass): Promise<MatmulVariant> => {
    let best: { readonly variant: MatmulVariant; readonly ms: number } | null = null;
    let failed = 0;
    for (const variant of candidates[shapeClass]) {
      onProgress(done++, total);
      if (now() - startMs >= budgetMs) continue;
      const ms = await measure(variant, shapeClass);
      if (ms === null) failed++;
      else if (best === null || ms < best.ms) best = { variant, ms };
    }
    isSound &&= best !== null || failed === 0;
    return best?.variant ?? candidates[shapeClass][0];
  };
  const choice = { large: await fastest('large'), small: await fastest('small'), skinny: await fastest('skinny') };
  return { choice, isSound };
}

/** The stored choice, or a fresh one, which is stored. A store that fails costs a measurement, never the engine. */
export async function tunedChoice(
  key: string,
  adapter: VariantLimits,
  options: TuningOptions,
  measure: MeasureVariant,
  now: () => number = () => performance.now(),
): Promise<MatmulChoice> {
  const candidates = candidateVariants(adapter);
  const stored = await options.store?.load(key).catch(() => undefined);
  const known = parseStored(stored, candidates);
  if (known) return known;
  const { choice, isSound } = await chooseVariants(candidates, measure, now, options.onProgress);
  if (isSound) await options.store?.save(key, storable(choice)).catch(() => undefined);
  return choice;
}

function storable({ large, small, skinny }: MatmulChoice): StoredTuning {
  return { version: kernelSetVersion, choice: { large: variantName(large), small: variantName(small), skinny: variantName(skinny) } };
}

/** Null for what an older version stored, for what names a variant that is no candidate, and for anything else. */
function parseStored(stored: unknown, candidates: CandidatesByClass): MatmulChoice | null {
  if (!isRecord(stored) || stored['version'] !== kernelSetVersion) return null;
  const { choice } = stored;
  if (!isRecord(choice)) return null;
  const named = (shapeClass: ShapeClass): MatmulVariant | undefined =>
    candidates[shapeClass].find((variant) => variantName(variant) === choice[shapeClass]);
  const [large, small, skinny] = [named('large'), named('small'), named('skinny')];
  return large && small && skinny ? { large, small, skinny } : null;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
