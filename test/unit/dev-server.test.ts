/** `npm run dev`: on Vite's server, too, the page finds everything that the signalling server has for it. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { createServer } from 'vite';
import type { ViteDevServer } from 'vite';
import { WebSocket } from 'ws';
import { makeCertificate } from '../../signaling/certificate.ts';
import { startServer } from '../../signaling/server.ts';
import type { RunningServer } from '../../signaling/server.ts';
import { createDirectoryClient, newHolder } from '../../src/session/directory-client.ts';
import { newRoomAddress } from '../../src/session/link.ts';
import { projectRoot } from '../../tools/build.mjs';

let signaling: RunningServer;
let vite: ViteDevServer;
let base: URL;

beforeAll(async () => {
  const certificate = makeCertificate(['localhost'], new Date());
  signaling = await startServer({ port: 0, host: '127.0.0.1', certificate, ice: { turnUrls: [], turnSecret: null, stunUrls: [] }, pageDirectory: null });
  vi.stubEnv('COTRAIN_SIGNALING_PORT', String(signaling.port));
  vite = await createServer({
    root: projectRoot,
    configFile: join(projectRoot, 'vite.config.ts'),
    logLevel: 'silent',
    optimizeDeps: { noDiscovery: true },
    server: { host: '127.0.0.1', port: 0, watch: null },
  });
  await vite.listen();
  const address = vite.httpServer?.address();
  if (typeof address !== 'object' || address === null) throw new Error('Vite does not listen');
  base = new URL(`http://127.0.0.1:${address.port}/`);
});
afterAll(async () => {
  await vite.close();
  await signaling.close();
  vi.unstubAllEnvs();
});

it('answers every question of the directory’s client', async () => {
  const address = newRoomAddress();
  const directory = createDirectoryClient(base, address.room, address.key);
  await directory.create({ peerId: 'ada', holder: newHolder(), term: 1, step: 0, isReclaim: false });
  expect(await directory.lookUp()).toMatchObject({ coordinator: 'ada', term: 1 });
  expect(await directory.iceServers()).toEqual([]);
  expect(await directory.serverUrls()).toEqual(signaling.urls);
});

it('leads sockets to the signalling server', async () => {
  const socket = new WebSocket(new URL('signal/peerjs?key=peerjs&id=somebody&token=x', base.href.replace('http', 'ws')));
  const first = await new Promise<string>((resolve, reject) => {
    socket.once('message', (data: Buffer) => resolve(data.toString()));
    socket.once('error', reject);
  });
  socket.terminate();
  expect(JSON.parse(first)).toEqual({ type: 'OPEN' });
});
