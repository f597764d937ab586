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

test('landing and room have no serious accessibility violation in either theme', async ({ openPage }, info) => {
  const page = await openPage({ viewport: desk });
  const look = async (name: string): Promise<void> => {
    for (const colorScheme of themes) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: info.outputPath(`${name}-${colorScheme}.png`), fullPage: true });
      expect(await seriousViolations(page), `${name}, ${colorScheme}`).toEqual([]);
    }
  };
  await expect(page.getByTestId('start')).toBeEnabled();
  await look('landing');
  await createRoom(page, { preset: 'counting-list', steps: 100_000 });
  await untilStep(page, 5);
  await page.evaluate(() => window.cotrain.pause());
  await look('room');
});

test('landing, room and join screens fit a phone 390 pixels wide', async ({ openPage }, info) => {
  const page = await openPage({ viewport: phone, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  await expect(page.getByTestId('start')).toBeEnabled();
  await page.screenshot({ path: info.outputPath('phone-landing.png'), fullPage: true });
  expect(await overflow(page)).toBe(0);
  const link = await createRoom(page, { preset: 'counting-list', steps: 100_000 });
  await untilStep(page, 5);
  await page.screenshot({ path: info.outputPath('phone-room.png'), fullPage: true });
  expect(await overflow(page)).toBe(0);
  const guest = await openPage({ at: link, viewport: phone, isMobile: true, hasTouch: true });
  await expect(guest.getByTestId('join')).toBeVisible();
  await guest.screenshot({ path: info.outputPath('phone-join.png'), fullPage: true });
  expect(await overflow(guest)).toBe(0);
});
