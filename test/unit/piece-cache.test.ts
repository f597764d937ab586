import 'fake-indexeddb/auto';
import { expect, it } from 'vitest';
import { openPieceCache } from '../../src/checkpoint/piece-cache.ts';

const bytesOf = (...values: readonly number[]): ArrayBuffer => Uint8Array.from(values).buffer;

it('pieces are kept by their hashes, also for the next visit, and those of another replica are forgotten', async () => {
  const cache = openPieceCache();
  cache.keep('a', bytesOf(1, 2));
  cache.keep('b', bytesOf(3));
  const again = openPieceCache();
  expect(await again.known(['a', 'b', 'c'])).toEqual(new Map([['a', bytesOf(1, 2)], ['b', bytesOf(3)]]));
  expect([...(await again.known(['b', 'c'])).keys()]).toEqual(['b']);
  expect([...(await again.known(['a', 'b'])).keys()]).toEqual(['b']);
  await again.clear();
  expect((await again.known(['b'])).size).toBe(0);
});
