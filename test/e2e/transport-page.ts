/** Builds the transport's test page and serves it with the real server, for the spec and for the benchmark. */
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, type Page } from '@playwright/test';
import { build } from 'vite';
import { makeCertificate } from '../../signaling/certificate.ts';
import { startServer, type RunningServer } from '../../signaling/server.ts';

const projectRoot = join(import.meta.dirname, '../..');

export interface TransportPage {
  readonly url: string;
  /** Ends the server under the page, as a crash or an update would. */
  stopServer(): Promise<void>;
  /** Starts it again on the same port. */
  startServer(): Promise<void>;
  close(): Promise<void>;
}

export async function serveTransportPage(): Promise<TransportPage> {
  const pageDirectory = mkdtempSync(join(tmpdir(), 'cotrain-transport-'));
  await build({
    configFile: false,
    root: join(projectRoot, 'test/e2e/pages'),
    logLevel: 'error',
    build: { outDir: pageDirectory, emptyOutDir: true, target: 'es2022', rolldownOptions: { input: join(projectRoot, 'test/e2e/pages/transport.html') } },
  });
  renameSync(join(pageDirectory, 'transport.html'), join(pageDirectory, 'index.html'));
  const certificate = makeCertificate(['localhost'], new Date());
  const start = (port: number): Promise<RunningServer> =>
    startServer({ port, host: null, certificate, ice: { turnUrls: [], turnSecret: null, stunUrls: [] }, pageDirectory });
  let server: RunningServer | null = await start(0);
  const { port } = server;
  const stop = async (): Promise<void> => {
    await server?.close();
    server = null;
  };
  return {
    url: `http://localhost:${port}/`,
    stopServer: stop,
    startServer: async () => {
      server ??= await start(port);
    },
    close: async () => {
      await stop();
      rmSync(pageDirectory, { recursive: true });
    },
  };
}

export async function openPages(served: TransportPage, openContextPage: () => Promise<Page>, count: number): Promise<Page[]> {
  const pages = await Promise.all(Array.from({ length: count }, openContextPage));
  await Promise.all(pages.map((page) => page.goto(served.url)));
  return pages;
}

/** Two pages in contexts of their own, each with an endpoint; the first has connected to the second. */
export async function connectedPages(served: TransportPage, openContextPage: () => Promise<Page>): Promise<readonly [Page, Page]> {
  const [caller, callee] = (await openPages(served, openContextPage, 2)) as [Page, Page];
  await caller.evaluate(() => window.transportTest.open('key'));
  const id = await callee.evaluate(() => window.transportTest.open('key'));
  expect(await caller.evaluate((remote) => window.transportTest.connect(remote), id)).toBeNull();
  return [caller, callee];
}
