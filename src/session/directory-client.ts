/**
 * The page's side of the server's HTTP API: who leads the room (a lease with a term), which ICE servers to use, and at
 * which addresses other machines reach this server. Decides nothing: when to renew or take over is the session's.
 */
import * as v from 'valibot';
import type { RoomKeys } from '../room/rules.ts';
import { toBase64Url } from './base64url.ts';

const requestTimeoutMs = 5000;
/** A renewal that hangs makes room for the next one in time: a lease is 6 s long. */
const renewTimeoutMs = 2000;

const leaseSchema = v.object({
  /** Peer id at the signalling server. */
  coordinator: v.pipe(v.string(), v.minLength(1), v.maxLength(80)),
  term: v.pipe(v.number(), v.integer(), v.minValue(1)),
  /** 0: released or run out; the room may be taken over. */
  expiresInMs: v.pipe(v.number(), v.minValue(0)),
  /** Its holder gave it back; a lease that only ran out may belong to a leader that is cut off. */
  isReleased: v.boolean(),
  /** The newest committed step that the leader has reported. */
  step: v.pipe(v.number(), v.integer(), v.minValue(0)),
  /** The leader has named somebody who is to follow. */
  successor: v.boolean(),
});
export type Lease = v.InferOutput<typeof leaseSchema>;

const refusalSchema = v.object({
  refusal: v.string(),
  lease: v.optional(v.nullable(leaseSchema), null),
  retryInMs: v.optional(v.nullable(v.pipe(v.number(), v.minValue(0))), null),
});

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
  /** Somebody was faster, still holds the lease or comes first, or the term has moved on; `lease` says how things stand. */
  | 'conflict';

/** What the server said when it refused; null where it said nothing of the kind. */
interface Refusal {
  readonly refusal: string;
  readonly lease: Lease | null;
  readonly retryInMs: number | null;
}

export class DirectoryError extends Error {
  override readonly name = 'DirectoryError';
  readonly kind: DirectoryErrorKind;
  readonly lease: Lease | null;
  /** The server's word: 'exists', 'held', 'election', 'stale-term', 'released', … */
  readonly refusal: string;
  /** With 'election': when to ask again. */
  readonly retryInMs: number | null;
  constructor(kind: DirectoryErrorKind, { refusal, lease, retryInMs }: Refusal, cause?: unknown) {
    super(`The room directory said: ${refusal}.`, { cause });
    this.kind = kind;
    this.refusal = refusal;
    this.lease = lease;
    this.retryInMs = retryInMs;
  }
}

/** What every claim to a room says. */
export interface Claim {
  /** At the signalling server: where others find the leader. */
  readonly peerId: string;
  /** This browser's secret, by which the lease stays its own. */
  readonly holder: string;
  /** The newest committed step that this peer can go on from. */
  readonly step: number;
}

/** Also tells the directory of a changed peer id, and who is to follow. */
export interface Renewal extends Claim {
  readonly term: number;
  /** `holderHash` of the successor's secret; null: nobody. */
  readonly successorHash: string | null;
  /** Grows with each renewal of a term, so that one that was delayed on its way can't undo a newer one. */
  readonly sequence: number;
}

/** Every method rejects with a `DirectoryError` and nothing else. */
export interface DirectoryClient {
  /**
   * The room's key was renewed. The directory may not know it yet: then what it refuses is tried with former keys, and
   * whoever holds the lease tells it.
   */
  useKeys(keys: RoomKeys): void;
  /** null when there is no such room. */
  lookUp(): Promise<Lease | null>;
  /**
   * For a room that the directory does not know; `term` above 1 brings one back. `isReclaim`: this peer leads it already, and a
   * directory that has forgotten it may have heard of a leader before the last one.
   */
  create(claim: Claim & { readonly term: number; readonly isReclaim: boolean }): Promise<Lease>;
  /**
   * The new lease has term `expectedTerm + 1`. Allowed at once to the lease's own holder where no step can be lost; when the
   * lease has ended, to the named successor if it `isWarm` (it goes on from memory); then to the others, newest step first
   * (refusal 'election').
   */
  takeOver(claim: Claim & { readonly expectedTerm: number; readonly isWarm: boolean }): Promise<Lease>;
  renew(renewal: Renewal): Promise<Lease>;
  /** Sent even while the page is closing. */
  release(held: { readonly term: number; readonly holder: string; readonly step: number }): Promise<void>;
  /** For `new RTCPeerConnection`; relay credentials in it end after a day. */
  iceServers(): Promise<readonly RTCIceServer[]>;
  /** Addresses for an invitation: a link to localhost is of no use on another machine. */
  serverUrls(): Promise<ServerUrls>;
}

/** A secret of this tab's, kept across reloads, by which it proves that a lease is its own. */
export function newHolder(): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(24)));
}

