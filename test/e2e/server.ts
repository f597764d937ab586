/** The real server (dist/server/main.js) in a process of its own, as `npm start` runs it. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { projectRoot } from '../../tools/build.mjs';

export interface RunningServer {
  readonly pid: number;
  readonly port: number;
  /** `http://localhost:<port>` */
  readonly url: string;
  /** `https://<address>:<port>` for each of this machine's addresses. */
  readonly lanUrls: readonly string[];
  /** Ends the process; `SIGKILL` is a crash. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
}

/** Starts it and resolves once it has printed its addresses. Port 0 picks a free one. */
export async function startServer(options: { readonly port?: number; readonly args?: readonly string[] } = {}): Promise<RunningServer> {
  const child = spawn(process.execPath, [join(projectRoot, 'dist/server/main.js'), '--port', String(options.port ?? 0), ...(options.args ?? [])], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Its certificate is not the one of the person who runs the tests.
    env: { ...process.env, XDG_CONFIG_HOME: join(projectRoot, 'test-results/config') },
  });
  const urls = await printedUrls(child);
  const url = urls.find((candidate) => candidate.startsWith('http://localhost:'));
  if (url === undefined) throw new Error(`the server printed no localhost address, only ${urls.join(' ')}`);
  return {
    pid: child.pid ?? 0,
    port: Number(new URL(url).port),
    url,
    lanUrls: urls.filter((candidate) => candidate.startsWith('https://')),
    async stop(signal = 'SIGTERM') {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill(signal);
      await once(child, 'exit');
    },
  };
}

/** Every URL printed up to the line that says how to stop it. */
function printedUrls(child: ChildProcess): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const { stdout, stderr } = child;
    if (stdout === null || stderr === null) throw new Error('the server was started without pipes');
    const urls: string[] = [];
    const said: string[] = [];
    createInterface({ input: stdout }).on('line', (line) => {
      urls.push(...(line.match(/https?:\/\/\S+/g) ?? []));
      if (line.startsWith('Stop with')) resolve(urls);
    });
    createInterface({ input: stderr }).on('line', (line) => said.push(line));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the server ended with code ${code} before it listened: ${said.join('\n')}`)));
  });
}
