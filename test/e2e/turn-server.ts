/**
 * A real coturn on this machine, for one test: relays between loopback addresses alone, knows one secret that it shares with
 * Cotrain's own server, and leaves nothing behind. Finding or installing it is test/setup.mjs's.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const host = '127.0.0.1';
const startTimeoutMs = 10_000;
const askIntervalMs = 100;
/** RFC 8489: a binding request without attributes. */
const stunBindingRequest = Buffer.from('000100002112a442', 'hex');

export interface TurnServer {
  readonly port: number;
  readonly secret: string;
  stop(): Promise<void>;
}

export async function startTurnServer(program: string): Promise<TurnServer> {
  const secret = randomBytes(16).toString('hex');
  const port = await freeUdpPort();
  const directory = mkdtempSync(join(tmpdir(), 'cotrain-turn-'));
  const child = spawn(
    program,
    [
      '-n', // No configuration file.
      ...[`--listening-ip=${host}`, `--relay-ip=${host}`, `--listening-port=${port}`, '--no-tcp', '--no-tls', '--no-dtls', '--no-cli'],
      // Both ends of a relayed way are allocations on this very server.
      '--allow-loopback-peers',
      ...['--use-auth-secret', `--static-auth-secret=${secret}`, '--realm=cotrain.test'],
      ...[`--userdb=${join(directory, 'users')}`, `--pidfile=${join(directory, 'pid')}`, '--log-file=stdout', '--simple-log'],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', (line) => said.push(line));
  const ended = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true });
  };
  const gone = ended.then(() => false);
  if (!(await Promise.race([answers(port), gone]))) {
    await stop();
    throw new Error(`${program} did not start: ${said.slice(-5).join(' | ')}`);
  }
  return { port, secret, stop };
}

async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0, host);
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}

/** Asks until the server says where from it was asked; false when it never does. */
function answers(port: number): Promise<boolean> {
  const socket = createSocket('udp4');
  // Until it listens, the system refuses what is sent there.
  socket.on('error', () => undefined);
  const request = Buffer.concat([stunBindingRequest, randomBytes(12)]);
  return new Promise((resolve) => {
    const asking = setInterval(() => socket.send(request, port, host), askIntervalMs);
    const settle = (isThere: boolean): void => {
      clearInterval(asking);
      clearTimeout(timer);
      socket.close();
      resolve(isThere);
    };
    const timer = setTimeout(() => settle(false), startTimeoutMs);
    socket.once('message', () => settle(true));
  });
}
