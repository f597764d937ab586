/**
 * Keeps a tab reachable through the signalling server: a fresh random id per load, reconnecting by itself with growing
 * pauses. Connections that are open live on without signalling, and on the PeerJS `Peer` they were made with.
 *
 * PeerJS's ways that shape this (1.5.5): it never reconnects by itself; after `reconnect()` under an id that a server
 * still holds, other servers than ours never greet, so `open` doesn't come; an id that was given away meanwhile must be
 * changed, which a `Peer` can't, so that a second one is made while the first keeps its connections.
 */
import { Peer, type DataConnection, type PeerError } from 'peerjs';
import { problems } from './problems.ts';
import type { TransportError } from './types.ts';

export interface SignallingOptions {
  readonly url: URL;
  readonly rtcConfig: RTCConfiguration;
  readonly stateChanged: (state: 'online' | 'offline') => void;
  readonly idChanged: (id: string) => void;
  readonly incoming: (peer: Peer, connection: DataConnection) => void;
  readonly peerError: (error: PeerError<string>) => void;
  /** Awaited before each attempt to get online. */
  readonly beforeConnecting: () => Promise<void>;
}

export interface Signalling {
  readonly id: string;
  /** The first time online. Rejects with a `TransportError` after `firstOpenTimeoutMs`. */
  readonly opened: Promise<void>;
  /** null while offline. */
  onlinePeer(): Peer | null;
  /** Ends signalling at once, and what connections are left two seconds later. */
  close(): void;
}

const firstOpenTimeoutMs = 10_000;
const openTimeoutMs = 8000;
const firstPauseMs = 500;
const longestPauseMs = 15_000;
const lastWordsMs = 2000;

export function keepSignalling(options: SignallingOptions): Signalling {
  return new KeptSignalling(options);
}

class KeptSignalling implements Signalling {
  readonly opened: Promise<void>;
  readonly #options: SignallingOptions;
  /** Peers of former ids, kept for the connections they carry. */
  readonly #former: Peer[] = [];
  #id = randomId();
  #peer: Peer | null = null;
  #state: 'starting' | 'online' | 'offline' | 'closed' = 'starting';
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #settle: { resolve(): void; reject(error: TransportError): void } | null = null;

  constructor(options: SignallingOptions) {
    this.#options = options;
    this.opened = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    setTimeout(() => {
      if (this.#state !== 'starting') return;
      this.#settle?.reject(problems.signallingUnreachable(options.url));
      this.close();
    }, firstOpenTimeoutMs);
    void this.#attempt('fresh');
    if (typeof addEventListener === 'function') addEventListener('online', this.#networkIsBack);
  }

  get id(): string {
    return this.#id;
  }

  onlinePeer(): Peer | null {
    return this.#state === 'online' ? this.#peer : null;
  }

  readonly #networkIsBack = (): void => {
    if (this.#state === 'offline') this.#schedule(0);
  };

  #schedule(pauseMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#attempt('again'), pauseMs);
  }

  /** Growing pauses, each drawn from its upper half, so that a room doesn't come back all at once. */
  #scheduleRetry(): void {
    const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** this.#failures);
    this.#failures += 1;
    this.#schedule(pauseMs * (0.5 + Math.random() / 2));
  }

  async #attempt(how: 'fresh' | 'again'): Promise<void> {
    await this.#options.beforeConnecting();
    if (this.#state === 'closed' || this.#state === 'online') return;
    const peer = this.#peer;
    if (how === 'again' && peer !== null && !peer.destroyed) {
      // Still waiting for an answer to the last attempt: that one was too slow.
      if (!peer.disconnected) peer.disconnect();
      peer.reconnect();
    } else {
      this.#makePeer();
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      // The socket neither failed nor brought a greeting: the id may be held by a server that forgets to greet.
      if (this.#state !== 'online') this.#changeId();
    }, openTimeoutMs);
  }

  #makePeer(): void {
    const { url, rtcConfig } = this.#options;
    const secure = url.protocol === 'https:' || url.protocol === 'wss:';
    const peer = new Peer(this.#id, {
      host: url.hostname,
      port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
      path: url.pathname,
      secure,
      config: rtcConfig,
      debug: 0,
    });
    this.#peer = peer;
    peer.on('open', () => {
      if (peer === this.#peer) this.#nowOnline();
    });
    peer.on('connection', (connection) => this.#options.incoming(peer, connection));
    peer.on('error', (error) => {
      if (error.type === 'unavailable-id' && peer === this.#peer) this.#changeId();
      else this.#options.peerError(error);
    });
    const lost = (): void => {
      if (peer === this.#peer) this.#nowOffline();
    };
    peer.on('disconnected', lost);
    peer.on('close', lost);
  }

  #nowOnline(): void {
    if (this.#state === 'closed') return;
    clearTimeout(this.#timer);
    this.#failures = 0;
    this.#state = 'online';
    this.#settle?.resolve();
    this.#options.stateChanged('online');
  }

  #nowOffline(): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'online') {
      this.#state = 'offline';
      this.#options.stateChanged('offline');
    }
    this.#scheduleRetry();
  }

  #changeId(): void {
    if (this.#state === 'closed') return;
    const before = this.#peer;
    this.#id = randomId();
    this.#peer = null; // From here on, what the former peer reports is no news of ours.
    if (before !== null && !before.destroyed) {
      before.disconnect();
      this.#former.push(before);
    }
    this.#options.idChanged(this.#id);
    this.#scheduleRetry();
  }

  close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    clearTimeout(this.#timer);
    if (typeof removeEventListener === 'function') removeEventListener('online', this.#networkIsBack);
    const peers = [...this.#former, ...(this.#peer === null ? [] : [this.#peer])];
    for (const peer of peers) peer.disconnect();
    // Connections close by themselves with their last words; what is left after that has nobody listening.
    setTimeout(() => {
      for (const peer of peers) peer.destroy();
    }, lastWordsMs);
  }
}

/** PeerJS wants letters and digits at both ends. */
function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
