/** Figures as the page writes them, the smoothing of curves, and history as columns and CSV. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { csvFileName, historyToCsv } from '../../src/app/csv.ts';
import * as format from '../../src/app/format.ts';
import { HistoryColumns } from '../../src/app/history-columns.ts';
import type { HistoryPoint } from '../../src/app/history-columns.ts';
import { exponentialMovingAverage } from '../../src/app/smoothing.ts';

/** Figures are joined to their units by spaces that don't break; tests are easier to read with plain ones. */
const plain = (text: string): string => text.replaceAll('\u00a0', ' ').replaceAll('\u202f', ' ');

describe('figures', () => {
  it.each([
    [0, '0'],
    [999, '999'],
    [1240, '1.2 k'],
    [9960, '10 k'],
    [34_400, '34 k'],
    [999_499, '999 k'],
    [999_500, '1.0 M'],
    [5_600_000, '5.6 M'],
    [2_000_000_000, '2.0 G'],
  ])('writes the count %d as "%s"', (value, text) => {
    expect(plain(format.formatCount(value))).toBe(text);
  });

  it.each([
    [812, '812'],
    [81_200, '81.2 k'],
    [872_448, '0.87 M'],
    [12_400_000, '12.4 M'],
    [596_049_920, '596 M'],
    [1_720_574_976, '1.72 G'],
  ])('writes %d parameters as "%s"', (value, text) => {
    expect(plain(format.formatParameters(value))).toBe(text);
  });

  it.each([
    [0, '0'],
    [3.14, '3.1'],
    [37.4, '37'],
    [1200, '1.2 k'],
  ])('writes a rate of %d per second as "%s"', (value, text) => {
    expect(plain(format.formatRate(value))).toBe(text);
  });

  it.each([
    [512, '512 B'],
    [3_400_000, '3.4 MB'],
    [34_400_000, '34 MB'],
    [1_000, '1.0 kB'],
    [2_500_000_000, '2.5 GB'],
  ])('writes %d bytes as "%s"', (value, text) => {
    expect(plain(format.formatBytes(value))).toBe(text);
  });

  it('writes rates of bytes with the unit they are counted in, and a way of no length as under a millisecond', () => {
    expect(plain(format.formatBytesPerSecond(1_240_000))).toBe('1.2 MB/s');
    expect([0, 0.4, 1, 12.4, 1500].map((ms) => plain(format.formatRoundTrip(ms)))).toEqual(['< 1 ms', '< 1 ms', '1 ms', '12 ms', '1500 ms']);
  });

  it.each([
    [0, '0.0 s'],
    [830, '0.8 s'],
    [42_000, '42 s'],
    [59_600, '1 min 0 s'],
    [125_000, '2 min 5 s'],
    [3_599_700, '1 h 0 min'],
    [12_000_000, '3 h 20 min'],
    [187_200_000, '2 d 4 h'],
  ])('writes %d ms as "%s"', (value, text) => {
    expect(plain(format.formatDuration(value))).toBe(text);
  });

  it.each([
    [4.3694, '4.369'],
    [0.1, '0.100'],
    [0.04134, '0.0413'],
    [0.000_041, '4.1e-5'],
    [0, '0.000'],
    [Number.NaN, 'not finite'],
    [Number.POSITIVE_INFINITY, 'not finite'],
  ])('writes the loss %d as "%s"', (value, text) => {
    expect(format.formatLoss(value)).toBe(text);
  });

  it('never writes a share of something as nothing', () => {
    expect(plain(format.formatShare(0.34))).toBe('34 %');
    expect(plain(format.formatShare(0.004))).toBe('< 1 %');
    expect(plain(format.formatShare(0))).toBe('0 %');
    expect(plain(format.formatShare(1))).toBe('100 %');
  });

  it('groups digits only from five digits on, so that a step up to 9999 is one word', () => {
    expect(format.formatInteger(9999)).toBe('9999');
    expect(plain(format.formatInteger(12_400))).toBe('12 400');
    expect(plain(format.formatInteger(1_215_235))).toBe('1 215 235');
  });

  it('says how long ago in the words people use', () => {
    const nowMs = Date.UTC(2026, 10, 22, 12);
    expect(format.formatWhen(nowMs - 20_000, nowMs)).toBe('just now');
    expect(format.formatWhen(nowMs - 60_000, nowMs)).toBe('1 minute ago');
    expect(format.formatWhen(nowMs - 5 * 60_000, nowMs)).toBe('5 minutes ago');
    expect(format.formatWhen(nowMs - 3 * 3_600_000, nowMs)).toBe('3 hours ago');
    expect(format.formatWhen(nowMs - 30 * 3_600_000, nowMs)).toBe('yesterday');
  });

  it('shows a dash for what is not known', () => {
    expect(format.formatMaybe(null, format.formatLoss)).toBe('–');
    expect(format.formatMaybe(2, format.formatLoss)).toBe('2.000');
  });

  it('never writes four significant digits where a unit could have changed', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e12, noNaN: true }), (value) => {
        expect(format.formatCount(value).replace(/[^\d]/g, '').length).toBeLessThanOrEqual(value < 1e12 - 1 ? 3 : 4);
      }),
    );
  });
});

