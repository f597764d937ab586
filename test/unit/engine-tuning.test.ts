/** The choice of matmul variants by given timings, and what is remembered of it. */
import { describe, expect, test } from 'vitest';
import { candidateVariants, defaultChoice, runnableVariants, variantName } from '../../src/engine/matmul-variants.ts';
import type { MatmulChoice } from '../../src/engine/matmul-variants.ts';
import { chooseVariants, kernelSetVersion, tunedChoice, tuningKey } from '../../src/engine/tuning.ts';
import type { MeasureVariant, TuningStore } from '../../src/engine/tuning.ts';

const gpu = { isSoftware: false, subgroupSize: 32 };
const candidates = candidateVariants(gpu);
const standing = () => 0;

const names = ({ large, small, skinny }: MatmulChoice) => [large, small, skinny].map(variantName);
/** The last candidate of each class is the fastest. */
const lastIsFastest: MeasureVariant = (variant, shapeClass) => Promise.resolve(100 - candidates[shapeClass].indexOf(variant));
const lasts = Object.values(candidates).map((ofClass) => variantName(ofClass.at(-1) ?? ofClass[0]));

class MemoryStore implements TuningStore {
  readonly values = new Map<string, unknown>();
  load(key: string): Promise<unknown> {
    return Promise.resolve(this.values.get(key));
  }
  save(key: string, value: object): Promise<void> {
    this.values.set(key, value);
    return Promise.resolve();
  }
}

/** Measures as `lastIsFastest` and counts. */
function counting(): { readonly measure: MeasureVariant; readonly count: () => number } {
  let count = 0;
  return {
    measure: (variant, shapeClass) => {
      count++;
      return lastIsFastest(variant, shapeClass);
    },
    count: () => count,
  };
}

describe('the choice', () => {
  test('is the fastest candidate of each class', async () => {
    const { choice, isSound } = await chooseVariants(candidates, lastIsFastest, standing);
    expect(names(choice)).toEqual(lasts);
    expect(isSound).toBe(true);
  });

  test('is never a candidate that fails, be it the default', async () => {
    const failing: MeasureVariant = (variant, shapeClass) => Promise.resolve(variant === candidates[shapeClass][0] ? null : 5);
    const { choice } = await chooseVariants(candidates, failing, standing);
    expect(names(choice)).toEqual(Object.values(candidates).map(([, second]) => second && variantName(second)));
  });

  test('is the default where everything fails, and that is not remembered', async () => {
    const store = new MemoryStore();
    const choice = await tunedChoice('key', gpu, { store }, () => Promise.resolve(null));
    expect(names(choice)).toEqual(names(defaultChoice(gpu)));
    expect(store.values.size).toBe(0);
  });

  test('takes the default for what no time is left for', async () => {
    let nowMs = 0;
    const slow: MeasureVariant = (variant, shapeClass) => {
      nowMs += 1000;
      return lastIsFastest(variant, shapeClass);
    };
    const { choice, isSound } = await chooseVariants(candidates, slow, () => nowMs);
    expect(names(choice)).toEqual([lasts[0], ...names(defaultChoice(gpu)).slice(1)]);
    expect(isSound).toBe(true);
  });

  test('says how far it is', async () => {
    const seen: number[] = [];
    const total = Object.values(candidates).flat().length;
    await chooseVariants(candidates, lastIsFastest, standing, (done, of) => seen.push(done / of));
    expect(seen).toEqual(Array.from({ length: total }, (_, index) => index / total));
  });
});

describe('what is remembered', () => {
  test('saves the second opening every measurement', async () => {
    const store = new MemoryStore();
    const [first, second] = [counting(), counting()];
    await tunedChoice('key', gpu, { store }, first.measure);
    expect(first.count()).toBeGreaterThan(0);
    // As it comes back from a file.
    store.values.set('key', JSON.parse(JSON.stringify(store.values.get('key'))));
    expect(names(await tunedChoice('key', gpu, { store }, second.measure))).toEqual(lasts);
    expect(second.count()).toBe(0);
  });

  test.each<[string, unknown]>([
    ['of an older version', { version: kernelSetVersion - 1, choice: { large: lasts[0], small: lasts[1], skinny: lasts[2] } }],
    ['naming a variant that is no candidate', { version: kernelSetVersion, choice: { large: 'register 4×4', small: lasts[1], skinny: lasts[2] } }],
    ['lacking a class', { version: kernelSetVersion, choice: { large: lasts[0], small: lasts[1] } }],
    ['that is no object', 'workgroup'],
    ['without a choice', { version: kernelSetVersion }],
  ])('is measured again when it is something %s', async (_what, stored) => {
    const store = new MemoryStore();
    store.values.set('key', stored);
    const { measure, count } = counting();
    expect(names(await tunedChoice('key', gpu, { store }, measure))).toEqual(lasts);
    expect(count()).toBeGreaterThan(0);
    expect(store.values.get('key')).toMatchObject({ version: kernelSetVersion });
  });

  test('is done without when the store fails', async () => {
    const broken: TuningStore = {
      load: () => Promise.reject(new Error('no storage')),
      save: () => Promise.reject(new Error('no storage')),
    };
    expect(names(await tunedChoice('key', gpu, { store: broken }, lastIsFastest))).toEqual(lasts);
  });

  test('belongs to one adapter with its features', () => {
    const info = { vendor: 'v', architecture: 'a', device: 'd', description: 'x' } as GPUAdapterInfo;
    const key = tuningKey(info, ['subgroups', 'shader-f16']);
    expect(tuningKey(info, ['shader-f16', 'subgroups'])).toBe(key);
    const others = [tuningKey({ ...info, device: 'e' }, ['subgroups', 'shader-f16']), tuningKey(info, ['subgroups'])];
    expect(others).not.toContain(key);
  });
});

test('every variant fits the default limits, and its lanes fill the patches they are laid out in', () => {
  for (const variant of runnableVariants(8)) {
    if (variant.kind !== 'workgroup') continue;
    const { tileM, tileN, tileK, threadM, threadN } = variant;
    const name = variantName(variant);
    const [across, down] = [tileN / threadN, tileM / threadM];
    expect(across * down, `${name}: invocations`).toBeLessThanOrEqual(256);
    expect(((tileM / 4 + 1 + (tileN / 4 + 1)) * (tileK / 4) * 4 * 16) / 1024, `${name}: KiB of workgroup memory`).toBeLessThanOrEqual(16);
    expect([across % 8, down % 4], `${name}: patches of 8×4 invocations`).toEqual([0, 0]);
    const loads = [tileM, tileN].map((side) => (side * tileK) / 4 / (across * down));
    expect(loads.every(Number.isInteger), `${name}: the same number of loads for every invocation`).toBe(true);
  }
});
