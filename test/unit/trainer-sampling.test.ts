import { describe, expect, test } from 'vitest';
import { drawToken, paddedLength, sampleTokens } from '../../src/trainer/sampling.ts';

const limits = { contextLength: 6, vocabularySize: 4 };

/** A model that expects the token after the last one, and notes the windows it is shown. */
function counting(windows: number[][] = []) {
  return (window: readonly number[]): Promise<Float32Array> => {
    windows.push([...window]);
    const next = ((window.at(-1) ?? 0) + 1) % limits.vocabularySize;
    return Promise.resolve(Float32Array.from({ length: limits.vocabularySize }, (_, id) => (id === next ? 3 : 0)));
  };
}

describe('sampling', () => {
  test('greedily takes the likeliest token each time', async () => {
    const ids = await sampleTokens({ promptIds: [2], maxNewTokens: 5, temperature: 0, seed: 1 }, limits, counting());
    expect(ids).toEqual([3, 0, 1, 2, 3]);
  });

  test('never shows the model more than the context, and always the last tokens', async () => {
    const windows: number[][] = [];
    await sampleTokens({ promptIds: [0, 1, 2, 3, 0], maxNewTokens: 4, temperature: 0, seed: 1 }, limits, counting(windows));
    expect(windows.map((window) => window.length)).toEqual([5, 6, 6, 6]);
    expect(windows.at(-1)).toEqual([2, 3, 0, 1, 2, 3]);
  });

  test('with a temperature follows the softmax, and the same seed draws the same tokens', async () => {
    const request = { promptIds: [0], maxNewTokens: 4000, temperature: 1, seed: 7 };
    const even = (): Promise<Float32Array> => Promise.resolve(Float32Array.from([0, Math.log(3), 0, -Infinity]));
    const ids = await sampleTokens(request, limits, even);
    const share = (id: number): number => ids.filter((drawn) => drawn === id).length / ids.length;
    expect(share(1)).toBeCloseTo(0.6, 1);
    expect(share(0)).toBeCloseTo(0.2, 1);
    expect(share(3)).toBe(0);
    expect(await sampleTokens(request, limits, even)).toEqual(ids);
    expect(await sampleTokens({ ...request, seed: 8 }, limits, even)).not.toEqual(ids);
  });

  test('at a low temperature is nearly greedy', () => {
    const logits = Float32Array.from([1, 2, 0]);
    for (const uniform of [0.001, 0.5, 0.99]) expect(drawToken(logits, 0.01, uniform)).toBe(1);
  });

  test.each([[[]], [[4]], [[-1]], [[0.5]]])('of the prompt %j is refused', async (promptIds) => {
    await expect(
      sampleTokens({ promptIds, maxNewTokens: 1, temperature: 0, seed: 1 }, limits, counting()),
    ).rejects.toBeInstanceOf(RangeError);
  });

  test.each([
    [1, 128, 8],
    [8, 128, 8],
    [9, 128, 16],
    [65, 128, 128],
    [70, 100, 100],
    [3, 6, 6],
  ])('%i tokens of a context of %i are computed as %i', (count, context, expected) => {
    expect(paddedLength(count, context)).toBe(expected);
  });
});
