/**
 * PeerServer under /signal, on sockets that this file hands it: it passes offers, answers and candidates between tabs.
 * PeerServer itself has no limits, so they are here: size, rate, sockets per address, and only the message types that a
 * tab has reason to send. Trusts no forwarded addresses.
 */
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { ExpressPeerServer } from 'peer';
import * as v from 'valibot';
import { WebSocket, WebSocketServer } from 'ws';
import type { RequestHandler } from 'express';
import { ConnectionCounter, RateLimiter } from './limits.ts';

export const signalPath = '/signal';
const webSocketPath = `${signalPath}/peerjs`;

/** An offer with many candidates is about 10 kB. */
const maxMessageBytes = 64 * 1024;
/** A class of thirty behind one address, reloading at once, fits. */
const maxSocketsPerAddress = 400;
const maxSockets = 5000;
/** A connection costs each side about twenty messages (offer or answer, and candidates). */
const messageBurst = 2000;
const messagesPerSecond = 200;
/** A socket whose machine is gone without a word is noticed after two of these. */
const pingIntervalMs = 15_000;
/** How long messages to a peer that isn't there wait before its caller hears `peer-unavailable`. */
const absentPeerMs = 1500;

const messageSchema = v.variant('type', [
  v.object({ type: v.literal('HEARTBEAT') }),
  v.object({
    type: v.picklist(['OFFER', 'ANSWER', 'CANDIDATE']),
    dst: v.pipe(v.string(), v.minLength(1), v.maxLength(80)),
    payload: v.record(v.string(), v.unknown()),
  }),
]);
const identity = v.object({
  id: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{1,80}$/)),
  token: v.pipe(v.string(), v.minLength(1), v.maxLength(80)),
});

/** What a socket may still say; set once by `SignalServer` when it is accepted. */
type Gate = (data: unknown) => boolean;

/** Drops a socket's message before any listener sees it when the gate says so. */
class GatedWebSocket extends WebSocket {
  gate: Gate = () => false;

  override emit(event: string | symbol, ...values: unknown[]): boolean {
    if (event === 'message' && !this.gate(values[0])) return false;
    return super.emit(event, ...values);
  }
}

export interface SignalServer {
  readonly handler: RequestHandler;
  /** True when the request was for signalling and is dealt with. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean;
  sweep(nowMs: number): void;
  close(): void;
}

/** `left` is told the id of each peer that has no socket any more. */
export function signalServer(httpServer: Server, nowMs: () => number, left: (peerId: string) => void): SignalServer {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: maxMessageBytes,
    perMessageDeflate: false,
    WebSocket: GatedWebSocket,
  });
  const perAddress = new ConnectionCounter(maxSocketsPerAddress);
  const messages = new RateLimiter(messageBurst, messagesPerSecond);
  const byId = new Map<string, { readonly token: string; readonly socket: GatedWebSocket }>();
  const alive = new WeakSet<GatedWebSocket>();

  const peerServer = ExpressPeerServer(httpServer, {
    path: '/',
    proxied: false,
    allow_discovery: false,
    concurrent_limit: maxSockets,
    expire_timeout: absentPeerMs,
    cleanup_out_msgs: 500,
    createWebSocketServer: () => sockets,
  });
  // A tab's malformed JSON or broken socket ends that socket (see the gate); it is no event for the server.
  peerServer.on('error', () => undefined);

  function accept(socket: GatedWebSocket, request: IncomingMessage, address: string): void {
    const { id, token } = Object.fromEntries(new URL(request.url ?? '', 'http://unused').searchParams);
    const self = v.safeParse(identity, { id, token });
    if (!self.success) {
      socket.close(1008, 'malformed id or token');
      perAddress.leave(address);
      return;
    }
    const before = byId.get(self.output.id);
    const returns = before !== undefined && before.token === self.output.token;
    alive.add(socket);
    socket.on('pong', () => alive.add(socket));
    socket.on('close', () => {
      perAddress.leave(address);
      // Neither a stranger who was told that the id is taken, nor the old socket of a tab that is back on a new one.
      if (byId.get(self.output.id)?.socket !== socket) return;
      byId.delete(self.output.id);
      left(self.output.id);
    });
    socket.gate = (data) => {
      if (messages.allows(address, nowMs()) && isSignal(data)) return true;
      socket.close(1008, 'malformed message, or too many');
      return false;
    };
    if (before === undefined || returns) byId.set(self.output.id, { token: self.output.token, socket });
    sockets.emit('connection', socket, request);
    if (returns) {
      // The same tab on a new socket while the old one still seems to live (Wi-Fi was gone for a moment). PeerServer
      // takes the new socket without greeting it, and PeerJS would wait for that greeting for ever.
      before.socket.terminate();
      socket.send(JSON.stringify({ type: 'OPEN' }));
    }
  }

  const heartbeat = setInterval(() => {
    for (const socket of sockets.clients) {
      if (!(socket instanceof GatedWebSocket)) continue;
      if (!alive.has(socket)) {
        socket.terminate();
        continue;
      }
      alive.delete(socket);
      socket.ping();
    }
  }, pingIntervalMs);
  heartbeat.unref();

  return {
    handler: peerServer,
    upgrade(request, socket, head) {
      if (new URL(request.url ?? '', 'http://unused').pathname !== webSocketPath) return false;
      const address = request.socket.remoteAddress ?? '';
      if (!perAddress.enter(address)) {
        socket.end('HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
        return true;
      }
      const refused = (): void => perAddress.leave(address);
      socket.once('close', refused);
      sockets.handleUpgrade(request, socket, head, (accepted) => {
        socket.off('close', refused);
        accept(accepted, request, address);
      });
      return true;
    },
    sweep: (now) => messages.sweep(now),
    close() {
      clearInterval(heartbeat);
      for (const socket of sockets.clients) socket.terminate();
      sockets.close();
    },
  };
}

function isSignal(data: unknown): boolean {
  try {
    return v.is(messageSchema, JSON.parse(String(data)));
  } catch {
    return false;
  }
}
