/**
 * Checks of the whole tree that no single test owns: licences of what ships, and the size of the page's first load.
 * Each throws with the offenders by name. Not here: typecheck and lint, which are programs of their own.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { projectRoot } from '../tools/build.mjs';

const allowedLicences = new Set(['MIT', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', 'Apache-2.0', '0BSD', 'BlueOak-1.0.0', 'Unlicense', 'CC0-1.0']);

const firstLoadLimitBytes = 200_000;

/**
 * Whether an SPDX expression lets us ship the package: of “A OR B” one allowed is enough, of “A AND B” all must be.
 * @param {string} expression
 */
export function isAllowedLicence(expression) {
  const bare = expression.replace(/[()]/g, '');
  return bare.split(' OR ').some((choice) => choice.split(' AND ').every((name) => allowedLicences.has(name.trim())));
}

/** Licences of everything that `npm ci --omit=dev` would install, by the lock file. */
export function checkLicences() {
  const lock = /** @type {{ packages: Record<string, { dev?: boolean, license?: string }> }} */ (
    JSON.parse(readFileSync(join(projectRoot, 'package-lock.json'), 'utf8'))
  );
  const shipped = Object.entries(lock.packages).filter(([path, entry]) => path !== '' && entry.dev !== true);
  const refused = shipped.filter(([, entry]) => entry.license === undefined || !isAllowedLicence(entry.license));
  if (refused.length > 0) {
    const list = refused.map(([path, entry]) => `${path.replace(/^node_modules\//, '')}: ${entry.license ?? 'no licence stated'}`);
    throw new Error(`packages that ship under a licence we have not allowed:\n  ${list.join('\n  ')}`);
  }
  return `${shipped.length} packages`;
}

/**
 * JavaScript that a visitor fetches before the first click: the modules that index.html names, everything they import
 * statically, and the workers that any of these start, whether or not they start them at once. Modules behind `import()`
 * count only when index.html preloads them.
 * @param {string} pageDirectory
 * @returns {ReadonlyMap<string, number>} gzipped bytes by file
 */
export function firstLoad(pageDirectory) {
  const page = readFileSync(join(pageDirectory, 'index.html'), 'utf8');
  const waiting = [...page.matchAll(/(?:src|href)="([^"]+\.js)"/g)].map(([, path]) => join(pageDirectory, path ?? ''));
  /** @type {Map<string, number>} */
  const sizes = new Map();
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (sizes.has(file)) continue;
    const source = readFileSync(file);
    sizes.set(file, gzipSync(source, { level: 9 }).length);
    const text = source.toString();
    const imports = [...text.matchAll(/(?:\bfrom|\bimport)\s*["'](\.{1,2}\/[^"']+\.js)["']/g)].map(([, path]) => resolve(dirname(file), path ?? ''));
    const workers = [...text.matchAll(/new URL\([^)]*?["'`](\/?[^"'`]+\.js)["'`]/g)].map(([, path = '']) =>
      path.startsWith('/') ? join(pageDirectory, path) : resolve(dirname(file), path),
    );
    waiting.push(...imports, ...workers.filter((path) => existsSync(path)));
  }
  return sizes;
}

/** Fails when the first load of the built page is over its budget. */
export function checkFirstLoad() {
  const directory = join(projectRoot, 'dist/client');
  const sizes = firstLoad(directory);
  const bytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  const list = [...sizes].map(([file, size]) => `${file.slice(directory.length + 1)} ${(size / 1000).toFixed(1)} kB`);
  if (sizes.size === 0) throw new Error('index.html names no JavaScript at all');
  if (bytes > firstLoadLimitBytes) {
    throw new Error(`${(bytes / 1000).toFixed(1)} kB gzipped, ${firstLoadLimitBytes / 1000} kB allowed:\n  ${list.join('\n  ')}`);
  }
  return `${(bytes / 1000).toFixed(1)} kB gzipped of ${firstLoadLimitBytes / 1000} kB (${list.join(', ')})`;
}