describe('smoothing', () => {
  it('leaves values alone at weight 0', () => {
    expect([...exponentialMovingAverage([3, 1, 2], 0)]).toEqual([3, 1, 2]);
  });

  it('starts at the first value instead of being pulled towards zero', () => {
    const smoothed = exponentialMovingAverage([4, 2], 0.9);
    expect(smoothed[0]).toBeCloseTo(4, 12);
    // (0.9·0.1·4 + 0.1·2) / (1 − 0.81)
    expect(smoothed[1]).toBeCloseTo(0.56 / 0.19, 12);
  });

  it('of a constant is that constant at every weight', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 0.99, noNaN: true }), (weight) => {
        for (const value of exponentialMovingAverage(new Float64Array(50).fill(2.5), weight)) expect(value).toBeCloseTo(2.5, 9);
      }),
    );
  });

  it('goes on behind a value that is not finite', () => {
    const smoothed = exponentialMovingAverage([2, Number.NaN, 2], 0.5);
    expect(smoothed[1]).toBeNaN();
    expect(smoothed[2]).toBeCloseTo(2, 12);
  });
});

function point(step: number, more: Partial<HistoryPoint> = {}): HistoryPoint {
  const base = { loss: 4 - step / 1000, gradNorm: 1, lr: 0.001, ms: 10, tokens: 256, bytesDown: 3, bytesUp: 2 };
  return { step: step as HistoryPoint['step'], ...base, ...more };
}

describe('history as columns', () => {
  it('follows a growing history past its first capacity', () => {
    const columns = new HistoryColumns();
    const history = Array.from({ length: 3000 }, (_, step) => point(step));
    expect(columns.update(history.slice(0, 1000))).toBe(true);
    expect(columns.update(history)).toBe(true);
    expect(columns.length).toBe(3000);
    expect([...columns.steps]).toEqual(history.map((p) => p.step));
    expect([...columns.loss]).toEqual(history.map((p) => p.loss));
    expect(columns.validation).toHaveLength(3000);
  });

  it('takes in a validation loss that arrives for an earlier step', () => {
    const columns = new HistoryColumns();
    const first = [point(0), point(1), point(2)];
    columns.update(first);
    const validated = [first[0], { ...point(1), validationLoss: 3.5 }, first[2]].filter((p) => p !== undefined);
    expect(columns.update(validated)).toBe(true);
    expect(columns.validation).toEqual([null, 3.5, null]);
  });

  it('shrinks when the run went back to a checkpoint', () => {
    const columns = new HistoryColumns();
    const history = [point(0), point(1), point(2)];
    columns.update(history);
    expect(columns.update(history.slice(0, 2))).toBe(true);
    expect([...columns.steps]).toEqual([0, 1]);
    expect(columns.validation).toEqual([null, null]);
  });

  it('says that nothing changed when nothing did', () => {
    const columns = new HistoryColumns();
    const history = [point(0)];
    columns.update(history);
    expect(columns.update(history)).toBe(false);
    expect(columns.update([...history])).toBe(false);
  });
});

describe('CSV', () => {
  it('has every column of the history and leaves empty what was not measured', () => {
    const csv = historyToCsv([point(0), point(1, { validationLoss: 3.25, replicaHash: '0123456789abcdef' })]);
    expect(csv).toBe(
      'step,loss,validationLoss,gradNorm,lr,ms,tokens,bytesDown,bytesUp,replicaHash,change\r\n' +
        '0,4,,1,0.001,10,256,3,2,,\r\n' +
        '1,3.999,3.25,1,0.001,10,256,3,2,0123456789abcdef,\r\n',
    );
  });

  it('says what the owner changed, as quoted JSON that no name can break out of', () => {
    const [, line = ''] = historyToCsv([point(0, { change: { learningRate: 0.0007, by: 'Ada, "the" 1st' } })]).split('\r\n');
    const [, field = ''] = /,"(.*)"$/.exec(line) ?? [];
    expect(field.replaceAll('""', '')).not.toContain('"');
    expect(JSON.parse(field.replaceAll('""', '"'))).toEqual({ learningRate: 0.0007, by: 'Ada, "the" 1st' });
  });

  it('keeps full precision', () => {
    const loss = 1 / 3;
    expect(historyToCsv([point(0, { loss })]).split('\r\n')[1]?.split(',')[1]).toBe(String(loss));
  });

  it('is named after the run', () => {
    expect(csvFileName('Moby-Dick, by character')).toBe('moby-dick-by-character-loss.csv');
    expect(csvFileName('…')).toBe('run-loss.csv');
  });
});
