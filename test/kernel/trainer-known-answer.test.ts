/**
 * The numbers that the device check compares with: what the f64 interpreter computes for the known model. After a change
 * of the known model or of what an op means, `REMAKE_KNOWN_ANSWER=1 npx vitest run --project kernel
 * test/kernel/trainer-known-answer.test.ts` writes them anew.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { interpret } from '../../src/engine/interpreter.ts';
import { trainingGraph } from '../../src/model/decoder.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import {
  condense,
  firstDifference,
  knownContextLength,
  knownDropoutSeed,
  knownModel,
  knownRowCount,
  knownRows,
  knownWeights,
} from '../../src/trainer/known-answer.ts';
import type { KnownAnswer } from '../../src/trainer/known-answer.ts';

const file = fileURLToPath(new URL('../../src/trainer/known-answer.json', import.meta.url));

/** Far more than the check needs, few enough to keep the file small and stable from machine to machine. */
const storedDigits = 9;

function interpretedAnswer(): KnownAnswer {
  const layout = parameterLayoutOf(knownModel);
  const weights = knownWeights(layout);
  const rows = knownRows();
  const graph = trainingGraph(knownModel, knownRowCount, knownContextLength);
  const { gradients, totals } = interpret(graph, {
    parameters: new Map(
      layout.entries.map(({ name, offsetElements, lengthElements }) => [
        name,
        Float64Array.from(weights.subarray(offsetElements, offsetElements + lengthElements)),
      ]),
    ),
    inputs: new Map([
      ['ids', Float64Array.from(rows.inputIds)],
      ['targets', Float64Array.from(rows.targets)],
      ['lossWeights', Float64Array.from(rows.lossWeights)],
      ['seed', Float64Array.from(knownDropoutSeed)],
    ]),
  });
  const flat = new Float64Array(layout.totalElements);
  for (const { name, offsetElements } of layout.entries) flat.set(gradients.get(name) ?? [], offsetElements);
  return condense(layout, totals.get('loss') ?? Number.NaN, flat);
}

function rounded(answer: KnownAnswer): string {
  const round = (_: string, value: unknown): unknown =>
    typeof value === 'number' ? Number(value.toPrecision(storedDigits)) : value;
  return `${JSON.stringify(answer, round, 1)}\n`;
}

test('the stored known answer is what the f64 interpreter computes', () => {
  const answer = interpretedAnswer();
  if (process.env['REMAKE_KNOWN_ANSWER'] === '1') writeFileSync(file, rounded(answer));
  expect(rounded(JSON.parse(readFileSync(file, 'utf8')) as KnownAnswer)).toBe(rounded(answer));
});

test('every tensor of the known model has a gradient that a wrong kernel would change', () => {
  const answer = interpretedAnswer();
  for (const { name, norm } of answer.tensors) expect(norm, name).toBeGreaterThan(0.01);
});

test('one element in a thousand misplaced is noticed', () => {
  const answer = interpretedAnswer();
  const changed = (change: (value: number, norm: number) => number): KnownAnswer => ({
    ...answer,
    tensors: answer.tensors.map((tensor) => ({
      ...tensor,
      projections: tensor.projections.map((value) => change(value, tensor.norm)),
    })),
  });
  expect(firstDifference(answer, changed((value) => value * (1 + 1e-6)), 'f32')).toBeNull();
  // A typical element is norm / √count; two in the wrong place move a projection by about √2 of that.
  expect(firstDifference(answer, changed((value, norm) => value + (norm * Math.SQRT2) / Math.sqrt(4000)), 'f32')).not.toBeNull();
  expect(firstDifference(answer, changed(() => Number.NaN), 'f32')).not.toBeNull();
});
