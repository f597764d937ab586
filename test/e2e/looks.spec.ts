/** What anybody can see: no serious accessibility violation in either theme, and nothing sticks out on a phone. */
import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { expect, test } from './fixtures.ts';
import { createRoom, untilStep } from './support.ts';

const themes = ['light', 'dark'] as const;
const phone = { width: 390, height: 844 };
const desk = { width: 1280, height: 900 };

async function seriousViolations(page: Page): Promise<string[]> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, help, nodes }) => `${id}: ${help} (${nodes.map((node) => node.target.join(' ')).join('; ')})`);
}

/** How far the page is wider than the window; 0 when nothing has to be scrolled sideways. */
function overflow(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

for (const colorScheme of themes) {
  test(`landing and room have no serious accessibility violation in the ${colorScheme} theme`, async ({ openPage }, info) => {
    const page = await openPage({ colorScheme, viewport: desk });
    await expect(page.getByTestId('start')).toBeEnabled();
    await page.screenshot({ path: info.outputPath(`landing-${colorScheme}.png`), fullPage: true });
    expect(await seriousViolations(page)).toEqual([]);
    await createRoom(page, { preset: 'counting-list', steps: 100_000 });
    await untilStep(page, 20);
    await page.screenshot({ path: info.outputPath(`room-${colorScheme}.png`), fullPage: true });
    expect(await seriousViolations(page)).toEqual([]);
  });
}

test('landing, room and join screens fit a phone 390 pixels wide', async ({ openPage }, info) => {
  const page = await openPage({ viewport: phone, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  await expect(page.getByTestId('start')).toBeEnabled();
  await page.screenshot({ path: info.outputPath('phone-landing.png'), fullPage: true });
  expect(await overflow(page)).toBe(0);
  const link = await createRoom(page, { preset: 'counting-list', steps: 100_000 });
  await untilStep(page, 20);
  await page.screenshot({ path: info.outputPath('phone-room.png'), fullPage: true });
  expect(await overflow(page)).toBe(0);
  const guest = await openPage({ at: link, viewport: phone, isMobile: true, hasTouch: true });
  await expect(guest.getByTestId('join')).toBeVisible();
  await guest.screenshot({ path: info.outputPath('phone-join.png'), fullPage: true });
  expect(await overflow(guest)).toBe(0);
});