/** What a successor tells the leader of its secret, so that the directory knows it when it comes: SHA-256, base64url. */
export async function holderHash(holder: string): Promise<string> {
  return toBase64Url(new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(holder))));
}

/**
 * Proof of the room's key for the directory: HMAC-SHA256(key, label ‖ room), base64url. The server can't get the key
 * from it, nor use it towards peers, whose proofs have another label.
 */
export async function directoryToken(room: string, key: string): Promise<string> {
  const encoder = new TextEncoder();
  const hmacKey = await crypto.subtle.importKey('raw', encoder.encode(key), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return toBase64Url(new Uint8Array(await crypto.subtle.sign('HMAC', hmacKey, encoder.encode(`cotrain directory\n${room}`))));
}

export function createDirectoryClient(baseUrl: URL, room: string, key: string): DirectoryClient {
  let keys: RoomKeys = { current: key, former: null };
  /** Each may be the one that the directory knows, the newest last. */
  const formers = new Set<string>();

  async function request<T>(path: string, schema: v.GenericSchema<unknown, T>, init: RequestInit = {}, timeoutMs = requestTimeoutMs): Promise<T> {
    let response: Response;
    let body: unknown;
    try {
      response = await fetch(new URL(path, baseUrl), { ...init, cache: 'no-store', signal: AbortSignal.timeout(timeoutMs) });
      body = await response.json();
    } catch (error) {
      throw new DirectoryError('unreachable', onlyWord('no answer'), error);
    }
    if (!response.ok) throw refused(response.status, body);
    const parsed = v.safeParse(schema, body);
    if (!parsed.success) throw new DirectoryError('unreachable', onlyWord('an answer that makes no sense'));
    return parsed.output;
  }

  async function write(command: string, body: unknown, { timeoutMs, by = keys.current }: { readonly timeoutMs?: number; readonly by?: string } = {}): Promise<Lease> {
    const init = {
      method: 'POST',
      keepalive: true,
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${await directoryToken(room, by)}` },
      body: JSON.stringify(body),
    };
    return request(`rooms/${room}/${command}`, leaseSchema, init, timeoutMs);
  }

  /** `remedy`: what to do instead where the directory knows the room by a former key. */
  async function orIfForbidden(asked: Promise<Lease>, remedy: (former: string) => Promise<Lease>): Promise<Lease> {
    let refusal: unknown;
    try {
      return await asked;
    } catch (error) {
      refusal = error;
    }
    for (const former of [...formers].reverse()) {
      if (!(refusal instanceof DirectoryError) || refusal.kind !== 'forbidden') break;
      try {
        return await remedy(former);
      } catch (error) {
        refusal = error;
      }
    }
    throw refusal;
  }

  return {
    useKeys(renewed) {
      // Renewed twice before the directory heard of it, it knows the room by an older one.
      for (const key of [keys.current, keys.former, renewed.former]) if (key !== null && key !== renewed.current) formers.add(key);
      formers.delete(renewed.current);
      keys = renewed;
    },
    async lookUp() {
      try {
        return await request(`rooms/${room}`, leaseSchema);
      } catch (error) {
        if (error instanceof DirectoryError && error.kind === 'not-found') return null;
        throw error;
      }
    },
    create: ({ peerId, holder, term, step, isReclaim }) => write('create', { coordinator: peerId, holder, term, step, isReclaim }),
    takeOver({ peerId, holder, expectedTerm, step, isWarm }) {
      const body = { coordinator: peerId, holder, expectedTerm, step, isWarm };
      return orIfForbidden(write('take-over', body), (former) => write('take-over', body, { by: former }));
    },
    renew({ peerId, holder, term, step, successorHash, sequence }) {
      const renew = (): Promise<Lease> => write('renew', { coordinator: peerId, holder, term, step, successorHash, sequence }, { timeoutMs: renewTimeoutMs });
      return orIfForbidden(renew(), async (former) => {
        await write('renew-key', { holder, term, token: await directoryToken(room, keys.current) }, { timeoutMs: renewTimeoutMs, by: former });
        return renew();
      });
    },
    async release({ holder, term, step }) {
      const body = { holder, term, step };
      await orIfForbidden(write('release', body), (former) => write('release', body, { by: former }));
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
  const said = parsed.success ? parsed.output : onlyWord(`status ${status}`);
  return new DirectoryError(kindOf(status, said.refusal), said);
}

function kindOf(status: number, refusal: string): DirectoryErrorKind {
  // A 404 that isn't the directory's own comes from a server without a directory, not from an absent room.
  if (status === 404 && refusal === 'not-found') return 'not-found';
  if (status === 403) return 'forbidden';
  if (status === 409) return 'conflict';
  return status === 429 || status === 503 ? 'busy' : 'unreachable';
}

function onlyWord(refusal: string): Refusal {
  return { refusal, lease: null, retryInMs: null };
}
