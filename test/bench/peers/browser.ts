/**
 * One Chromium in which every contestant has a page of its own, all on the same adapter, built from this folder by Vite
 * and served with the headers that let WebAssembly have threads.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from '@playwright/test';
import type { Page } from '@playwright/test';
import { build, preview } from 'vite';
import playwrightConfig from '../../../playwright.config.ts';
import type { AdapterRate } from './matmul-rate.ts';
import type { Choice } from './page.ts';
import type { Task, TrainedSteps } from './task.ts';

export interface ContestantPage {
  readonly adapter: string;
  train(steps: number): Promise<TrainedSteps>;
}

export interface PeersBrowser {
  readonly version: string;
  open(choice: Choice, task: Task): Promise<ContestantPage>;
  /** Of the adapter that pages get. */
  matmulRate(): Promise<AdapterRate>;
  close(): Promise<void>;
}

/** Both, so that a page is cross-origin isolated and has SharedArrayBuffer. */
const headers = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

export async function openPeersBrowser(): Promise<PeersBrowser> {
  const outDir = mkdtempSync(join(tmpdir(), 'cotrain-peers-'));
  const root = import.meta.dirname;
  await build({
    configFile: false,
    root,
    logLevel: 'error',
    worker: { format: 'es' },
    build: { outDir, emptyOutDir: true, target: 'es2022', chunkSizeWarningLimit: 10_000, rolldownOptions: { input: join(root, 'page.html') } },
  });
  const server = await preview({ configFile: false, root, logLevel: 'error', build: { outDir }, preview: { port: 0, headers } });
  const [address] = server.resolvedUrls?.local ?? [];
  const browser = await chromium.launch(playwrightConfig.use?.launchOptions ?? {});

  async function newPage(): Promise<Page> {
    const page = await browser.newPage();
    await page.goto(`${address}page.html`);
    return page;
  }

  return {
    version: browser.version(),
    async open(choice, task) {
      const page = await newPage();
      const adapter = await page.evaluate(([choice, task]) => window.peersPage.open(choice, task), [choice, task] as const);
      return { adapter, train: (steps) => page.evaluate((count) => window.peersPage.train(count), steps) };
    },
    async matmulRate() {
      const page = await newPage();
      const rate = await page.evaluate(() => window.peersPage.matmulRate());
      await page.close();
      return rate;
    },
    async close() {
      await browser.close();
      await server.close();
      rmSync(outDir, { recursive: true });
    },
  };
}
