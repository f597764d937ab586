/**
 * What the room's machines can find wrong: a code, and what happened in words. What a person can do about it is the page's
 * to say (session/problems.ts).
 */
import type { RoomProblem } from './machine.ts';
import { protocolVersion } from './messages.ts';
import type { Step } from './messages.ts';

export type RoomCode =
  /** The coordinator refuses a peer. */
  | 'version-mismatch'
  | 'room-full'
  | 'weights-unreadable'
  | 'removed'
  | 'owner-only'
  /** The room pauses with a step undone. */
  | 'non-finite'
  | 'nothing-scored'
  | 'no-improvement'
  /** The coordinator can't announce a step. */
  | 'waiting-for-directory'
  /** A member looks for its coordinator. */
  | 'room-empty'
  | 'room-stopped'
  | 'room-closed'
  | 'coordinator-gone'
  | 'handing-over'
  | 'signalling-unreachable';

function problem(code: RoomCode, message: string): RoomProblem {
  return { code, message };
}

export const problems = {
  versionMismatch: (theirs: number): RoomProblem =>
    problem('version-mismatch', `This room speaks version ${protocolVersion} of the protocol, the joining tab version ${theirs}.`),
  roomFull: (peers: number): RoomProblem => problem('room-full', `The room has ${peers} peers already.`),
  weightsUnreadable: (reason: string): RoomProblem =>
    problem('weights-unreadable', `The tab that leads this room can’t read its weights to send them (${reason.slice(0, 200)}).`),
  stepNotFinite: (step: Step): RoomProblem =>
    problem('non-finite', `The loss or the gradient of step ${step} is not finite, so the step was not applied.`),
  resultsNotFinite: problem('non-finite', 'Every peer that computed a part of this step came back with numbers that are not finite.'),
  nothingScored: (step: Step): RoomProblem =>
    problem('nothing-scored', `No position in the batch of step ${step} is scored, so there is nothing to learn from it.`),
  noImprovement: (evaluations: number, best: number): RoomProblem =>
    problem('no-improvement', `The validation loss has not fallen in ${evaluations} evaluations; the lowest was ${best.toFixed(4)}.`),
  waitingForDirectory: problem(
    'waiting-for-directory',
    'The peer that kept this room’s state is gone, and the server does not answer: somebody else may be taking the lead.',
  ),
  roomEmpty: problem('room-empty', 'Nobody leads this room now. It goes on as soon as somebody who led it, or was to, is back.'),
  handingOver: problem('handing-over', 'Nobody leads this room now; the peer that keeps its state is about to take over.'),
  roomStopped: problem('room-stopped', 'Whoever led this room has left, and nobody was ready to lead it next.'),
  roomClosed: (by: string): RoomProblem => problem('room-closed', `${by} closed the room.`),
  ownerOnly: problem('owner-only', 'Only the owner of a room can do that: the browser that it was started in.'),
  removed: problem('removed', 'You were removed from the room by its owner.'),
  coordinatorGone: problem('coordinator-gone', 'The tab that leads this room no longer answers.'),
  signallingUnreachable: problem('signalling-unreachable', 'The server that knows where the room is can’t be reached.'),
} as const;
