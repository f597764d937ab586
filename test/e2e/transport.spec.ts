/** The transport in real Chromium over real WebRTC and the real signalling server. */
import { expect, test, type Page } from '@playwright/test';
import { scenarios } from '../unit/transport-conformance.ts';
import { serveTransportPage, type TransportPage } from './transport-page.ts';

let served: TransportPage;

test.beforeAll(async () => {
  served = await serveTransportPage();
});

test.afterAll(async () => {
  await served.close();
});

test.afterEach(async () => {
  await served.startServer();
});

async function openPages(openContextPage: () => Promise<Page>, count: number): Promise<Page[]> {
  const pages = await Promise.all(Array.from({ length: count }, openContextPage));
  await Promise.all(pages.map((page) => page.goto(served.url)));
  return pages;
}

/** Two pages in contexts of their own, each with an endpoint; the first has connected to the second. */
async function connectedPages(openContextPage: () => Promise<Page>): Promise<readonly [Page, Page]> {
  const [caller, callee] = (await openPages(openContextPage, 2)) as [Page, Page];
  await caller.evaluate(() => window.transportTest.open('key'));
  const id = await callee.evaluate(() => window.transportTest.open('key'));
  expect(await caller.evaluate((remote) => window.transportTest.connect(remote), id)).toBeNull();
  return [caller, callee];
}

test.describe('between two endpoints of a page', () => {
  for (const scenario of scenarios) {
    test(scenario.name, async ({ page }) => {
      await page.goto(served.url);
      await page.evaluate((name) => window.transportTest.runScenario(name), scenario.name);
    });
  }
});

test('two tabs exchange messages and 40 MB, and know the way that their packets take', async ({ browser }) => {
  const [caller, callee] = await connectedPages(async () => (await browser.newContext()).newPage());
  await caller.evaluate(() => window.transportTest.say(0, { hello: 'there' }));
  await callee.evaluate(() => window.transportTest.say(0, { hello: 'back' }));
  await caller.evaluate(() => window.transportTest.sendPattern(0, 40_000_000, 3));
  expect(await callee.evaluate(() => window.transportTest.heard(0, 2))).toEqual([
    { type: 'control', message: { hello: 'there' } },
    { type: 'blob', length: 40_000_000, intact: true },
  ]);
  expect(await caller.evaluate(() => window.transportTest.heard(0, 1))).toEqual([{ type: 'control', message: { hello: 'back' } }]);
  const stats = await caller.evaluate(() => window.transportTest.stats(0));
  expect(stats.path).toBe('direct');
  expect(stats.roundTripMs).toBeGreaterThanOrEqual(0);
  expect(stats.sendBytesPerSecond).toBeGreaterThan(0);
});

test('a tab that is closed, or takes its leave, tells the other why', async ({ browser }) => {
  const [caller, callee] = await connectedPages(async () => (await browser.newContext()).newPage());
  await callee.evaluate(() => window.transportTest.say(0, 'ready'));
  await caller.evaluate(() => window.transportTest.heard(0, 1));
  await caller.close();
  const [end] = await callee.evaluate(() => window.transportTest.heard(0, 1));
  // Usually its last words arrive; if the browser was faster, the loss itself is noticed.
  expect(end).toMatchObject({ type: 'closed', reason: expect.stringMatching(/^(the tab was closed|the connection was lost|the other side is gone)$/) });
  const [third, fourth] = await connectedPages(async () => (await browser.newContext()).newPage());
  await third.evaluate(() => window.transportTest.close(0, 'the room is closed'));
  expect(await fourth.evaluate(() => window.transportTest.heard(0, 1))).toEqual([{ type: 'closed', reason: 'the room is closed' }]);
});

test('connections live on while the signalling server is gone, and new ones can be made when it is back', async ({ browser }) => {
  const newPage = async (): Promise<Page> => (await browser.newContext()).newPage();
  const [caller, callee] = await connectedPages(newPage);
  const [late] = (await openPages(newPage, 1)) as [Page];
  await late.evaluate(() => window.transportTest.open('key'));
  await served.stopServer();
  await expect.poll(() => callee.evaluate(() => window.transportTest.signalling().at(-1))).toBe('offline');
  await caller.evaluate(() => window.transportTest.say(0, 'still here'));
  expect(await callee.evaluate(() => window.transportTest.heard(0, 1))).toEqual([{ type: 'control', message: 'still here' }]);
  await expect.poll(() => late.evaluate(() => window.transportTest.signalling().at(-1))).toBe('offline');
  expect(await late.evaluate(() => window.transportTest.connect('anybody'))).toMatchObject({ code: 'signalling-unreachable' });

  await served.startServer();
  for (const page of [callee, late]) await expect.poll(() => page.evaluate(() => window.transportTest.signalling().at(-1)), { timeout: 40_000 }).toBe('online');
  const id = await callee.evaluate(() => window.transportTest.id());
  expect(await late.evaluate((remote) => window.transportTest.connect(remote), id)).toBeNull();
  await late.evaluate(() => window.transportTest.say(0, 'newcomer'));
  expect(await callee.evaluate(() => window.transportTest.heard(1, 1))).toEqual([{ type: 'control', message: 'newcomer' }]);
  await caller.evaluate(() => window.transportTest.say(0, 'me too'));
  expect(await callee.evaluate(() => window.transportTest.heard(0, 2))).toHaveLength(2);
});

test('an absent tab, another key and an unreachable server are told apart', async ({ browser }) => {
  const [stranger, member] = (await openPages(async () => (await browser.newContext()).newPage(), 2)) as [Page, Page];
  await stranger.evaluate(() => window.transportTest.open('a guess'));
  const id = await member.evaluate(() => window.transportTest.open('key'));
  expect(await stranger.evaluate(() => window.transportTest.connect('0123456789abcdef'))).toMatchObject({ code: 'peer-unavailable' });
  expect(await stranger.evaluate((remote) => window.transportTest.connect(remote), id)).toMatchObject({ code: 'wrong-key' });
  expect(await member.evaluate(() => window.transportTest.connections())).toBe(0);
  expect(await member.evaluate(() => window.transportTest.openProblem('http://localhost:9/signal'))).toMatchObject({ code: 'signalling-unreachable' });
});
