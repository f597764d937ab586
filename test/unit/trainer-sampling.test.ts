import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sampleTokens, windowStart } from '../../src/trainer/sampling.ts';
import type { NextLogits } from '../../src/trainer/sampling.ts';

const limits = { capacity: 6, vocabularySize: 4 };
const greedy = { maxNewTokens: 5, temperature: 0, seed: 1 };

/** A model that expects the token after the last one, and notes the windows it is shown. */
function counting(windows: number[][] = []): NextLogits {
  return (ids, start) => {
    windows.push(ids.slice(start));
    const next = ((ids.at(-1) ?? 0) + 1) % limits.vocabularySize;
    return Promise.resolve(Float32Array.from({ length: limits.vocabularySize }, (_, id) => (id === next ? 3 : 0)));
  };
}

describe('sampling', () => {
  test('greedily takes the likeliest token each time, and tells of each as it comes', async () => {
    const told: number[] = [];
    const drawn = (id: number): void => void told.push(id);
    expect(await sampleTokens({ ...greedy, promptIds: [2] }, limits, counting(), { drawn })).toEqual({ ids: [3, 0, 1, 2, 3], end: 'length' });
    expect(told).toEqual([3, 0, 1, 2, 3]);
  });

  test('ends with a stop id, which is the last token', async () => {
    expect(await sampleTokens({ ...greedy, promptIds: [2], stopIds: [1] }, limits, counting())).toEqual({ ids: [3, 0, 1], end: 'stop-id' });
  });

  test('ends where it is told to', async () => {
    let tokens = 0;
    const steering = { drawn: () => void tokens++, isStopped: () => tokens === 2 };
    expect(await sampleTokens({ ...greedy, promptIds: [2] }, limits, counting(), steering)).toEqual({ ids: [3, 0], end: 'stopped' });
  });

  test('never shows the model more than the context, and always the last tokens', async () => {
    const windows: number[][] = [];
    await sampleTokens({ ...greedy, promptIds: [0, 1, 2, 3, 0] }, limits, counting(windows));
    expect(windows.map((window) => window.length)).toEqual([5, 6, 4, 5, 6]);
    expect(windows.at(-1)).toEqual([3, 0, 1, 2, 3, 0]);
  });

  test('a window holds more than half the context, and moves only when it is full', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 500 }), (capacity, count) => {
        const start = windowStart(count, capacity);
        expect(count - start).toBeLessThanOrEqual(capacity);
        expect(count - start).toBeGreaterThanOrEqual(Math.min(count, Math.ceil(capacity / 2)));
        const next = windowStart(count + 1, capacity);
        expect(next === start || count - start === capacity).toBe(true);
      }),
    );
  });

  test('with a temperature follows the softmax, and the same seed draws the same tokens', async () => {
    const request = { promptIds: [0], maxNewTokens: 4000, temperature: 1, seed: 7 };
    const even: NextLogits = () => Promise.resolve(Float32Array.from([0, Math.log(3), 0, -Infinity]));
    const { ids } = await sampleTokens(request, limits, even);
    const share = (id: number): number => ids.filter((drawn) => drawn === id).length / ids.length;
    expect(share(1)).toBeCloseTo(0.6, 1);
    expect(share(0)).toBeCloseTo(0.2, 1);
    expect(share(3)).toBe(0);
    expect((await sampleTokens(request, limits, even)).ids).toEqual(ids);
    expect((await sampleTokens({ ...request, seed: 8 }, limits, even)).ids).not.toEqual(ids);
  });

  test.each([
    [{ promptIds: [] }, 'at least one token'],
    [{ promptIds: [4] }, 'token 4'],
    [{ promptIds: [-1] }, 'token -1'],
    [{ promptIds: [0.5] }, 'token 0.5'],
    [{ promptIds: [0], stopIds: [9] }, 'stop ids holds token 9'],
    [{ promptIds: [0], topP: 2 }, 'top-p'],
    [{ promptIds: [0], maxNewTokens: -1 }, 'maxNewTokens'],
  ])('%j is refused', async (request, what) => {
    await expect(sampleTokens({ ...greedy, ...request }, limits, counting())).rejects.toThrow(what);
  });
});
