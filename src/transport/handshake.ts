/**
 * Both sides prove over the open channel that they know the room's key, before anything else counts. Knows nothing of
 * channels: messages go out through `send` and come in through `receive`.
 *
 * Each side sends hello {version, nonce}, then proof = HMAC-SHA256(key, label ‖ own role ‖ transcript), and when the
 * other's proof holds, accepted. The transcript has the version, the room, both peer ids, both nonces and both DTLS
 * certificate fingerprints, each in the caller's place or the callee's. So:
 *   - a proof can't be sent back to its author (role) or kept for another day (nonces);
 *   - a signalling server that connects a tab to somebody else (ids), or puts itself between two tabs with
 *     certificates of its own (fingerprints), makes two transcripts that differ, and gets nothing.
 * Waiting for `accepted` means that whoever is done may send on any channel: the other side has checked it already.
 */
import * as v from 'valibot';
import { problems } from './problems.ts';

/** Of framing and handshake. What is said inside the frames has a version of its own (room/messages.ts). */
export const transportVersion = 2;

const base64Url32Bytes = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/));
/** Read before the rest, so that a future version may say anything else. */
const versionSchema = v.object({ type: v.literal('hello'), version: v.pipe(v.number(), v.integer(), v.minValue(1)) });
const helloSchema = v.object({ type: v.literal('hello'), version: v.number(), nonce: base64Url32Bytes });
const proofSchema = v.object({ type: v.literal('proof'), proof: base64Url32Bytes });
const acceptedSchema = v.object({ type: v.literal('accepted') });

export interface HandshakeIdentity {
  /** The caller is the side that asked for the connection. */
  readonly role: 'caller' | 'callee';
  readonly room: string;
  readonly key: string;
  readonly ownId: string;
  readonly remoteId: string;
  readonly ownFingerprint: string;
  readonly remoteFingerprint: string;
}

export interface HandshakeWire {
  send(message: unknown): void;
  /** The next handshake message, not validated. Rejects when the connection ends or time is up. */
  receive(): Promise<unknown>;
}

export interface HandshakeCallbacks {
  /** The other side's proof holds: what it sends from now on may be taken in. */
  verified(): void;
}

/** Resolves when both sides are convinced. Rejects with a `TransportError`, or with what `receive` rejected with. */
export async function shakeHands(identity: HandshakeIdentity, wire: HandshakeWire, callbacks: HandshakeCallbacks): Promise<void> {
  // Two sides that both knew no fingerprint would agree, and be open to anybody in between.
  if (identity.ownFingerprint === '' || identity.remoteFingerprint === '') throw problems.connectionClosed('the connection shows no certificate');
  const ownNonce = toBase64Url(crypto.getRandomValues(new Uint8Array(32)));
  wire.send({ type: 'hello', version: transportVersion, nonce: ownNonce });
  const first = await wire.receive();
  const announced = v.safeParse(versionSchema, first);
  if (!announced.success) throw problems.wrongKey();
  if (announced.output.version !== transportVersion) throw problems.versionMismatch(transportVersion, announced.output.version);
  const hello = v.safeParse(helloSchema, first);
  if (!hello.success) throw problems.wrongKey();

  const key = await importKey(identity.key);
  const transcript = transcriptOf(identity, ownNonce, hello.output.nonce);
  const own = await crypto.subtle.sign('HMAC', key, proofInput(identity.role, transcript));
  wire.send({ type: 'proof', proof: toBase64Url(new Uint8Array(own)) });

  const proof = v.safeParse(proofSchema, await wire.receive());
  const remoteRole = identity.role === 'caller' ? 'callee' : 'caller';
  // `verify` compares in constant time.
  const holds = proof.success && (await crypto.subtle.verify('HMAC', key, fromBase64Url(proof.output.proof), proofInput(remoteRole, transcript)));
  if (!holds) throw problems.wrongKey();
  callbacks.verified();
  wire.send({ type: 'accepted' });
  if (!v.is(acceptedSchema, await wire.receive())) throw problems.wrongKey();
}

function transcriptOf(identity: HandshakeIdentity, ownNonce: string, remoteNonce: string): string {
  const own = { id: identity.ownId, nonce: ownNonce, fingerprint: identity.ownFingerprint };
  const remote = { id: identity.remoteId, nonce: remoteNonce, fingerprint: identity.remoteFingerprint };
  const [caller, callee] = identity.role === 'caller' ? [own, remote] : [remote, own];
  // JSON keeps the fields apart whatever is in them.
  return JSON.stringify([
    transportVersion,
    identity.room,
    [caller.id, caller.nonce, caller.fingerprint],
    [callee.id, callee.nonce, callee.fingerprint],
  ]);
}

function proofInput(role: 'caller' | 'callee', transcript: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`cotrain transport\n${role}\n${transcript}`);
}

function importKey(secret: string): Promise<CryptoKey> {
  return crypto.subtle.importKey('raw', new TextEncoder().encode(secret), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify']);
}

/**
 * The certificate fingerprints that a session description commits to (RFC 8122), in one normal form. DTLS checks the
 * certificate that is really used against the remote description's, so comparing descriptions compares certificates.
 */
export function fingerprintOf(sdp: string): string {
  const found = new Set<string>();
  for (const [, algorithm = '', digest = ''] of sdp.matchAll(/^a=fingerprint:(\S+) (\S+)\r?$/gm)) found.add(`${algorithm.toLowerCase()} ${digest.toUpperCase()}`);
  return [...found].sort().join(', ');
}

function toBase64Url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

function fromBase64Url(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (character) => character.charCodeAt(0));
}
