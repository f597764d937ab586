/**
 * Real llama.cpp (npm's node-llama-cpp with its prebuilt library for CPUs) as a reader of our GGUF files. Its packages are no
 * packages of the project: they are installed beside this file when they are first needed, without any build or binary for a GPU.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = import.meta.dirname;
/** npm's own record of what it has installed. */
const installedLock = join(folder, 'node_modules/.package-lock.json');
const installTimeoutMs = 120_000;
const readTimeoutMs = 60_000;

/** Null when it is there; else why it can't be. */
export function whyNoLlamaCpp(): string | null {
  if (process.platform !== 'linux' || process.arch !== 'x64') return `its library is installed for linux-x64, not for ${process.platform}-${process.arch}`;
  if (isInstalled()) return null;
  const npm = spawnSync('npm', ['ci', '--omit=optional', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--fetch-retries=1', '--loglevel=error'], {
    cwd: folder,
    encoding: 'utf8',
    timeout: installTimeoutMs,
  });
  return npm.status === 0 ? null : `“npm ci” in test/llama-cpp says: ${npm.error?.message ?? npm.stderr.split('\n').find((line) => line.trim() !== '') ?? 'nothing'}`;
}

function isInstalled(): boolean {
  if (!existsSync(installedLock)) return false;
  const installed = versionsOf(installedLock);
  return [...versionsOf(join(folder, 'package-lock.json'))].every(([name, version]) => installed.get(name) === version);
}

/** Every package that is not optional, by its place. */
function versionsOf(lockFile: string): ReadonlyMap<string, string> {
  const { packages } = JSON.parse(readFileSync(lockFile, 'utf8')) as { readonly packages: Record<string, { readonly version?: string; readonly optional?: boolean; readonly peer?: boolean }> };
  return new Map(Object.entries(packages).flatMap(([path, { version = '', optional, peer }]) => (path === '' || optional === true || peer === true ? [] : [[path, version] as const])));
}

export interface LlamaCppAnswer {
  /** Of each text; texts that look like special tokens are texts. */
  readonly ids: readonly (readonly number[])[];
  readonly decoded: readonly string[];
  readonly endOfText: number | null;
  /** Greedy, with f32 keys and values; an end-of-text does not end it. */
  readonly continuation: readonly number[];
}

/** Throws with what llama.cpp says when it can't read the file. */
export function readWithLlamaCpp(file: string, job: { readonly texts: readonly string[]; readonly prompt: readonly number[]; readonly count: number }): LlamaCppAnswer {
  const run = spawnSync(process.execPath, [join(folder, 'read.mjs'), file], { input: JSON.stringify(job), encoding: 'utf8', timeout: readTimeoutMs });
  if (run.status !== 0) throw new Error(`llama.cpp: ${run.error?.message ?? run.stderr}`);
  return JSON.parse(run.stdout) as LlamaCppAnswer;
}
