/**
 * What the transport makes of a data channel: `sendBlob` between two endpoints of one Chromium page against a bare
 * RTCDataChannel between two plain connections of the same page, alternating, the bare one at its best message size.
 */
import { chromium } from '@playwright/test';
import playwrightConfig from '../../playwright.config.ts';
import { serveTransportPage } from '../e2e/transport-page.ts';
import { median, type Table } from './benchmark.ts';

const mebibyte = 1024 * 1024;
const blobBytes = 64 * mebibyte;
const rounds = 5;

export interface TransportFigures {
  readonly blobBytes: number;
  /** Medians, bytes per second. */
  readonly ours: number;
  readonly bareByMessageBytes: Readonly<Record<number, number>>;
  readonly bestBare: number;
  /** Median over the rounds of ours divided by the same round's bare channel at its best size. */
  readonly share: number;
  readonly longestTaskMs: number;
}

export async function benchTransport(): Promise<TransportFigures> {
  const served = await serveTransportPage();
  const browser = await chromium.launch(playwrightConfig.use?.launchOptions ?? {});
  try {
    const page = await browser.newPage();
    await page.goto(served.url);
    const rates = await page.evaluate(([bytes, count]) => window.transportTest.measureRates(bytes, count), [blobBytes, rounds] as const);
    const medians = Object.entries(rates.bare).map(([messageBytes, values]) => [Number(messageBytes), median(values)] as const);
    const [bestSize, bestBare] = medians.reduce((best, entry) => (entry[1] > best[1] ? entry : best));
    const shares = rates.ours.map((rate, round) => rate / (rates.bare[bestSize]?.[round] ?? Number.NaN));
    return {
      blobBytes,
      ours: median(rates.ours),
      bareByMessageBytes: Object.fromEntries(medians),
      bestBare,
      share: median(shares),
      longestTaskMs: rates.longestTaskMs,
    };
  } finally {
    await browser.close();
    await served.close();
  }
}

export async function run(): Promise<readonly Table[]> {
  const figures = await benchTransport();
  const row = (name: string, rate: number): string[] => [name, (rate / mebibyte).toFixed(1), (rate / figures.bestBare).toFixed(2)];
  return [
    {
      title: 'Transport between two peers of one Chromium page',
      notes: [
        `blobs of ${figures.blobBytes / mebibyte} MiB, ${rounds} rounds, alternating, medians`,
        `share of the bare channel at its best, round by round: ${figures.share.toFixed(2)} (goal 0.8)`,
        figures.longestTaskMs === 0 ? 'no task of the page took 50 ms during our transfers' : `longest task of the page during our transfers: ${figures.longestTaskMs.toFixed(0)} ms`,
      ],
      columns: ['', 'MiB/s', 'of the best bare'],
      rows: [
        row('sendBlob', figures.ours),
        ...Object.entries(figures.bareByMessageBytes).map(([messageBytes, rate]) => row(`bare channel, ${Number(messageBytes) / 1024} KiB messages`, rate)),
      ],
    },
  ];
}
