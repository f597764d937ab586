/** The transport in real Chromium over real WebRTC and the real signalling server. */
import { expect, test } from '@playwright/test';
import { scenarios } from '../unit/transport-conformance.ts';
import { connectedPages, serveTransportPage, type TransportPage } from './transport-page.ts';

let served: TransportPage;

test.beforeAll(async () => {
  served = await serveTransportPage();
});

test.afterAll(async () => {
  await served.close();
});

test.describe('between two endpoints of a page', () => {
  for (const scenario of scenarios) {
    test(scenario.name, async ({ page }) => {
      await page.goto(served.url);
      await page.evaluate((name) => window.transportTest.runScenario(name), scenario.name);
    });
  }
});

test('two tabs exchange messages and 40 MB, and know the way that their packets take', async ({ browser }) => {
  const [caller, callee] = await connectedPages(served, async () => (await browser.newContext()).newPage());
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
  const [caller, callee] = await connectedPages(served, async () => (await browser.newContext()).newPage());
  await callee.evaluate(() => window.transportTest.say(0, 'ready'));
  await caller.evaluate(() => window.transportTest.heard(0, 1));
  await caller.close();
  const [end] = await callee.evaluate(() => window.transportTest.heard(0, 1));
  // Usually its last words arrive; if the browser was faster, the loss itself is noticed.
  expect(end).toMatchObject({ type: 'closed', reason: expect.stringMatching(/^(the tab was closed|the connection was lost|the other side is gone)$/) });
  const [third, fourth] = await connectedPages(served, async () => (await browser.newContext()).newPage());
  await third.evaluate(() => window.transportTest.close(0, 'the room is closed'));
  expect(await fourth.evaluate(() => window.transportTest.heard(0, 1))).toEqual([{ type: 'closed', reason: 'the room is closed' }]);
});
