/** The server as a process, built as `npm start` builds it: what it prints, how it fails, how it ends. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = path.resolve(import.meta.dirname, '../..');
let folder: string;
let entry: string;

beforeAll(async () => {
  // Below node_modules, so that the packages it leaves outside its bundle are found.
  const cache = path.join(root, 'node_modules', '.cache');
  mkdirSync(cache, { recursive: true });
  folder = mkdtempSync(path.join(cache, 'cotrain-server-'));
  await build({
    configFile: false,
    root,
    logLevel: 'error',
    build: { ssr: 'signaling/main.ts', outDir: path.join(folder, 'server'), rolldownOptions: { output: { entryFileNames: 'main.js' } } },
  });
  writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
  mkdirSync(path.join(folder, 'client'));
  writeFileSync(path.join(folder, 'client', 'index.html'), '<!doctype html><title>Cotrain</title>');
  entry = path.join(folder, 'server', 'main.js');
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

function start(...options: string[]): ChildProcess {
  return spawn(process.execPath, [entry, ...options], { env: { ...process.env, XDG_CONFIG_HOME: folder }, stdio: ['ignore', 'pipe', 'pipe'] });
}

interface End {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function ended(child: ChildProcess): Promise<End> {
  let out = '';
  let err = '';
  child.stdout?.on('data', (part: Buffer) => (out += String(part)));
  child.stderr?.on('data', (part: Buffer) => (err += String(part)));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, out, err })));
}

function printed(child: ChildProcess, pattern: RegExp): Promise<string> {
  let text = '';
  return new Promise((resolve, reject) => {
    child.stdout?.on('data', (part: Buffer) => {
      text += String(part);
      if (pattern.test(text)) resolve(text);
    });
    child.once('close', () => reject(new Error(`the server ended before it printed ${String(pattern)}: ${text}`)));
  });
}

describe('the server process', () => {
  it('prints its addresses, a QR code and why the browser will warn, serves, and ends cleanly when told', async () => {
    const child = start('--port', '0');
    const end = ended(child);
    const text = await printed(child, /Stop with Ctrl\+C/);
    const url = /http:\/\/localhost:\d+/.exec(text)?.[0] ?? '';
    expect(text).toMatch(/on your network {3}https:\/\/[^\s]+:\d+/);
    expect(text).toMatch(/[▀▄█]{10}/);
    expect(text).toMatch(/will warn about the certificate/);
    expect(await (await fetch(url)).text()).toContain('<title>Cotrain</title>');
    child.kill('SIGTERM');
    expect(await end).toMatchObject({ code: 0, err: '' });
  });

  it('knows its rooms again when it was killed and started anew', async () => {
    const first = start('--port', '0');
    const firstEnd = ended(first);
    const url = /http:\/\/localhost:\d+/.exec(await printed(first, /Stop with Ctrl\+C/))?.[0] ?? '';
    const created = await fetch(`${url}/rooms/killed-room/create`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${'t'.repeat(43)}` },
      body: JSON.stringify({ coordinator: 'ada', holder: 'a-secret-of-adas', term: 4, step: 17, isReclaim: false }),
    });
    expect(created.status).toBe(201);
    first.kill('SIGKILL');
    await firstEnd;
    const second = start('--port', new URL(url).port);
    const secondEnd = ended(second);
    await printed(second, /Stop with Ctrl\+C/);
    expect(await (await fetch(`${url}/rooms/killed-room`)).json()).toMatchObject({ coordinator: 'ada', term: 4, step: 17 });
    second.kill('SIGTERM');
    expect(await secondEnd).toMatchObject({ code: 0, err: '' });
  });

  it('explains itself when asked', async () => {
    const end = await ended(start('--help'));
    expect(end).toMatchObject({ code: 0, err: '' });
    for (const option of ['--port', '--host', '--cert', '--key', '--turn-url', '--turn-secret']) expect(end.out).toContain(option);
  });

  it('ends with one line and exit code 1 when something is wrong', async () => {
    const blocker = createServer().listen(0);
    await new Promise((resolve) => blocker.once('listening', resolve));
    const address = blocker.address();
    const taken = String(typeof address === 'object' && address !== null ? address.port : 0);
    const wrong: readonly [string[], RegExp][] = [
      [['--port', taken], /^Port \d+ is taken by another program: [^\n]+\n$/],
      [['--port', 'x'], /^--port must be a number[^\n]+\n$/],
      [['--nonsense'], /^[^\n]*--nonsense[^\n]+\n$/],
      [['--cert', '/absent.pem', '--key', '/absent.pem'], /^--cert \/absent\.pem cannot be read \(ENOENT\)\.\n$/],
      [['--cert', entry, '--key', entry], /^--cert [^\n]+ is not a certificate in PEM form\.\n$/],
      [['--port', '0', '--host', 'host.invalid'], /^--host host\.invalid is no name or address of this machine[^\n]+\n$/],
    ];
    for (const [options, line] of wrong) {
      const end = await ended(start(...options));
      expect(end.err, options.join(' ')).toMatch(line);
      expect(end).toMatchObject({ code: 1, out: '' });
    }
    blocker.close();
  });
});
