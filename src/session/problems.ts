/**
 * Every trouble a person can meet that is not explained where it arises (transport, device check, data, store), by
 * code: what happened and what to do. The room's machines name codes; this page has the words.
 */
import type { RoomProblem } from '../room/machine.ts';
import type { Problem } from '../trainer/types.ts';

const whatToDoByCode: Readonly<Record<string, string>> = {
  'insecure-context': 'Open the https:// address that the server printed, or http://localhost on the server’s own machine.',
  'no-webgpu': 'Use a current Chrome, Edge, Firefox or Safari with hardware acceleration on; meanwhile you can watch a room.',
  'room-empty': 'Wait: it goes on as soon as the person who started it opens it again.',
  'room-not-found': 'Check the link with whoever sent it. If they start the room again, this page joins by itself.',
  'coordinator-gone': 'Nothing: this page keeps looking and joins again by itself when the room is back.',
  'non-finite': 'Lower the learning rate or turn gradient clipping on, then start again from the last saved run; resume tries the same step once more.',
  'gpu-lost': 'Nothing: the GPU is opened again and training goes on. If it keeps happening, close other tabs that use the GPU.',
  'out-of-memory': 'Choose a smaller model, a shorter context or fewer rows per micro-batch.',
  'signalling-unreachable': 'Training goes on. New people can join again once the server answers.',
  'wrong-results': 'You can watch. A graphics driver update or another browser often helps.',
  refused: 'Ask the person who started the room.',
  'version-mismatch': 'Reload this page on both machines.',
  'room-full': 'Ask the person who started the room; watchers count too.',
  'weights-unreadable': 'Ask the person who started the room to reload their page, then join again.',
  removed: 'Reload the page to join again.',
};

export function problem(code: string, message: string): Problem {
  return { code, message, whatToDo: whatToDoByCode[code] ?? 'Reload the page and try again.' };
}

export function explain(roomProblem: RoomProblem): Problem {
  return problem(roomProblem.code, roomProblem.message);
}

/** The problem an unknown error amounts to: its own, if it carries one. */
export function problemOf(error: unknown, fallbackCode: string): Problem {
  if (typeof error === 'object' && error !== null && 'problem' in error) {
    const carried = error.problem;
    if (typeof carried === 'object' && carried !== null && 'code' in carried && 'message' in carried && 'whatToDo' in carried) {
      return { code: String(carried.code), message: String(carried.message), whatToDo: String(carried.whatToDo) };
    }
  }
  return problem(fallbackCode, error instanceof Error ? error.message : String(error));
}
