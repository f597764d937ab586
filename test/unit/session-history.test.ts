/** The history as bytes: whole and exact there and back, and refused unless it is what was announced. */
import fc from 'fast-check';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { historyPointSchema } from '../../src/room/messages.ts';
import type { HistoryPoint, Step } from '../../src/room/messages.ts';
import { HistoryError, checksumOf, decodeHistory, encodeHistory } from '../../src/session/history.ts';

const finite = fc.double({ noNaN: true, noDefaultInfinity: true });
const rate = fc.double({ min: 0, noNaN: true, noDefaultInfinity: true });
const hash = fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 16, maxLength: 16 });
const figures = fc.record(
  {
    loss: finite,
    gradNorm: rate,
    lr: rate,
    ms: rate,
    tokens: fc.maxSafeNat(),
    bytesDown: fc.maxSafeNat(),
    bytesUp: fc.maxSafeNat(),
    validationLoss: finite,
    replicaHash: hash,
  },
  { requiredKeys: ['loss', 'gradNorm', 'lr', 'ms', 'tokens', 'bytesDown', 'bytesUp'] },
);
const histories = fc
  .array(fc.record({ figures, gap: fc.nat(3) }), { maxLength: 40 })
  .map((entries) => {
    let step = -1;
    return entries.map(({ figures: each, gap }): HistoryPoint => {
      step += 1 + gap;
      return { ...each, step: step as Step };
    });
  });

const point = (step: number): HistoryPoint => ({ step: step as Step, loss: 1.5, gradNorm: 0.5, lr: 1e-3, ms: 7, tokens: 64, bytesDown: 10, bytesUp: 20, replicaHash: '00ff00ff00ff00ff' });
const three = [point(0), point(1), point(2)];

describe('a history on the wire', () => {
  it('arrives as it was sent, to the last digit', () => {
    fc.assert(
      fc.property(histories, (history) => {
        const { bytes, checksum } = encodeHistory(history);
        const endStep = (history.at(-1)?.step ?? -1) + 1;
        expect(decodeHistory(bytes, { checksum, points: history.length, endStep })).toEqual(history);
      }),
    );
  });

  it('fits one blob for the longest run there is', () => {
    expect((encodeHistory(three).bytes.byteLength / three.length) * 10_000_000).toBeLessThan(2 ** 30);
  });

  it.each<[string, readonly HistoryPoint[], { readonly points?: number; readonly endStep?: number }]>([
    ['fewer points than announced', three, { points: 4 }],
    ['more points than announced', three, { points: 2 }],
    ['a step that the room has not done yet', three, { endStep: 2 }],
    ['the same step twice', [point(0), point(1), point(1)], {}],
    ['steps out of order', [point(1), point(0), point(2)], {}],
    ['a step that is no whole number', [point(0), point(0.5)], {}],
    ['a negative step', [point(-1)], {}],
    ['a loss that is not finite', [{ ...point(0), loss: Number.NaN }], {}],
    ['a validation loss that is not finite', [{ ...point(0), validationLoss: Infinity }], {}],
    ['a negative count', [{ ...point(0), bytesUp: -1 }], {}],
    ['a negative duration', [{ ...point(0), ms: -1 }], {}],
  ])('is refused with %s', (_what, history, expected) => {
    const { bytes, checksum } = encodeHistory(history);
    expect(() => decodeHistory(bytes, { checksum, points: history.length, endStep: 3, ...expected })).toThrow(HistoryError);
  });

  it('is refused when a bit of it is not as it was sent', () => {
    const { bytes, checksum } = encodeHistory(three);
    fc.assert(
      fc.property(fc.nat(8 * bytes.byteLength - 1), (bit) => {
        const damaged = bytes.slice(0);
        const view = new Uint8Array(damaged);
        view[bit >> 3] = (view[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(() => decodeHistory(damaged, { checksum, points: 3, endStep: 3 })).toThrow(HistoryError);
      }),
    );
  });

  it('is valid or refused, whatever bytes somebody makes up', () => {
    const { bytes } = encodeHistory(three);
    const changes = fc.array(fc.record({ at: fc.nat(bytes.byteLength - 1), byte: fc.nat(255) }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(changes, (made) => {
        const view = new Uint8Array(bytes.slice(0));
        for (const { at, byte } of made) view[at] = byte;
        let points: readonly HistoryPoint[];
        try {
          // Whoever makes bytes up can add them up, too.
          points = decodeHistory(view.buffer, { checksum: checksumOf(view.buffer), points: 3, endStep: 3 });
        } catch (error) {
          expect(error).toBeInstanceOf(HistoryError);
          return;
        }
        for (const each of points) v.parse(historyPointSchema, each);
        expect(points.map(({ step }) => step)).toEqual([0, 1, 2]);
      }),
      { numRuns: 500 },
    );
  });
});
