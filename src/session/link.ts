/**
 * Room links: `…/#room=<id>&key=<secret>`. Making, reading and explaining what is wrong with one.
 * The fragment never reaches a server; nothing here talks to one.
 */
import * as v from 'valibot';
import { roomKey } from '../room/rules.ts';
import type { Problem } from '../trainer/types.ts';
import { toBase64Url } from './base64url.ts';
import { problem } from './problems.ts';

export interface RoomAddress {
  readonly room: string;
  readonly key: string;
}

const idPattern = /^[A-Za-z0-9_-]{8,64}$/;

export const incompleteLink: Problem = problem('bad-link', 'This room link is incomplete: a part of it is missing or was cut off.');
/** For a text that was meant as one. */
export const notALink: Problem = problem('bad-link', 'This is not a link to a room.');

function randomText(bytes: number): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(bytes)));
}

/** A secret nobody can guess (128 bits), safe in a URL. */
export function randomSecret(): string {
  return randomText(16);
}

export function newKey(): string {
  return randomText(24);
}

export function newRoomAddress(): RoomAddress {
  return { room: randomText(9), key: newKey() };
}

export function roomLink(page: URL, address: RoomAddress): string {
  const link = new URL(page);
  link.hash = new URLSearchParams({ room: address.room, key: address.key }).toString();
  return link.href;
}

/** null when the link names no room at all; a problem when it names one badly. Takes a whole link or just its fragment. */
export function parseRoomLink(link: string): RoomAddress | Problem | null {
  const hashAt = link.indexOf('#');
  const fields = new URLSearchParams(hashAt < 0 ? '' : link.slice(hashAt + 1));
  const room = fields.get('room');
  const key = fields.get('key');
  if (room === null && key === null) return null;
  if (room === null || key === null || !idPattern.test(room) || !v.is(roomKey, key)) return incompleteLink;
  return { room, key };
}
