/** What only the room's owner can do, on real pages: others see it happen, and whoever is sent away stays away. */
import type { PageStatus } from '../../src/session/page-api.ts';
import { expect, test } from './fixtures.ts';
import { createPausedRoom, joinRoom, statusOf, statusWhen, untilStep } from './support.ts';

const hasSuccessor = (status: PageStatus): boolean => status.peers.some((peer) => peer.succession === 'ready');
const idOf = ({ peers }: PageStatus, name: string): string => peers.find((peer) => peer.name === name)?.id ?? '';

test('the owner renames the room, changes its schedule, hands over the lead, removes a peer, renews the key and closes it', async ({ openPage, consoleErrors }) => {
  test.setTimeout(240_000);
  const [ada, ben, cid] = [await openPage(), await openPage(), await openPage()];
  const run = { preset: 'counting-list', steps: 1_000_000, rowsPerStep: 8, rowsPerMicrobatch: 1, contextLength: 32, model: { num_hidden_layers: 1 } } as const;
  const link = await createPausedRoom(ada, { ...run, name: 'Ada' });
  await Promise.all([joinRoom(ben, link, { name: 'Ben' }), joinRoom(cid, link, { name: 'Cid' })]);
  await statusWhen(ada, 'all have the weights', ({ peers }) => peers.filter(({ state }) => state === 'ready').length === 3);
  await ada.evaluate(() => window.cotrain.resume());
  await statusWhen(ada, 'three, one of them ready to follow', (status) => status.peers.length === 3 && hasSuccessor(status));

  await test.step('others see the new name and the new schedule, and can’t give orders themselves', async () => {
    await ada.getByTestId('room-title').fill('Numbers');
    await ada.getByTestId('rename-room').click();
    await expect(ben.locator('h1')).toHaveText('Numbers');
    await ada.getByTestId('learning-rate').fill('0.0007');
    await ada.getByTestId('reschedule').click();
    await expect(ben.getByTestId('schedule-changes')).toHaveText(/From step \d+ on: learning rate 0\.0007 \(was 0\.\d+\), by Ada/);
    const changed = await statusWhen(ben, 'a step with the new rate', ({ history }) => history.some(({ change }) => change?.learningRate === 0.0007));
    const at = changed.history.findIndex(({ change }) => change !== undefined);
    expect(changed.history[at]?.lr).toBeLessThanOrEqual(0.0007);
    await expect(ben.getByTestId('owner-panel')).toHaveCount(0);
    await expect(ben.evaluate(() => window.cotrain.owner.rename('Mine'))).rejects.toThrow(/Only the owner/);
  });

  await test.step('the lead goes to Ben, who carries out what Ada, a member now, wants', async () => {
    const before = await statusOf(ada);
    await ada.evaluate((to) => window.cotrain.owner.handOver(to), idOf(before, 'Ben'));
    const led = await statusWhen(ben, 'Ben leads', (status) => status.role === 'coordinator' && status.step > before.step, 30_000);
    expect(led.history.slice(0, before.history.length)).toEqual(before.history);
    await statusWhen(ada, 'Ada is a member', (status) => status.role === 'member' && status.phase === 'running', 30_000);
    await expect(ada.locator('h1')).toHaveText('Numbers');
  });

  await test.step('Cid is removed, is told so, and can’t come back', async () => {
    const row = ada.getByTestId('owner-peer').filter({ hasText: 'Cid' });
    await row.getByTestId('remove-peer').click();
    await ada.getByTestId('confirm').click();
    await statusWhen(cid, 'out', (status) => status.problem?.code === 'removed' && status.phase === 'stopped');
    await joinRoom(cid, link, { name: 'Somebody else' });
    await statusWhen(cid, 'refused', (status) => status.problem?.code === 'removed' && status.phase === 'stopped');
    await expect(ben.getByText('Ada removed Cid from the room.')).toBeVisible();
  });

  await test.step('the old link is of no use once the key is renewed, and the new one is', async () => {
    const { link: renewed } = await ada.evaluate(() => window.cotrain.owner.renewKey());
    expect(renewed).not.toBe(link);
    expect(ada.url()).toBe(renewed);
    await expect.poll(() => ben.url()).toBe(renewed);
    const [dan, eva] = [await openPage(), await openPage()];
    await joinRoom(dan, link, { name: 'Dan', watch: true });
    const refused = await statusWhen(dan, 'refused', (status) => status.problem?.code === 'wrong-key');
    expect(refused.problem?.message).toMatch(/may have been renewed/);
    await joinRoom(eva, renewed, { name: 'Eva', watch: true });
    await statusWhen(eva, 'in', (status) => status.phase === 'running');
    await Promise.all([dan, eva].map((page) => page.context().close()));
    await untilStep(ben, (await statusOf(ben)).step + 2);
  });

  await test.step('a closed room ends everywhere, and only its owner opens it again', async () => {
    await ada.getByTestId('close-room').click();
    await ada.getByTestId('confirm').click();
    for (const page of [ada, ben]) {
      const closed = await statusWhen(page, 'closed', (status) => status.phase === 'stopped');
      expect(closed.problem).toMatchObject({ code: 'room-closed', message: 'Ada closed the room.' });
    }
    // Ben led it, and could bring it back if it were not closed.
    await ben.reload();
    await joinRoom(ben, ben.url(), { name: 'Ben' });
    await statusWhen(ben, 'waiting', (status) => status.problem?.code === 'room-empty');
    await ada.goto(new URL('/', ada.url()).href);
    await ada.getByTestId('continue-run').first().click();
    await statusWhen(ada, 'open again', (status) => status.role === 'coordinator' && status.phase === 'running', 60_000);
    await expect(ada.locator('h1')).toHaveText('Numbers');
    await statusWhen(ben, 'back', (status) => status.role === 'member' && status.phase === 'running', 30_000);
  });
  // What the directory refuses, the browser logs as errors.
  consoleErrors.splice(0, Infinity, ...consoleErrors.filter((error) => !error.includes('/rooms/')));
});
