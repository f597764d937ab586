import { expect, it } from 'vitest';
import { forgetHolder, holderOf } from '../../src/session/memory.ts';

/** There is no IndexedDB here, as in a browser that forbids it. */
it('a room’s secret stays the same for as long as the page is open, also where nothing can be stored', async () => {
  const [first, again, other] = [await holderOf('room-one'), await holderOf('room-one'), await holderOf('room-two')];
  expect(again).toBe(first);
  expect(other).not.toBe(first);
});

it('a room that was forgotten gets another secret', async () => {
  const before = await holderOf('room-three');
  await forgetHolder('room-three').catch(() => undefined); // The store refuses; the page forgets all the same.
  expect(await holderOf('room-three')).not.toBe(before);
});
