/** The transport in real Chromium where the way to the other tab is long. In a file of its own: its browser shows its addresses. */
import { expect, test, type Page } from '@playwright/test';
import playwrightConfig from '../../playwright.config.ts';
import { addressesShown, putSlowWays } from './slow-ways.ts';
import { connectedPages, serveTransportPage, type TransportPage } from './transport-page.ts';

const { args = [], ...launchOptions } = playwrightConfig.use?.launchOptions ?? {};
test.use({ launchOptions: { ...launchOptions, args: [...args, addressesShown] } });

let served: TransportPage;

test.beforeAll(async () => {
  served = await serveTransportPage();
});

test.afterAll(async () => {
  await served.close();
});

test('where the round trip is long, tensors go by further connections, and one that dies takes nothing with it', async ({ browser }) => {
  const endings: (() => void)[] = [];
  const [caller, callee] = await connectedPages(served, async (): Promise<Page> => {
    const page = await (await browser.newContext()).newPage();
    endings.push(await putSlowWays(page, { roundTripMs: 22, loss: 0 }));
    return page;
  });
  const bytes = 600_000;
  let sent = 0;
  const connectionsAfterOneMore = async (): Promise<number> => {
    sent += 1;
    await caller.evaluate(([length, seed]) => window.transportTest.sendPattern(0, length, seed), [bytes, sent] as const);
    return (await caller.evaluate(() => window.transportTest.stats(0))).connections;
  };
  await expect.poll(connectionsAfterOneMore, { timeout: 60_000 }).toBe(5);

  const sending = caller.evaluate(([length, seed]) => window.transportTest.sendPattern(0, length, seed), [5 * bytes, 0] as const);
  await callee.evaluate(() => window.slowConnections.at(-1)?.close());
  await sending;
  expect(await callee.evaluate((count) => window.transportTest.heard(0, count), sent + 1)).toEqual([
    ...Array.from({ length: sent }, () => ({ type: 'blob', length: bytes, intact: true })),
    { type: 'blob', length: 5 * bytes, intact: true },
  ]);
  await expect.poll(async () => (await caller.evaluate(() => window.transportTest.stats(0))).connections).toBe(4);
  for (const end of endings) end();
});
