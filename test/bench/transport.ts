/**
 * What the transport makes of a data channel: `sendBlob` between two endpoints of one Chromium page against a bare
 * RTCDataChannel between two plain connections of the same page, alternating, the bare one at its best message size.
 */
import { chromium } from '@playwright/test';
import playwrightConfig from '../../playwright.config.ts';
import { serveTransportPage } from '../e2e/transport-page.ts';
import { median, type Table } from './benchmark.ts';

const mebibyte = 1024 * 1024;
const blobBytes = 32 * mebibyte;
const rounds = 5;

export interface TransportFigures {
  /** Medians over the rounds, bytes per second. */
  readonly ours: number;
  readonly bare: number;
  readonly bareMessageBytes: number;
  /** Bytes per second of one short transfer at each message size. */
  readonly scouted: Readonly<Record<number, number>>;
  /** Median over the rounds of ours divided by the bare channel's of the same round. */
  readonly share: number;
  /** In both directions at once. */
  readonly both: { readonly ours: number; readonly bare: number; readonly share: number };
  readonly longestTaskMs: number;
}

/** The median of the rounds' own ratios. */
function shareOf(ours: readonly number[], bare: readonly number[]): number {
  return median(ours.map((rate, round) => rate / (bare[round] ?? Number.NaN)));
}

export async function benchTransport(): Promise<TransportFigures> {
  const served = await serveTransportPage();
  const browser = await chromium.launch(playwrightConfig.use?.launchOptions ?? {});
  try {
    const page = await browser.newPage();
    await page.goto(served.url);
    const rates = await page.evaluate(([bytes, count]) => window.transportTest.measureRates(bytes, count), [blobBytes, rounds] as const);
    return {
      ours: median(rates.ours),
      bare: median(rates.bare),
      both: { ours: median(rates.oursBoth), bare: median(rates.bareBoth), share: shareOf(rates.oursBoth, rates.bareBoth) },
      bareMessageBytes: rates.bareMessageBytes,
      scouted: rates.scouted,
      share: shareOf(rates.ours, rates.bare),
      longestTaskMs: rates.longestTaskMs,
    };
  } finally {
    await browser.close();
    await served.close();
  }
}

export async function run(): Promise<readonly Table[]> {
  const figures = await benchTransport();
  const inMebibytes = (rate: number): string => (rate / mebibyte).toFixed(1);
  const scouted = Object.entries(figures.scouted).map(([size, rate]) => `${Number(size) / 1024} KiB: ${inMebibytes(rate)}`);
  return [
    {
      title: 'Transport between two peers of one Chromium page',
      notes: [
        `blobs of ${blobBytes / mebibyte} MiB, ${rounds} rounds, alternating, medians; share is the median of the rounds' own ratios`,
        `bare channel, one short transfer per message size, MiB/s: ${scouted.join(', ')}; the best of these is compared`,
        figures.longestTaskMs === 0 ? 'no task of the page took 50 ms during our transfers' : `longest task of the page during our transfers: ${figures.longestTaskMs.toFixed(0)} ms`,
      ],
      columns: ['', 'MiB/s', 'share'],
      rows: [
        ['sendBlob', inMebibytes(figures.ours), figures.share.toFixed(2)],
        [`bare RTCDataChannel, ${figures.bareMessageBytes / 1024} KiB messages`, inMebibytes(figures.bare), '1.00'],
        ['sendBlob, both directions at once', inMebibytes(figures.both.ours), figures.both.share.toFixed(2)],
        ['bare, both directions at once', inMebibytes(figures.both.bare), '1.00'],
      ],
    },
  ];
}
