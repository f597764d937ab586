/** A room of several real pages: one curve, equal whoever computes, through joins, closed tabs and reloads. */
import type { Locator, Page } from '@playwright/test';
import type { PageStatus } from '../../src/session/page-api.ts';
import type { CreateSettings } from '../../src/session/types.ts';
import { expect, test } from './fixtures.ts';
import { createRoom, expectNoProblem, joinRoom, statusOf, statusWhen, untilStep } from './support.ts';

// Each has pages of its own.
test.describe.configure({ mode: 'parallel' });

const never = 1_000_000;
/** Six micro-batches, so that three peers all get some; one layer, since a software GPU's time goes into launches. */
const shared: CreateSettings = {
  preset: 'counting-list',
  codec: 'fp32',
  rowsPerStep: 6,
  rowsPerMicrobatch: 1,
  contextLength: 32,
  model: { num_hidden_layers: 1 },
};

function losses(status: PageStatus): number[] {
  return status.history.map((point) => point.loss);
}

function workingPeers(status: PageStatus): number {
  return status.peers.filter((peer) => peer.microbatches > 0).length;
}

async function joined(page: Page, link: string, name: string): Promise<void> {
  await joinRoom(page, link, { name });
  await statusWhen(page, `${name} has the weights`, (status) => status.phase === 'running' || status.phase === 'paused');
}

function hasSuccessor(status: PageStatus): boolean {
  return status.peers.some((peer) => peer.succession === 'ready');
}

function untilAllWork(page: Page, peers: number): Promise<PageStatus> {
  return statusWhen(page, `${peers} peers computed the last step`, (status) => workingPeers(status) >= peers);
}

/** “81.2 k parameters” */
async function shownParameters(page: Page): Promise<number> {
  const text = await page.getByText(/[\d.]+\s[kM]? ?parameters/).first().innerText();
  const [, figure = '', unit = ''] = /([\d.]+)\s(k|M)?\s?parameters/.exec(text) ?? [];
  return Number(figure) * ({ k: 1e3, M: 1e6 }[unit] ?? 1);
}

function finished(page: Page, timeoutMs = 100_000): Promise<PageStatus> {
  return statusWhen(page, 'finished', (status) => status.phase === 'finished' && status.history.length === status.steps, timeoutMs);
}

test('three pages share one curve and hold the same weights, with local steps, also when their leader is closed', async ({ openPage }) => {
  const [ada, ben, eva] = [await openPage(), await openPage(), await openPage()];
  const localSteps = 2;
  const link = await createRoom(ada, { ...shared, name: 'Ada', steps: 36, localSteps, codec: 'int8' });
  await ada.evaluate(() => window.cotrain.pause());
  await joined(ben, link, 'Ben');
  await joined(eva, link, 'Eva');
  await ada.evaluate(() => window.cotrain.resume());
  await untilAllWork(ada, 3);
  const pages = [ada, ben, eva];
  // Whoever leads is connected to everybody, all others to it.
  const wayTo = (page: Page, name: string): Locator => page.getByTestId('peer-row').filter({ has: page.getByText(name, { exact: true }) }).getByTestId('peer-connection');
  for (const way of [wayTo(ada, 'Ben'), wayTo(ada, 'Eva'), wayTo(ben, 'Ada')]) {
    await expect(way).toHaveText(/^direct · (<\s)?\d+\sms · ↑ [\d.]+\s[kM]?B\/s ↓ [\d.]+\s[kM]?B\/s$/);
  }
  // Ben has no connection to Eva; Ada says how she reaches her.
  await expect(wayTo(ben, 'Eva')).toHaveText(/^direct · (<\s)?\d+\sms to Ada$/);
  await expect(ben.getByTestId('peer-connection')).toHaveCount(2);

  for (const pauses of [1, 2, 3]) {
    const { step } = await statusOf(ada);
    await untilStep(ada, step + 3);
    // Anybody may pause; everybody stops at the same step with the same weights.
    const pauser = pages[pauses % 3] ?? ada;
    await pauser.evaluate(() => window.cotrain.pause());
    for (const page of pages) await statusWhen(page, 'paused', (status) => status.phase === 'paused');
    // The step in flight is still committed, so a look at which all three are at one step is waited for.
    let held: PageStatus[] = [];
    await expect
      .poll(async () => {
        held = await Promise.all(pages.map(statusOf));
        return new Set(held.map((status) => status.step)).size;
      })
      .toBe(1);
    for (const { step: at, replicaHash, history } of held) {
      expect(replicaHash).toMatch(/^[0-9a-f]{16}$/);
      expect(replicaHash, `replica hash at step ${at}`).toBe(held[0]?.replicaHash);
      expect(replicaHash).toBe(history.at(-1)?.replicaHash);
    }
    await pauser.evaluate(() => window.cotrain.resume());
    for (const page of pages) await statusWhen(page, 'running', (status) => status.phase === 'running' || status.phase === 'finished');
  }

  const { peers, history: before } = await statusWhen(ada, 'three at work, one of whom can follow', (status) => workingPeers(status) === 3 && hasSuccessor(status));
  expect(peers.reduce((sum, { microbatches }) => sum + microbatches, 0)).toBe(6 * localSteps);
  const parameters = await shownParameters(ada);
  await expect(ben.getByTestId('local-steps')).toHaveText('2 on each device in each of the room’s steps');
  await ada.close();
  const [one, two] = await Promise.all([finished(ben), finished(eva)]);
  expect(one.history.slice(0, before.length)).toEqual(before);
  expect(one.history.map((point) => point.step)).toEqual(one.history.map((_, index) => index));
  expect(two.history).toEqual(one.history);
  expect(two.replicaHash).toBe(one.replicaHash);
  expect([one.role, two.role].sort()).toEqual(['coordinator', 'member']);
  expect(one.loss).toBeLessThan(1);
  // A byte for each parameter and a little more, from and to each of two members, and once more for whoever follows.
  const carried = one.history.filter(({ bytesUp }) => bytesUp > 0);
  expect(Math.min(...carried.map(({ bytesUp }) => bytesUp))).toBeLessThan(2.2 * parameters);
  expect(Math.max(...carried.map(({ bytesDown }) => bytesDown))).toBeLessThan(3.3 * parameters);
  for (const page of [ben, eva]) await expectNoProblem(page);
});

