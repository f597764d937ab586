/** Playwright's `test` with a running server and pages in contexts of their own; a console error fails the test. */
import { test as base, expect } from '@playwright/test';
import type { BrowserContextOptions, Page } from '@playwright/test';
import { startServer } from './server.ts';
import type { RunningServer } from './server.ts';

interface OpenOptions extends BrowserContextOptions {
  /** Path with fragment, or a whole link. */
  readonly at?: string;
  /** Run in the page before any script of its own. */
  readonly before?: () => void;
}

interface TestFixtures {
  /** A page in a fresh context (own storage, own peer), opened at the landing page unless told otherwise. */
  readonly openPage: (options?: OpenOptions) => Promise<Page>;
  /** What pages wrote to the console as errors; a test that provokes one removes it. */
  readonly consoleErrors: string[];
}

interface WorkerFixtures {
  readonly server: RunningServer;
}

export const test = base.extend<TestFixtures, WorkerFixtures>({
  server: [
    async ({ browserName: _browserName }, use) => {
      const server = await startServer();
      await use(server);
      await server.stop();
    },
    { scope: 'worker' },
  ],
  consoleErrors: async ({ browserName: _browserName }, use) => {
    const errors: string[] = [];
    await use(errors);
    expect(errors, 'errors on the pages’ consoles').toEqual([]);
  },
  openPage: async ({ browser, server, consoleErrors }, use) => {
    const contexts: { close(): Promise<void> }[] = [];
    await use(async ({ at = '/', before, ...options } = {}) => {
      // Links lead to this machine’s own address, with the certificate that it made itself.
      const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
      contexts.push(context);
      const page = await context.newPage();
      if (before !== undefined) await page.addInitScript(before);
      page.on('console', (message) => {
        const { url } = message.location();
        // “No such room” and “somebody leads it” are answers, but the browser logs every 404 and 409.
        const isAnswer = url.includes('/rooms/') && /\b40[49]\b/.test(message.text());
        // Libraries say so when they were bundled for development: larger and slower.
        const isDevelopment = /\bdev(elopment)? mode\b/i.test(message.text());
        if ((message.type() === 'error' && !isAnswer) || isDevelopment) consoleErrors.push(`${message.text()} (${url})`);
      });
      page.on('pageerror', (error) => consoleErrors.push(error.stack ?? error.message));
      await page.goto(new URL(at, server.url).href);
      return page;
    });
    await Promise.all(contexts.map((context) => context.close()));
  },
});

export { expect };
