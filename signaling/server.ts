/**
 * One port that speaks HTTP and HTTPS: page, signalling, room directory, ICE settings. `main.ts` gives it the command
 * line's wishes; tests start it directly.
 */
import { createServer as createHttpServer, type IncomingMessage, type Server as HttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createServer as createTcpServer, type Server as TcpServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import express from 'express';
import type { Certificate } from './certificate.ts';
import { Directory, type DirectoryLimits } from './directory.ts';
import { directoryRoutes } from './directory-routes.ts';
import { RateLimiter } from './limits.ts';
import { machineNames, urlHost } from './machine.ts';
import { pageFiles } from './page.ts';
import { StartProblem, systemErrorCode } from './problem.ts';
import { RoomJournal, journalFile, removeOldJournals } from './room-journal.ts';
import { signalPath, signalServer } from './signal.ts';
import { iceServers, type IceSettings } from './turn.ts';

export interface ServerOptions {
  /** 0: any free port. */
  readonly port: number;
  /** null: every interface. */
  readonly host: string | null;
  readonly certificate: Certificate;
  readonly ice: IceSettings;
  /** Folder of the built page, or null for none (tests of the rest). */
  readonly pageDirectory: string | null;
  /** Where the rooms are kept for the next start; without it they are forgotten. */
  readonly roomsFolder?: string;
  readonly directoryLimits?: DirectoryLimits;
  /** What the person at the terminal should know. */
  readonly warn?: (text: string) => void;
}

export interface ServerUrls {
  /** null when the server listens on one address that isn't this machine's own. */
  readonly local: string | null;
  readonly lan: readonly string[];
}

export interface RunningServer {
  readonly port: number;
  readonly urls: ServerUrls;
  close(): Promise<void>;
}

/** The first byte of a TLS ClientHello: content type 22, handshake (RFC 8446 §5.1). No HTTP method starts with it. */
const tlsHandshakeByte = 0x16;
const firstByteTimeoutMs = 10_000;
const idleTimeoutMs = 120_000;
const maxTcpConnections = 10_000;
const sweepIntervalMs = 60_000;
/** Thirty members behind one address look a room up now and then, and up to ninety of its rooms renew every 1.5 s. */
const requestBurst = 300;
const requestsPerSecond = 60;

export async function startServer(options: ServerOptions): Promise<RunningServer> {
  // The port is taken before the rooms of that port are read, so that no other server writes to them.
  const open = new Set<Socket>();
  let serve: (socket: Socket) => void = (socket) => socket.destroy();
  const tcp = createTcpServer((socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy());
    if (open.size > maxTcpConnections) socket.destroy();
    else serve(socket);
  });
  const port = await listen(tcp, options.port, options.host);
  // Leases are short: a wall clock that is set would end them all at once, or keep them.
  const nowMs = (): number => performance.now();
  const limiter = new RateLimiter(requestBurst, requestsPerSecond);
  const journal = options.roomsFolder === undefined ? null : openJournal(options.roomsFolder, options.host, port, options.warn);
  const directory = new Directory(options.directoryLimits, journal);
  for (const { id, room, ageMs } of journal?.rooms ?? []) directory.restore(id, room, ageMs, nowMs());
  const app = express();
  const http = createHttpServer(app);
  const https = createHttpsServer({ cert: options.certificate.certPem, key: options.certificate.keyPem, handshakeTimeout: firstByteTimeoutMs }, app);
  const signal = signalServer(http, nowMs, (peerId) => directory.socketClosed(peerId, nowMs()));

  app.disable('x-powered-by');
  app.set('trust proxy', false);
  const urls = urlsFor(options.host, port);
  app.use(securityHeaders);
  app.use(redirectToHttps);
  app.get('/health', (_request, response) => {
    response.set('Cache-Control', 'no-store').json({ status: 'ok', rooms: directory.size, urls });
  });
  app.get('/ice', (request, response) => {
    response.set('Cache-Control', 'no-store');
    if (limiter.allows(request.socket.remoteAddress ?? '', nowMs())) response.json({ iceServers: iceServers(options.ice, Date.now()) });
    else response.status(429).set('Retry-After', '2').json({ refusal: 'rate' });
  });
  app.use('/rooms', directoryRoutes(directory, limiter, nowMs));
  app.use(signalPath, signal.handler);
  if (options.pageDirectory !== null) app.use(pageFiles(options.pageDirectory));
  app.use(plainErrors);

  for (const server of [http, https]) {
    server.setTimeout(idleTimeoutMs);
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', () => socket.destroy());
      if (!signal.upgrade(request, socket, head)) socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
    });
  }
  // A stranger's failed handshake (a browser refusing the certificate, a port scan) is that connection's end, no more.
  https.on('tlsClientError', (_error, socket) => socket.destroy());

  serve = (socket) => route(socket, http, https);

  const sweeping = setInterval(() => {
    directory.sweep(nowMs());
    limiter.sweep(nowMs());
    signal.sweep(nowMs());
  }, sweepIntervalMs);
  sweeping.unref();

  return {
    port,
    urls,
    close: () =>
      new Promise((resolve) => {
        clearInterval(sweeping);
        signal.close();
        tcp.close(() => resolve());
        for (const socket of open) socket.destroy();
        journal?.close();
      }),
  };
}