test('who computes does not matter: one peer, three, and a changing three draw the same curve', async ({ openPage }) => {
  test.setTimeout(240_000);
  const settings = { ...shared, steps: 18 };
  const [ada, ben, eva] = await Promise.all([openPage(), openPage(), openPage()]);
  await createRoom(ada, settings);
  const reference = losses(await finished(ada));

  async function roomOfThree(change: (link: string) => Promise<void>): Promise<number[]> {
    await Promise.all([ada, ben, eva].map((page) => page.evaluate(() => window.cotrain.leave())));
    const link = await createRoom(ada, settings);
    await ada.evaluate(() => window.cotrain.pause());
    await joined(ben, link, 'Ben');
    await joined(eva, link, 'Eva');
    await ada.evaluate(() => window.cotrain.resume());
    await untilAllWork(ada, 3);
    await change(link);
    return losses(await finished(ada));
  }

  const steady = await roomOfThree(async () => undefined);
  const dan = await openPage();
  const changing = await roomOfThree(async (link) => {
    await untilStep(ada, 6);
    await ben.context().close();
    await untilStep(ada, 9);
    await joinRoom(dan, link, { name: 'Dan' });
  });
  for (const [name, curve] of Object.entries({ steady, changing })) {
    expect(curve).toHaveLength(settings.steps);
    const worst = Math.max(...curve.map((loss, step) => Math.abs(loss / (reference[step] ?? NaN) - 1)));
    expect(worst, `largest relative difference of the ${name} room`).toBeLessThan(1e-4);
  }
});

