/** The page's own `window.cotrain` from the outside, typed, and waits for what it reports. */
import type { Page } from '@playwright/test';
import type { PageStatus } from '../../src/session/page-api.ts';
import type { CreateSettings } from '../../src/session/types.ts';
import { expect } from './fixtures.ts';

export function statusOf(page: Page): Promise<PageStatus> {
  return page.evaluate(() => window.cotrain.status());
}

/** Starts a room by script and resolves to its link. */
export async function createRoom(page: Page, settings: CreateSettings): Promise<string> {
  const { link } = await page.evaluate((wanted) => window.cotrain.create(wanted), settings);
  return link;
}

/** The same, paused before its first steps are over: small runs would end before anybody joins. */
export function createPausedRoom(page: Page, settings: CreateSettings): Promise<string> {
  return page.evaluate(async (wanted) => {
    const { link } = await window.cotrain.create(wanted);
    window.cotrain.pause();
    return link;
  }, settings);
}

/** The room's link as the page shows it, once it does. */
export async function shownLink(page: Page): Promise<string> {
  const field = page.getByTestId('room-link');
  await expect(field).toHaveValue(/#room=.+&key=.+/);
  return field.inputValue();
}

export async function joinRoom(page: Page, link: string, options: { readonly name?: string; readonly watch?: boolean } = {}): Promise<void> {
  await page.evaluate(([address, wishes]) => window.cotrain.join(address, wishes), [link, options] as const);
}

/** Asks the page until its status satisfies the predicate; resolves to that status. The failure message is `what`. */
export async function statusWhen(page: Page, what: string, predicate: (status: PageStatus) => boolean, timeoutMs = 60_000): Promise<PageStatus> {
  let last = await statusOf(page);
  await expect
    .poll(
      async () => {
        last = await statusOf(page);
        if (predicate(last)) return what;
        const { phase, role, step, steps, loss, problem, peers } = last;
        const others = peers.map(({ name, state, microbatches }) => `${name} ${state}, ${microbatches} micro-batches`).join('; ');
        return `${role}, ${phase}, step ${step} of ${steps}, loss ${loss}, problem ${JSON.stringify(problem)}; ${others}`;
      },
      { timeout: timeoutMs, intervals: [100] },
    )
    .toBe(what);
  return last;
}

/** Of the losses of two rooms, as far as both have come: who computes must not matter but for the order of sums. */
export function largestDifference({ history }: PageStatus, other: PageStatus): number {
  const common = Math.min(history.length, other.history.length);
  return Math.max(...history.slice(0, common).map((point, step) => Math.abs(point.loss / (other.history[step]?.loss ?? Number.NaN) - 1)));
}

export function untilStep(page: Page, step: number, timeoutMs?: number): Promise<PageStatus> {
  return statusWhen(page, `step ${step} reached`, (status) => status.step >= step, timeoutMs);
}

export async function expectNoProblem(page: Page): Promise<void> {
  expect((await statusOf(page)).problem).toBeNull();
}
