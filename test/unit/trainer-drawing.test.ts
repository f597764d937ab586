import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { drawProblem, drawToken, filteredLogits } from '../../src/trainer/drawing.ts';
import type { DrawSettings } from '../../src/trainer/drawing.ts';

const logitsOf = fc.array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: 1, maxLength: 40 }).map((values) => Float32Array.from(values));
const settingsOf = fc.record({
  temperature: fc.double({ min: 0.05, max: 3, noNaN: true }),
  topK: fc.nat({ max: 45 }),
  topP: fc.double({ min: 0.01, max: 1, noNaN: true }),
  minP: fc.double({ min: 0, max: 1, noNaN: true }),
  repetitionPenalty: fc.double({ min: 0.5, max: 2, noNaN: true }),
});
const uniformOf = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

function probabilities(logits: ArrayLike<number>): number[] {
  const values = Array.from(logits);
  const largest = Math.max(...values);
  const weights = values.map((value) => Math.exp(value - largest));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

const kept = (logits: Float32Array, settings: DrawSettings, occurred: number[] = []): number[] =>
  [...filteredLogits(logits, settings, occurred).entries()].filter(([, score]) => score > -Infinity).map(([id]) => id);

describe('filters of logits', () => {
  test('leave the likeliest and never draw what they forbid', () => {
    fc.assert(
      fc.property(logitsOf, settingsOf, fc.array(fc.nat({ max: 39 })), uniformOf, (logits, settings, occurred, uniform) => {
        const plain = filteredLogits(logits, { temperature: 1, repetitionPenalty: settings.repetitionPenalty }, occurred);
        const allowed = kept(logits, settings, occurred);
        expect(allowed.some((id) => plain[id] === Math.max(...plain))).toBe(true);
        expect(allowed).toContain(drawToken(logits, settings, occurred, uniform));
      }),
    );
  });

  test('top-k leaves exactly k where no two are equal', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: -1000, max: 1000 }), { minLength: 1, maxLength: 30 }), fc.integer({ min: 1, max: 35 }), (values, topK) => {
        expect(kept(Float32Array.from(values), { temperature: 1, topK })).toHaveLength(Math.min(topK, values.length));
      }),
    );
  });

  test('top-p leaves the fewest of the likeliest that reach it', () => {
    fc.assert(
      fc.property(logitsOf, fc.double({ min: 0.01, max: 0.99, noNaN: true }), (logits, topP) => {
        const shares = probabilities(logits);
        const allowed = kept(logits, { temperature: 1, topP });
        const sum = allowed.reduce((total, id) => total + (shares[id] ?? 0), 0);
        const least = Math.min(...allowed.map((id) => shares[id] ?? 0));
        expect(sum).toBeGreaterThanOrEqual(topP - 1e-9);
        if (allowed.length > 1) expect(sum - least).toBeLessThan(topP + 1e-9);
        for (const [id, share] of shares.entries()) if (!allowed.includes(id)) expect(share).toBeLessThanOrEqual(least + 1e-12);
      }),
    );
  });

  test('min-p leaves those at least that share as probable as the likeliest', () => {
    fc.assert(
      fc.property(logitsOf, fc.double({ min: 0.01, max: 0.9, noNaN: true }), (logits, minP) => {
        const shares = probabilities(logits);
        const ratio = shares.map((share) => share / Math.max(...shares));
        const allowed = new Set(kept(logits, { temperature: 1, minP }));
        for (const [id, share] of ratio.entries()) if (Math.abs(share - minP) > 1e-9) expect(allowed.has(id)).toBe(share > minP);
      }),
    );
  });

  test('each sees what the ones before it left: top-p counts among the top k, at the temperature', () => {
    // 0.4, 0.3, 0.2, 0.1: of the first two, 0.57 and 0.43; at temperature ½ 0.64 and 0.36.
    const logits = Float32Array.from([0.4, 0.3, 0.2, 0.1].map(Math.log));
    expect(kept(logits, { temperature: 1, topP: 0.6 })).toEqual([0, 1]);
    expect(kept(logits, { temperature: 1, topK: 2, topP: 0.56 })).toEqual([0]);
    expect(kept(logits, { temperature: 1, topK: 2, topP: 0.62 })).toEqual([0, 1]);
    expect(kept(logits, { temperature: 0.5, topK: 2, topP: 0.62 })).toEqual([0]);
  });

  test('the repetition penalty makes what occurred less likely, once, whatever the sign', () => {
    const scores = filteredLogits(Float32Array.from([3, -3, 1]), { temperature: 1, repetitionPenalty: 2 }, [0, 1, 1, 0]);
    expect([...scores]).toEqual([1.5, -6, 1]);
  });

  test('temperature 0 takes the first of the likeliest, after the penalty', () => {
    const logits = Float32Array.from([1, 3, 3, 2]);
    expect(drawToken(logits, { temperature: 0 }, [], 0.99)).toBe(1);
    expect(drawToken(logits, { temperature: 0, repetitionPenalty: 3, topK: 1 }, [1, 2], 0.99)).toBe(3);
  });

  test('draws follow the softmax of what is left', () => {
    fc.assert(
      fc.property(logitsOf, settingsOf, uniformOf, (logits, settings, uniform) => {
        const shares = probabilities(filteredLogits(logits, settings, []));
        const id = drawToken(logits, settings, [], uniform);
        const before = shares.slice(0, id).reduce((a, b) => a + b, 0);
        expect(uniform).toBeGreaterThan(before - 1e-9);
        expect(uniform).toBeLessThan(before + (shares[id] ?? 0) + 1e-9);
      }),
    );
  });

  test.each([
    [{ temperature: -1 }, 'temperature'],
    [{ temperature: Number.NaN }, 'temperature'],
    [{ temperature: 1, topK: 1.5 }, 'top-k'],
    [{ temperature: 1, topP: 0 }, 'top-p'],
    [{ temperature: 1, minP: 2 }, 'min-p'],
    [{ temperature: 1, repetitionPenalty: 0 }, 'repetition penalty'],
  ])('%j is refused by name', (settings, name) => {
    expect(drawProblem(settings)).toContain(name);
  });
});
