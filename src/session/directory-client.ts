/**
 * The page's side of the server's HTTP API: who leads the room (a lease with a term), which ICE servers to use, and at
 * which addresses other machines reach this server. Decides nothing: when to renew or take over is the session's.
 */
import * as v from 'valibot';

const requestTimeoutMs = 5000;

const leaseSchema = v.object({
  /** Peer id at the signalling server. */
  coordinator: v.pipe(v.string(), v.minLength(1), v.maxLength(80)),
  term: v.pipe(v.number(), v.integer(), v.minValue(1)),
  /** 0: released or run out; the room may be taken over. */
  expiresInMs: v.pipe(v.number(), v.minValue(0)),
});
export type Lease = v.InferOutput<typeof leaseSchema>;

const refusalSchema = v.object({ refusal: v.string(), lease: v.optional(v.nullable(leaseSchema)) });

const iceSchema = v.object({
  iceServers: v.array(
    v.object({ urls: v.array(v.string()), username: v.optional(v.string()), credential: v.optional(v.string()) }),
  ),
});

const healthSchema = v.object({ urls: v.object({ local: v.nullable(v.string()), lan: v.array(v.string()) }) });
export type ServerUrls = v.InferOutput<typeof healthSchema>['urls'];

export type DirectoryErrorKind =
  /** No answer, or none that makes sense: try again later, training goes on. */
  | 'unreachable'
  /** Too many requests, or the directory is full. */
  | 'busy'
  /** The room isn't there (any more). */
  | 'not-found'
  /** The room was created with another key. */
  | 'forbidden'
  /** Somebody was faster, still holds the lease, or the term has moved on; `lease` says how things stand. */
  | 'conflict';

export class DirectoryError extends Error {
  override readonly name = 'DirectoryError';
  readonly kind: DirectoryErrorKind;
  readonly lease: Lease | null;
  /** The server's word: 'exists', 'held', 'stale-term', 'released', … */
  readonly refusal: string;
  constructor(kind: DirectoryErrorKind, refusal: string, lease: Lease | null, cause?: unknown) {
    super(`The room directory said: ${refusal}.`, { cause });
    this.kind = kind;
    this.refusal = refusal;
    this.lease = lease;
  }
}

/** Every method rejects with a `DirectoryError` and nothing else. */
export interface DirectoryClient {
  /** null when there is no such room. */
  lookUp(): Promise<Lease | null>;
  /** `term` above 1 brings back a room that this peer led before and that the directory has forgotten. */
  create(peerId: string, holder: string, term?: number): Promise<Lease>;
  /** The new lease has term `expectedTerm + 1`. Allowed when the lease has ended, or to its own holder at any time. */
  takeOver(peerId: string, expectedTerm: number, holder: string): Promise<Lease>;
  /** Also tells the directory of a changed peer id. */
  renew(peerId: string, term: number, holder: string): Promise<Lease>;
  /** Sent even while the page is closing. */
  release(term: number, holder: string): Promise<void>;
  /** For `new RTCPeerConnection`; relay credentials in it end after a day. */
  iceServers(): Promise<readonly RTCIceServer[]>;
  /** Addresses for an invitation: a link to localhost is of no use on another machine. */
  serverUrls(): Promise<ServerUrls>;
}

/** A secret of this tab's, kept across reloads, by which it proves that a lease is its own. */
export function newHolder(): string {
  return base64Url(crypto.getRandomValues(new Uint8Array(24)));
}

/**
 * Proof of the room's key for the directory: HMAC-SHA256(key, label ‖ room), base64url. The server can't get the key
 * from it, nor use it towards peers, whose proofs have another label.
 */
export async function directoryToken(room: string, key: string): Promise<string> {
  const encoder = new TextEncoder();
  const hmacKey = await crypto.subtle.importKey('raw', encoder.encode(key), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return base64Url(new Uint8Array(await crypto.subtle.sign('HMAC', hmacKey, encoder.encode(`cotrain directory\n${room}`))));
}

export function createDirectoryClient(baseUrl: URL, room: string, key: string): DirectoryClient {
  let token: Promise<string> | null = null;

  async function request<T>(path: string, schema: v.GenericSchema<unknown, T>, init: RequestInit = {}): Promise<T> {
    let response: Response;
    let body: unknown;
    try {
      response = await fetch(new URL(path, baseUrl), { ...init, cache: 'no-store', signal: AbortSignal.timeout(requestTimeoutMs) });
      body = await response.json();
    } catch (error) {
      throw new DirectoryError('unreachable', 'no answer', null, error);
    }
    if (!response.ok) throw refused(response.status, body);
    const parsed = v.safeParse(schema, body);
    if (!parsed.success) throw new DirectoryError('unreachable', 'an answer that makes no sense', null);
    return parsed.output;
  }

  async function write(command: string, body: unknown): Promise<Lease> {
    token ??= directoryToken(room, key);
    return request(`rooms/${room}/${command}`, leaseSchema, {
      method: 'POST',
      keepalive: true,
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${await token}` },
      body: JSON.stringify(body),
    });
  }

  return {
    async lookUp() {
      try {
        return await request(`rooms/${room}`, leaseSchema);
      } catch (error) {
        if (error instanceof DirectoryError && error.kind === 'not-found') return null;
        throw error;
      }
    },
    create: (peerId, holder, term = 1) => write('create', { coordinator: peerId, holder, term }),
    takeOver: (peerId, expectedTerm, holder) => write('take-over', { coordinator: peerId, holder, expectedTerm }),
    renew: (peerId, term, holder) => write('renew', { coordinator: peerId, holder, term }),
    async release(term, holder) {
      await write('release', { holder, term });
    },
    iceServers: async () => (await request('ice', iceSchema)).iceServers.map(toIceServer),
    serverUrls: async () => (await request('health', healthSchema)).urls,
  };
}

function toIceServer(server: v.InferOutput<typeof iceSchema>['iceServers'][number]): RTCIceServer {
  return {
    urls: server.urls,
    ...(server.username === undefined ? {} : { username: server.username }),
    ...(server.credential === undefined ? {} : { credential: server.credential }),
  };
}

function refused(status: number, body: unknown): DirectoryError {
  const parsed = v.safeParse(refusalSchema, body);
  const refusal = parsed.success ? parsed.output.refusal : `status ${status}`;
  const lease = parsed.success ? (parsed.output.lease ?? null) : null;
  // A 404 that isn't the directory's own comes from a server without a directory, not from an absent room.
  if (status === 404 && refusal === 'not-found') return new DirectoryError('not-found', refusal, lease);
  if (status === 403) return new DirectoryError('forbidden', refusal, lease);
  if (status === 409) return new DirectoryError('conflict', refusal, lease);
  if (status === 429 || status === 503) return new DirectoryError('busy', refusal, lease);
  return new DirectoryError('unreachable', refusal, lease);
}

function base64Url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}
