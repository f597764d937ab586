/**
 * The one list of what can go wrong in words for a person, by code. Transport, trainer and store explain their own troubles
 * where they arise; here is what to do about all others: those of the room's machines, which know no advice, and of the
 * session and the page. A code is explained in one place and means one thing.
 */
import { StorageError } from '../checkpoint/errors.ts';
import type { StorageErrorCode } from '../checkpoint/errors.ts';
import type { textProblem } from '../data/presets.ts';
import type { RoomProblem } from '../room/machine.ts';
import type { RoomCode } from '../room/problems.ts';
import { carriedProblem } from '../trainer/errors.ts';
import type { TrainerCode } from '../trainer/errors.ts';
import type { Problem } from '../trainer/types.ts';
import { sharedAdvice } from '../transport/problems.ts';
import type { TransportCode } from '../transport/problems.ts';

/** Explained below the session. */
export type LowerCode = TransportCode | TrainerCode | StorageErrorCode | NonNullable<ReturnType<typeof textProblem>>['code'];

/** Of the session and the page themselves. */
type PageCode = 'insecure-context' | 'bad-link' | 'bad-settings' | 'corpus-unreachable' | 'bad-data' | 'run-not-found' | 'bad-file' | 'not-done' | 'left' | 'cancelled' | 'no-model' | 'no-chat-template' | 'nothing-to-continue' | 'unexpected';

/** Explained here. */
export type OwnCode = PageCode | Exclude<RoomCode, LowerCode>;

const adviceByCode: Readonly<Record<PageCode | RoomCode, string>> = {
  ...sharedAdvice,
  'room-full': 'Ask the person who started the room; watchers count too.',
  'weights-unreadable': 'Ask the person who started the room to reload their page, then join again.',
  'owner-only': 'Ask the person in whose browser the room was started.',
  removed: 'Ask the room’s owner if you think that this was a mistake; from this browser the room can’t be joined any more.',
  'non-finite': 'Lower the learning rate or turn gradient clipping on, then start again from the last saved run; resume tries the same step once more.',
  'nothing-scored': 'Start again with data in which some positions are scored.',
  'no-improvement': 'This is what early stopping was asked for: the best weights are kept. Resume goes on as long again.',
  'waiting-for-directory': 'Check this machine’s network, and that the server is running: the room goes on by itself as soon as the server answers.',
  'room-empty': 'Wait: it goes on as soon as somebody who has led it, or kept its state, opens it again.',
  'room-stopped': 'Nothing: if it is opened again, this page joins by itself. Or start a room of your own.',
  'room-closed': 'Nothing: what this browser has saved of it stays. Only its owner can open it again, from the start page.',
  'handing-over': 'Nothing: this takes a few seconds, and nothing is lost.',
  'coordinator-gone': 'Nothing: this page keeps looking and joins again by itself when the room is back.',
  'insecure-context': 'Open the https:// address that the server printed, or http://localhost on the server’s own machine.',
  'bad-link': 'Copy the whole link from the room’s invite panel (it ends in #room=…&key=…), or scan its QR code again.',
  'bad-settings': 'Change that setting, or go back to the preset’s own.',
  'corpus-unreachable': 'Check that the server this page came from is still running, then try again.',
  'bad-data': 'Nothing is lost: correct the file or choose another one, and go on here.',
  'run-not-found': 'Start the run anew: on this device nothing of it is saved.',
  'bad-file': 'Choose another: the folder of a llama or qwen3 from Hugging Face or its zip, a GGUF file in F32, F16, BF16 or Q8_0, or a run that was saved here.',
  'not-done': 'Try again in a moment.',
  'no-model': 'Wait until this page has the room’s weights. A page that only watches has none: join with a device that can compute.',
  'no-chat-template': 'Continue a text instead, or start a run from conversations.',
  'nothing-to-continue': 'Begin with characters that occur in the text the model learned from.',
  left: 'Open the room’s link again to go back.',
  cancelled: 'Start it again when you like: nothing has been computed.',
  unexpected: 'Reload the page and try again.',
};

/** From a coordinator of another version, or one that makes codes up. */
const unknownAdvice = 'Ask the person who started the room.';

export function problem(code: OwnCode, message: string): Problem {
  return { code, message, whatToDo: adviceByCode[code] };
}

export function explain({ code, message, whatToDo }: RoomProblem): Problem {
  return { code, message, whatToDo: whatToDo ?? (isExplained(code) ? adviceByCode[code] : unknownAdvice) };
}

function isExplained(code: string): code is keyof typeof adviceByCode {
  return Object.hasOwn(adviceByCode, code);
}

/** The problem an error amounts to: its own, if it carries one. */
export function problemOf(error: unknown): Problem {
  return carriedProblem(error) ?? problem('unexpected', textOf(error));
}

/** The same for calls on the store. */
export function storageProblemOf(error: unknown): Problem {
  return carriedProblem(error) ?? new StorageError('storage-unavailable', textOf(error), error).problem;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export const insecureContext: Problem = problem(
  'insecure-context',
  'Browsers open the GPU only to pages from a secure address, and this one is not.',
);