function openJournal(folder: string, host: string | null, port: number, warn?: (text: string) => void): RoomJournal {
  removeOldJournals(folder);
  return new RoomJournal(journalFile(folder, host, port), (why) => {
    warn?.(`The rooms cannot be kept in ${folder} (${why}): should this server be restarted, they will not be known to it.`);
  });
}

/** Looks at the first byte without taking it, and lets the right server have the connection. */
function route(socket: Socket, http: HttpServer, https: HttpServer): void {
  socket.setTimeout(firstByteTimeoutMs, () => socket.destroy());
  socket.once('data', (first: Buffer) => {
    socket.pause();
    socket.setTimeout(0);
    socket.removeAllListeners('timeout');
    socket.unshift(first);
    (first[0] === tlsHandshakeByte ? https : http).emit('connection', socket);
    // Both servers read by themselves once they have their listeners; resuming in this task would be too early.
    process.nextTick(() => socket.resume());
  });
}

async function listen(server: TcpServer, port: number, host: string | null): Promise<number> {
  const attempt = (address: string | undefined): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port, ...(address === undefined ? {} : { host: address }) }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  try {
    // Without a host Node listens on :: for both families, or on 0.0.0.0 where IPv6 is off.
    await attempt(host ?? undefined);
  } catch (error) {
    throw new StartProblem(listenProblem(systemErrorCode(error), port, host, error));
  }
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : port;
}

function listenProblem(code: string | null, port: number, host: string | null, error: unknown): string {
  switch (code) {
    case 'EADDRINUSE':
      return `Port ${port} is taken by another program: stop that one, or choose another port with --port.`;
    case 'EACCES':
      return `Port ${port} needs administrator rights: choose one above 1023 with --port.`;
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `--host ${host ?? ''} is no name or address of this machine (${code}).`;
    default:
      return `The server can't listen on port ${port}: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function urlsFor(host: string | null, port: number): ServerUrls {
  if (host === null || host === '0.0.0.0' || host === '::') {
    return {
      local: `http://localhost:${port}`,
      lan: machineNames().lanAddresses.filter((address) => host !== '0.0.0.0' || !address.includes(':')).map((address) => `https://${urlHost(address)}:${port}`),
    };
  }
  return isLocalName(host) ? { local: `http://localhost:${port}`, lan: [] } : { local: null, lan: [`https://${urlHost(host)}:${port}`] };
}

/** What browsers treat as this machine itself: plain HTTP is a secure context there and nowhere else. */
function isLocalName(name: string): boolean {
  return name === 'localhost' || name.endsWith('.localhost') || /^127\.\d+\.\d+\.\d+$/.test(name) || name === '::1';
}

const redirectToHttps: express.RequestHandler = (request, response, next) => {
  const authority = request.headers.host ?? '';
  const name = /^\[([^\]]*)\]/.exec(authority)?.[1] ?? authority.replace(/:\d+$/, '');
  if (request.secure || isLocalName(name)) {
    next();
  } else if (/^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/.test(authority)) {
    response.redirect(308, `https://${authority}${request.url.startsWith('/') ? request.url : '/'}`);
  } else {
    response.status(400).type('text/plain').send('The Host header is missing or malformed.\n');
  }
};

/**
 * The page is scripts, styles and workers of its own, and sockets. Style attributes are allowed since templates and
 * charts set them. No Strict-Transport-Security: with a certificate made here it would lock people out.
 */
const contentSecurityPolicy = [
  "default-src 'self'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "worker-src 'self' blob:",
  "connect-src 'self' ws: wss:",
  "img-src 'self' data: blob:",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join('; ');

const securityHeaders: express.RequestHandler = (_request, response, next) => {
  response.set({
    'Content-Security-Policy': contentSecurityPolicy,
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
  });
  next();
};

/** Express's own page would show a stack. Its body parser's errors carry a status below 500. */
const plainErrors: express.ErrorRequestHandler = (error: unknown, _request, response, next) => {
  if (response.headersSent) {
    next(error);
    return;
  }
  const status = typeof error === 'object' && error !== null && 'status' in error && typeof error.status === 'number' ? error.status : 500;
  response.status(status).json({ refusal: status < 500 ? 'malformed' : 'internal' });
};
