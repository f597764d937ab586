/**
 * What the transport makes of a data channel: `sendBlob` between two endpoints of one Chromium page against a bare
 * RTCDataChannel between two plain connections of the same page, alternating; over loopback, the bare one at its best message
 * size, and over a slow way that loses packets. And how long the page's main thread is busy in one piece meanwhile.
 */
import { chromium, type Browser, type Page } from '@playwright/test';
import playwrightConfig from '../../playwright.config.ts';
import type { RateOptions, Rates } from '../e2e/pages/transport-rates.ts';
import { addressesShown, putSlowWays, type SlowWays } from '../e2e/slow-ways.ts';
import { serveTransportPage } from '../e2e/transport-page.ts';
import { busyTasksOf, longTaskMs, type BusyTasks } from './trace/busy-tasks.ts';
import { median, type Table } from './benchmark.ts';

const mebibyte = 1024 * 1024;
const loopback: RateOptions = { bytes: 16 * mebibyte, rounds: 5, scoutBytes: 4 * mebibyte };
const slow: RateOptions = { bytes: 4 * mebibyte, rounds: 5, scoutBytes: 0 };
/** What a step of 10 M parameters takes in fp32. */
const stepBytes = 40_000_000;

/** 0 leaves `near`, `tasks` or `far` out. */
export const options = { near: 1, tasks: 1, far: 1, 'round-trip': 22, 'loss-percent': 1, rounds: 5 };

export async function run({ near, tasks, far, 'round-trip': roundTripMs, 'loss-percent': lossPercent, rounds }: typeof options): Promise<readonly Table[]> {
  const served = await serveTransportPage();
  const { args = [], ...launch } = playwrightConfig.use?.launchOptions ?? {};
  const browser = await chromium.launch({ ...launch, args: [...args, addressesShown] });
  try {
    const tables: Table[] = [];
    if (near > 0) tables.push(nearTable(await inPage(browser, served.url, (page) => measure(page, { ...loopback, rounds }))));
    if (tasks > 0) tables.push(taskTable(await inPage(browser, served.url, (page) => busyTasks(browser, page))));
    if (far > 0) tables.push(await measureFar(browser, served.url, { roundTripMs, loss: lossPercent / 100 }, rounds));
    return tables;
  } finally {
    await browser.close();
    await served.close();
  }
}

async function measureFar(browser: Browser, url: string, ways: SlowWays, rounds: number): Promise<Table> {
  let closeWays = (): void => undefined;
  const put = async (page: Page): Promise<void> => {
    closeWays = await putSlowWays(page, ways);
  };
  const rates = await inPage(browser, url, (page) => measure(page, { ...slow, rounds }), put);
  closeWays();
  return farTable(rates, ways);
}

async function inPage<T>(browser: Browser, url: string, use: (page: Page) => Promise<T>, before?: (page: Page) => Promise<void>): Promise<T> {
  const page = await browser.newPage();
  await before?.(page);
  await page.goto(url);
  const result = await use(page);
  await page.close();
  return result;
}

const measure = (page: Page, rates: RateOptions): Promise<Rates> => page.evaluate((asked) => window.transportTest.measureRates(asked), rates);

async function busyTasks(browser: Browser, page: Page): Promise<BusyTasks> {
  await page.evaluate((bytes) => window.transportTest.prepareExchange(bytes), stepBytes);
  return busyTasksOf(browser, page, () => page.evaluate(() => window.transportTest.exchange()));
}

const inMebibytes = (rate: number): string => (rate / mebibyte).toFixed(2);

/** Median and range of the rounds' own ratios. */
function share(ours: readonly number[], bare: readonly number[]): string {
  const shares = ours.map((rate, round) => rate / (bare[round] ?? Number.NaN));
  return `${median(shares).toFixed(2)} (${Math.min(...shares).toFixed(2)} to ${Math.max(...shares).toFixed(2)})`;
}

function rowsOf(rates: Rates): readonly (readonly string[])[] {
  return [
    ['sendBlob', inMebibytes(median(rates.ours)), share(rates.ours, rates.bare)],
    [`bare RTCDataChannel, ${rates.bareMessageBytes / 1024} KiB messages`, inMebibytes(median(rates.bare)), '1'],
    ['sendBlob, both directions at once', inMebibytes(median(rates.oursBoth)), share(rates.oursBoth, rates.bareBoth)],
    ['bare, both directions at once', inMebibytes(median(rates.bareBoth)), '1'],
  ];
}

function controlNote({ controlMs }: Rates): string {
  return `a control message took ${median(controlMs).toFixed(0)} ms one way beside blobs in both directions (median of ${controlMs.length}; the slowest ${Math.max(...controlMs).toFixed(0)} ms)`;
}

const columns = ['', 'MiB/s', 'share'];

function nearTable(rates: Rates): Table {
  const scouted = Object.entries(rates.scouted).map(([size, rate]) => `${Number(size) / 1024} KiB: ${inMebibytes(rate)}`);
  return {
    title: 'Transport between two peers of one Chromium page, loopback',
    notes: [
      `blobs of ${loopback.bytes / mebibyte} MiB, ${rates.ours.length} rounds, alternating, medians; share is the median of the rounds' own ratios, and their range`,
      `bare channel, one short transfer per message size, MiB/s: ${scouted.join(', ')}; the best of these is compared`,
      controlNote(rates),
    ],
    columns,
    rows: rowsOf(rates),
  };
}

function taskTable({ count, over, tasks }: BusyTasks): Table {
  return {
    title: `Tasks of the page's main thread while ${stepBytes / 1e6} MB go each way at once`,
    notes: [`${count} tasks; ${over} of them took more than ${longTaskMs} ms of processor time; the longest:`],
    columns: ['posted by', 'processor, ms', 'clock, ms'],
    rows: tasks.map(({ postedBy, cpuMs, wallMs }) => [postedBy, cpuMs.toFixed(1), wallMs.toFixed(1)]),
  };
}

function farTable(rates: Rates, { roundTripMs, loss }: SlowWays): Table {
  return {
    title: `The same, with ${roundTripMs} ms round trip and ${(loss * 100).toFixed(1)} % loss each way`,
    notes: [
      `blobs of ${slow.bytes / mebibyte} MiB, ${rates.ours.length} rounds; ours went by ${rates.connections} connections, the bare one by one`,
      controlNote(rates),
    ],
    columns,
    rows: rowsOf(rates),
  };
}
