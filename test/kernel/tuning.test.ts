/** What the choice of matmul variants measures and refuses on a real adapter, and which engines ask for it. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Engine, TuningStore } from '../../src/engine/index.ts';
import { sameForAll, variantName } from '../../src/engine/matmul-variants.ts';
import type { MatmulVariant } from '../../src/engine/matmul-variants.ts';
import { kernelSetVersion } from '../../src/engine/tuning.ts';
import { probeOf } from '../../src/engine/tuning-probe.ts';
import { freshEngine } from './harness.ts';

const register: MatmulVariant = { kind: 'register', lanesM: 4, lanesN: 4 };

let engine: Engine;
beforeAll(async () => {
  engine = await freshEngine();
});
afterAll(() => {
  engine.destroy();
});

test('a variant that works takes some time', async () => {
  expect(await probeOf(engine)(register, 'skinny')).toBeGreaterThan(0);
});

test('a variant whose results are wrong here has no time', async () => {
  // Twelve invocations across don't fill patches of eight: the last third of its columns is nobody's.
  const wrong: MatmulVariant = { kind: 'workgroup', tileM: 48, tileN: 48, tileK: 12, threadM: 4, threadN: 4 };
  expect(await probeOf(engine)(wrong, 'skinny')).toBeNull();
});

test('a variant that does not compile here throws', async () => {
  const tooLarge: MatmulVariant = { kind: 'workgroup', tileM: 256, tileN: 256, tileK: 32, threadM: 8, threadN: 8 };
  await expect(probeOf(engine)(tooLarge, 'skinny')).rejects.toThrow(/matmul/);
});

test('an engine takes the remembered variants, on a software adapter only when told to', async () => {
  const names = Object.fromEntries(Object.entries(sameForAll(register)).map(([shapeClass, variant]) => [shapeClass, variantName(variant)]));
  const asked: string[] = [];
  const store: TuningStore = {
    load(key) {
      asked.push(key);
      return Promise.resolve({ version: kernelSetVersion, choice: names });
    },
    save: () => Promise.reject(new Error('nothing was measured')),
  };
  const untuned = await freshEngine({ forceKernels: 'software', tuning: { store } });
  expect(asked).toEqual([]);
  const tuned = await freshEngine({ forceKernels: 'software', tuning: { store, includesSoftware: true } });
  expect(asked).toHaveLength(1);
  expect(tuned.profile.matmul).toEqual(sameForAll(register));
  untuned.destroy();
  tuned.destroy();
});
