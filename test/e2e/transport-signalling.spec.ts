/**
 * What the transport makes of a signalling server that goes, and of peers that it can't find. In a file of its own, so that it
 * runs beside transport.spec.ts: most of it is waiting.
 */
import { expect, test, type Page } from '@playwright/test';
import { connectedPages, openPages, serveTransportPage, type TransportPage } from './transport-page.ts';

let served: TransportPage;

test.beforeAll(async () => {
  served = await serveTransportPage();
});

test.afterAll(async () => {
  await served.close();
});

test('connections live on while the signalling server is gone, and new ones can be made when it is back', async ({ browser }) => {
  const newPage = async (): Promise<Page> => (await browser.newContext()).newPage();
  const [caller, callee] = await connectedPages(served, newPage);
  const [late] = (await openPages(served, newPage, 1)) as [Page];
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
  const [stranger, member] = (await openPages(served, async () => (await browser.newContext()).newPage(), 2)) as [Page, Page];
  await stranger.evaluate(() => window.transportTest.open('a guess'));
  const id = await member.evaluate(() => window.transportTest.open('key'));
  expect(await stranger.evaluate(() => window.transportTest.connect('0123456789abcdef'))).toMatchObject({ code: 'peer-unavailable' });
  expect(await stranger.evaluate((remote) => window.transportTest.connect(remote), id)).toMatchObject({ code: 'wrong-key' });
  expect(await member.evaluate(() => window.transportTest.connections())).toBe(0);
  expect(await member.evaluate(() => window.transportTest.openProblem('http://localhost:9/signal'))).toMatchObject({ code: 'signalling-unreachable' });
});
