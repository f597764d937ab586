import 'fake-indexeddb/auto';
import { expect, it } from 'vitest';
import { openBestWeights } from '../../src/checkpoint/best-weights.ts';

const best = (room: string, step: number, ...values: readonly number[]) => ({ room, step, loss: 1 / (1 + step), savedAtMs: step, weights: Float32Array.from(values).buffer });

it('the best weights of a room replace those before, whatever their size, and are there for the next visit', async () => {
  const store = openBestWeights();
  await store.save(best('a', 1, 1, 2, 3));
  await store.save(best('b', 7, 9));
  await store.save(best('a', 2, 4));
  const again = openBestWeights();
  expect(await again.load('a')).toEqual(best('a', 2, 4));
  expect(await again.facts('a')).toEqual({ room: 'a', step: 2, loss: 1 / 3, savedAtMs: 2, bytes: 4 });
  await again.remove('a');
  expect(await again.load('a')).toBeNull();
  expect(await again.facts('a')).toBeNull();
  expect(await again.load('b')).toEqual(best('b', 7, 9));
});

it('weights of many pieces come back whole', async () => {
  const store = openBestWeights();
  const weights = new ArrayBuffer(40 * 2 ** 20);
  new Uint32Array(weights).forEach((_, index, all) => {
    all[index] = index * 2_654_435_761;
  });
  await store.save({ room: 'large', step: 3, loss: 2, savedAtMs: 1, weights });
  const loaded = await store.load('large');
  expect(Buffer.compare(Buffer.from(loaded?.weights ?? new ArrayBuffer(0)), Buffer.from(weights))).toBe(0);
});
