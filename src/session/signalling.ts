/**
 * The page's endpoint at the signalling server: loaded and opened when first needed, opened again with growing pauses while
 * the server can't be reached. Training never waits for it.
 */
import { problems } from '../transport/problems.ts';
import type { Connection, ConnectionHandlers, Endpoint } from '../transport/types.ts';
import type { DirectoryClient } from './directory-client.ts';

const firstPauseMs = 1000;
const longestPauseMs = 15_000;

export interface SignallingOptions {
  readonly room: string;
  readonly key: () => string;
  readonly directory: DirectoryClient;
  readonly accept: (connection: Connection) => ConnectionHandlers;
  readonly changed: (state: 'online' | 'offline') => void;
}

export class Signalling {
  readonly #options: SignallingOptions;
  #endpoint: Endpoint | null = null;
  #opening: Promise<Endpoint> | null = null;
  #pauseMs = firstPauseMs;
  #closed = false;

  constructor(options: SignallingOptions) {
    this.#options = options;
  }

  /** The peer id under which others find this page; null while there is none. */
  get id(): string | null {
    if (this.#endpoint === null) this.endpoint().catch(() => undefined); // Reported by `changed`; asked again later.
    return this.#endpoint?.id ?? null;
  }

  /** Rejects with a `TransportError` while the server can't be reached; trying again is up to the caller. */
  endpoint(): Promise<Endpoint> {
    this.#opening ??= this.#open();
    return this.#opening;
  }

  close(): void {
    this.#closed = true;
    this.#endpoint?.destroy();
    this.#endpoint = null;
  }

  async #open(): Promise<Endpoint> {
    const { room, key, directory, accept, changed } = this.#options;
    const signallingUrl = new URL('signal', document.baseURI);
    try {
      const { openEndpoint } = await import('../transport/peerjs.ts').catch(() => {
        throw problems.signallingUnreachable(signallingUrl);
      });
      const endpoint = await openEndpoint({
        signallingUrl,
        iceServers: () => directory.iceServers().catch(() => []),
        key,
        room,
        accept,
        signallingChanged: changed,
      });
      if (this.#closed) endpoint.destroy();
      else this.#endpoint = endpoint;
      this.#pauseMs = firstPauseMs;
      changed('online');
      return endpoint;
    } catch (error) {
      changed('offline');
      // Asked for often, tried now and then.
      setTimeout(() => {
        this.#opening = null;
      }, this.#pauseMs);
      this.#pauseMs = Math.min(2 * this.#pauseMs, longestPauseMs);
      throw error;
    }
  }
}
