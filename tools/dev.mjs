/**
 * `npm run dev`: Vite's dev server for the page, with the signalling server behind its proxy on another port.
 * Options go to the signalling server. Not for tests or for others to join: that is `npm start`.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createServer } from 'vite';
import { buildStale, projectRoot } from './build.mjs';

const signalingPort = process.env['COTRAIN_SIGNALING_PORT'] ?? '9000';

// The signalling server insists on a built page, which is also what its own addresses show to others.
await buildStale(['client', 'server'], { log: console.log });
const signaling = spawn(process.execPath, [join(projectRoot, 'dist/server/main.js'), '--port', signalingPort, ...process.argv.slice(2)], {
  stdio: 'inherit',
});
signaling.once('exit', (code) => process.exit(code ?? 1));
process.once('exit', () => signaling.kill());

const server = await createServer({ root: projectRoot, configFile: join(projectRoot, 'vite.config.ts') });
await server.listen();
server.printUrls();
