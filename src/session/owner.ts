/**
 * Who owns a room: the browser that made it. It keeps a key pair of which the private half never leaves it, the public half is
 * part of the run that everybody is told, and whoever leads does what is signed by it. What commands there are, and what comes
 * of them, is the room's.
 */
import * as v from 'valibot';
import { openSettings } from '../checkpoint/settings.ts';
import { ownerCommandSchema } from '../room/rules.ts';
import type { OwnerCommand, SignedCommand } from '../room/rules.ts';
import { fromBase64Url, toBase64Url } from './base64url.ts';

const curve = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const signing = { name: 'ECDSA', hash: 'SHA-256' } as const;

/** An uncompressed point of P-256, base64url. */
export const ownerKeySchema = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{87}$/));

export interface OwnerKey {
  readonly privateKey: CryptoKey;
  /** As in the run. */
  readonly publicKey: string;
}

const settings = openSettings();
/** What this page knows of its rooms; where storage is forbidden, that is all there is. */
const known = new Map<string, OwnerKey>();

/** For a room that is about to be made here. */
export async function makeOwner(room: string): Promise<OwnerKey> {
  const pair = await crypto.subtle.generateKey(curve, false, ['sign', 'verify']);
  const publicKey = toBase64Url(new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey)));
  const owner = { privateKey: pair.privateKey, publicKey };
  known.set(room, owner);
  await settings.write(storageKey(room), owner).catch(() => undefined); // Forbidden: it is the owner's until it is closed.
  return owner;
}

/** null where this browser is not the owner. */
export async function ownerOf(room: string): Promise<OwnerKey | null> {
  return known.get(room) ?? (await settings.read(storageKey(room), parseOwner).catch(() => null));
}

export async function forgetOwner(room: string): Promise<void> {
  known.delete(room);
  await settings.remove(storageKey(room));
}

function storageKey(room: string): string {
  return `owner:${room}`;
}

const storedSchema = v.object({ privateKey: v.custom<CryptoKey>((value) => value instanceof CryptoKey), publicKey: ownerKeySchema });

function parseOwner(stored: unknown): OwnerKey | null {
  const parsed = v.safeParse(storedSchema, stored);
  return parsed.success ? parsed.output : null;
}

export async function signCommand({ privateKey }: OwnerKey, room: string, revision: number, command: OwnerCommand): Promise<SignedCommand> {
  const text = JSON.stringify(command);
  const signature = await crypto.subtle.sign(signing, privateKey, signedBytes(room, revision, text));
  return { revision, command: text, signature: toBase64Url(new Uint8Array(signature)) };
}

/** null when it is not signed by the owner of this room, or can't be understood. */
export async function verifiedCommand(publicKey: string, room: string, { revision, command, signature }: SignedCommand): Promise<OwnerCommand | null> {
  // What is no point of the curve came from whoever made the run: then nobody owns it.
  const key = await crypto.subtle.importKey('raw', fromBase64Url(publicKey), curve, false, ['verify']).catch(() => null);
  if (key === null || !(await crypto.subtle.verify(signing, key, fromBase64Url(signature), signedBytes(room, revision, command)))) return null;
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), ownerCommandSchema), command);
  return parsed.success ? parsed.output : null;
}

/** A room's id has no line break in it, so nothing can be moved from one part to another. */
function signedBytes(room: string, revision: number, text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`cotrain owner\n${room}\n${revision}\n${text}`);
}
