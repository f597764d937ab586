/**
 * A connection to one peer as the session sees it: open, key proved, carrying control messages and blobs both ways.
 * Implemented over PeerJS and data channels (`peerjs.ts`); the framing and handshake know nothing of PeerJS.
 */
/** What happened, and what to do; the same shape as the page's problems. */
export interface TransportProblem {
  readonly code: string;
  readonly message: string;
  readonly whatToDo: string;
}

export interface ConnectionStats {
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** null until a blob took long enough to tell. */
  readonly sendBytesPerSecond: number | null;
  /** 'direct' | 'relayed' from the selected ICE pair, null when unknown. */
  readonly path: 'direct' | 'relayed' | null;
  readonly roundTripMs: number | null;
  /** How many connections carry it: more than one only where the round trip is long. */
  readonly connections: number;
}

export interface ConnectionHandlers {
  /** Control messages arrive as parsed JSON, not validated. */
  control(message: unknown): void;
  /** A blob arrived whole; `header` is parsed JSON, not validated. */
  blob(header: unknown, bytes: ArrayBuffer): void;
  /** A peer that announces a larger blob is hung up on. Default 1 GiB. */
  readonly maxBlobBytes?: number;
  /** Once, however it ends. `isMalformed`: this side hung up, because what arrived breaks the rules of framing. */
  closed(reason: string, isMalformed: boolean): void;
}

export interface Connection {
  readonly remoteId: string;
  /** Never blocks; nothing happens after the connection closed. Throws `RangeError` for a message over 8 MiB of JSON. */
  sendControl(message: unknown): void;
  /** Resolves when the last byte was handed to the channel; rejects when the connection closes first. Blobs keep their order. */
  sendBlob(header: unknown, bytes: ArrayBuffer): Promise<void>;
  stats(): Promise<ConnectionStats>;
  close(reason: string): void;
}

export interface Endpoint {
  /** Where others reach this peer now. Changes (see `idChanged`) when the signalling server no longer grants the old one. */
  readonly id: string;
  /** Rejects with a `TransportError` that carries a problem (peer unavailable, ICE failed in which state, wrong key, timeout). */
  connect(remoteId: string, handlers: ConnectionHandlers): Promise<Connection>;
  destroy(): void;
}

export interface EndpointOptions {
  readonly signallingUrl: URL;
  readonly iceServers: () => Promise<readonly RTCIceServer[]>;
  /** The room's secret, from the link, as it is when a connection is made. Proved by both sides with HMAC before anything else counts. */
  readonly key: () => string;
  readonly room: string;
  /** An incoming connection whose handshake succeeded. */
  readonly accept: (connection: Connection) => ConnectionHandlers;
  readonly signallingChanged: (state: 'online' | 'offline') => void;
  /** Tell the directory: newcomers can't reach the old id any more. Connections that are open go on. */
  readonly idChanged?: (id: string) => void;
}

export class TransportError extends Error {
  override readonly name = 'TransportError';
  readonly problem: TransportProblem;
  constructor(problem: TransportProblem) {
    super(problem.message);
    this.problem = problem;
  }
}
