/**
 * `npm start`: builds what is stale, then runs the server with the options given. Not here: the options themselves
 * (signaling/main.ts), certificates, ports.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildStale, projectRoot } from './build.mjs';

if (!existsSync(join(projectRoot, 'node_modules/vite'))) {
  console.error('The project’s packages are missing. Run “npm ci” first.');
  process.exit(1);
}
try {
  console.log('Building what changed …');
  const built = await buildStale(['client', 'server'], { log: (line) => console.log(`  ${line}`) });
  if (built.length === 0) console.log('  nothing did');
} catch (error) {
  console.error(`The build failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
await import(pathToFileURL(join(projectRoot, 'dist/server/main.js')).href);
