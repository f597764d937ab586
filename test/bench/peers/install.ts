/**
 * Installs the peers' packages beside this file when they are not there as the lock file has them. They are no packages
 * of the project: its `npm ci` knows nothing of them.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CannotRunError } from '../benchmark.ts';

const folder = import.meta.dirname;
/** npm's own record of what it has installed. */
const installedLock = join(folder, 'node_modules/.package-lock.json');

type Versions = ReadonlyMap<string, string>;

/** Versions of what package.json names, by package name. Throws `CannotRunError` when they can't be installed. */
export function installPeers(log: (line: string) => void): Versions {
  const wanted = versionsOf(join(folder, 'package-lock.json'));
  if (!isInstalled(wanted)) {
    log(`installing ${directPackages().join(', ')} into test/bench/peers (once; they are not packages of the project)`);
    // Its own loglevel: a silent `npm run` would hand its silence down.
    const npm = spawnSync('npm', ['ci', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', '--fetch-retries=1', '--loglevel=error'], {
      cwd: folder,
      encoding: 'utf8',
      shell: process.platform === 'win32',
    });
    if (npm.status !== 0) {
      throw new CannotRunError(`the peers’ packages can’t be installed, which needs the network once; “npm ci” in test/bench/peers says: ${npm.error?.message ?? reasonIn(npm.stderr)}`);
    }
  }
  return new Map(directPackages().map((name) => [name, wanted.get(name) ?? 'unknown']));
}

/** The telling line of what npm prints. */
function reasonIn(said: string): string {
  const lines = said.split('\n').flatMap((line) => line.match(/^npm error (.*)$/)?.[1] ?? []);
  return lines.find((line) => line.includes('reason')) ?? lines[0] ?? 'nothing';
}

function directPackages(): readonly string[] {
  const { dependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { readonly dependencies: Record<string, string> };
  return Object.keys(dependencies);
}

function isInstalled(wanted: Versions): boolean {
  if (!existsSync(installedLock)) return false;
  const installed = versionsOf(installedLock);
  return [...wanted].every(([name, version]) => installed.get(name) === version);
}

/** Every package of a lock file, by its name. */
function versionsOf(lockFile: string): Versions {
  const { packages } = JSON.parse(readFileSync(lockFile, 'utf8')) as { readonly packages: Record<string, { readonly version?: string }> };
  return new Map(
    Object.entries(packages)
      .filter(([path]) => path !== '')
      .map(([path, { version = '' }]) => [path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length), version]),
  );
}