test('a room outlives reloads and closed tabs, and a watcher sees it all', async ({ openPage }) => {
  const [ada, ben, eye] = [await openPage(), await openPage(), await openPage()];
  const link = await createRoom(ada, { ...shared, steps: never });

  await test.step('a watcher computes nothing and sees the curve and a sample', async () => {
    await joinRoom(eye, link, { name: 'Eye', watch: true });
    const seen = await statusWhen(eye, 'a sample arrived', (status) => status.history.length > 5 && status.sample !== null);
    expect(seen.role).toBe('watcher');
    await expect(eye.locator('h1')).toHaveText('Counting list');
    expect(seen.peers.find((peer) => peer.role === 'watcher')?.microbatches).toBe(0);
    expect(losses(seen)).toEqual(losses(await statusOf(ada)).slice(0, seen.history.length));
  });

  await test.step('a reloaded member is back within seconds, in its old role', async () => {
    await joined(ben, link, 'Ben');
    await untilAllWork(ada, 2);
    await ben.reload();
    const back = await statusWhen(ben, 'member again', (status) => status.role === 'member' && status.phase === 'running', 15_000);
    expect(back.problem).toBeNull();
    await untilAllWork(ada, 2);
  });

  await test.step('a reloaded coordinator finds its successor leading, and nothing was lost', async () => {
    const before = await statusWhen(ada, 'step 60, with a successor', (status) => status.step >= 60 && hasSuccessor(status));
    await ada.reload();
    const follows = await statusWhen(ben, 'Ben leads', (status) => status.role === 'coordinator' && status.step > before.step, 15_000);
    expect(follows.term).toBeGreaterThan(before.term);
    expect(follows.history.slice(0, before.history.length)).toEqual(before.history);
    await statusWhen(ada, 'a member', (status) => status.role === 'member' && status.phase === 'running', 15_000);
    await untilAllWork(ben, 2);
    const { step } = await statusOf(ben);
    await untilStep(ada, step + 3);
    const [one, two] = [await statusOf(ada), await statusOf(ben)];
    const common = Math.min(one.history.length, two.history.length);
    expect(two.history.slice(0, common)).toEqual(one.history.slice(0, common));
  });

  await test.step('a member closed in the middle of a step holds it up for less than five seconds', async () => {
    const { step, history: before } = await untilAllWork(ben, 2);
    await ada.context().close();
    const { history } = await untilStep(ben, step + 5);
    const usualMs = Math.max(...before.slice(-10).map((point) => point.ms));
    expect(Math.max(...history.slice(step).map((point) => point.ms))).toBeLessThan(usualMs + 5000);
    await statusWhen(ben, 'alone but for the watcher', (status) => status.peers.length === 2);
  });

  await test.step('a lone coordinator that is reloaded resumes from its checkpoint', async () => {
    const before = await untilStep(ben, (await statusOf(ben)).step + 5);
    const words = await ben.getByText(/Saved in this browser at step/).innerText();
    const saved = Number(/at step ([\d,]+)/.exec(words)?.[1]?.replaceAll(',', ''));
    expect(saved).toBeGreaterThan(0);
    await ben.reload();
    const resumed = await statusWhen(ben, 'leading again', (status) => status.role === 'coordinator' && status.phase === 'running', 15_000);
    expect(resumed.term).toBeGreaterThan(before.term);
    const kept = Math.min(resumed.history.length, before.history.length);
    expect(resumed.history.length, 'steps that were saved').toBeGreaterThanOrEqual(saved);
    expect(resumed.history.slice(0, kept).map((point) => point.loss).slice(0, 50)).toEqual(before.history.slice(0, kept).map((point) => point.loss).slice(0, 50));
    await untilStep(eye, before.step + 3);
  });
});

test('a run that was left is offered again and goes on where it was', async ({ openPage }) => {
  const page = await openPage();
  await createRoom(page, { ...shared, steps: never });
  await untilStep(page, 12);
  await page.evaluate(() => window.cotrain.leave());
  const left = await statusOf(page);
  expect(left.phase).toBe('left');
  await page.goto(new URL('/', page.url()).href);
  await page.getByTestId('continue-run').first().click();
  const again = await statusWhen(page, 'training again', (status) => status.phase === 'running' && status.history.length > left.history.length);
  expect(again.history.slice(0, left.history.length)).toEqual(left.history);
  expect(again.role).toBe('coordinator');
});

test('a wrong key and an incomplete link are told apart, and nobody gets in', async ({ openPage, consoleErrors }) => {
  const [ada, eve] = [await openPage(), await openPage()];
  const link = await createRoom(ada, { ...shared, steps: never });
  const wrong = link.replace(/key=.*/, `key=${'x'.repeat(32)}`);
  await joinRoom(eve, wrong, { name: 'Eve' });
  const refused = await statusWhen(eve, 'refused', (status) => status.problem !== null);
  expect(refused.problem?.code).toBe('wrong-key');
  await expect(joinRoom(eve, link.replace(/&key=.*/, ''))).rejects.toThrow(/incomplete/);
  expect((await statusOf(eve)).problem?.code).toBe('bad-link');
  expect((await statusOf(ada)).peers).toHaveLength(1);
  consoleErrors.length = 0;
});

test('over https on a LAN address the page is a secure context and trains', async ({ openPage, server }) => {
  const [address] = server.lanUrls;
  test.skip(address === undefined, 'this machine has no network address');
  const page = await openPage({ at: address ?? '', ignoreHTTPSErrors: true });
  expect(await page.evaluate(() => isSecureContext)).toBe(true);
  await createRoom(page, { ...shared, steps: 5 });
  await finished(page);
});
