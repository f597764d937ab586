/**
 * A member's weights and work: blobs are taken strictly in the order sent (replica, update, assignment …), one load or
 * update at a time, and assignments are computed one after another with exactly the replica they are meant for.
 */
import { maxQueuedBlobs, maxRememberedCancels } from './limits.ts';
import type { BlobRef, MemberEvent } from './machine.ts';
import { send, setPhase } from './member-state.ts';
import { appointed, endSuccession, gradientArrived, pieceArrived, resign, takeGradient } from './member-succession.ts';
import type { AssignmentHeader, EvaluationHeader, MemberTurn, QueuedBlob, TrainerBlob } from './member-state.ts';
import type { MemberMessage, Step } from './messages.ts';

type DeclineCode = Extract<MemberMessage, { type: 'decline' }>['code'];

export function blobArrived(turn: MemberTurn, blob: QueuedBlob): void {
  const { state } = turn;
  const { header, ref } = blob;
  // A blob may overtake the welcome it follows: then it waits.
  const isExpected = state.phase === 'greeting' || (state.room !== null && header.term === state.room.term);
  if (!isExpected) return discard(turn, ref, 'of another term');
  if (state.device.problem !== null) return turnAway(turn, header, ref, 'device');
  if (state.blobs.length + state.assignments.length >= maxQueuedBlobs) return turnAway(turn, header, ref, 'behind');
  state.blobs = [...state.blobs, blob];
  takeBlobs(turn);
}

/** Takes blobs as far as they can be taken now, then starts the next assignment. */
export function takeBlobs(turn: MemberTurn): void {
  const { state } = turn;
  while (state.phase !== 'greeting' && state.loading === null) {
    const [next, ...rest] = state.blobs;
    if (next === undefined) break;
    state.blobs = rest;
    if (next.header.term === state.room?.term) take(turn, next);
    else discard(turn, next.ref, 'of another term');
  }
  startNext(turn);
}

function take(turn: MemberTurn, { header, ref, bytes }: QueuedBlob): void {
  const { state } = turn;
  const heldStep = state.awaitsReplica ? null : (state.replica?.step ?? null);
  switch (header.kind) {
    case 'appointment':
      discard(turn, ref, 'it has no bytes');
      return appointed(turn, header);
    case 'gradient':
      return gradientArrived(turn, header, ref);
    case 'piece':
      return pieceArrived(turn, header, ref, bytes);
    case 'replica':
      discard(turn, ref, 'it has no bytes');
      // Delivered twice, perhaps: it must not undo updates that came after it.
      if (heldStep !== null && header.step <= heldStep) return;
      abandonAssignments(turn);
      endSuccession(turn);
      state.replica = null;
      state.loading = { kind: 'load', step: header.step, isOrphan: false };
      turn.effects.push({ type: 'loadReplica', step: header.step, offer: header });
      return;
    case 'update':
      if (heldStep === null || header.step < heldStep) return discard(turn, ref, 'there is nothing to apply it to');
      if (header.step > heldStep) {
        discard(turn, ref, 'an update before it is missing');
        return askForReplica(turn);
      }
      // The step is done, with or without what is being computed here.
      abandonAssignments(turn);
      state.loading = { kind: 'apply', step: header.step, isOrphan: false };
      turn.effects.push({ type: 'applyUpdate', step: header.step, ref, followed: takeGradient(turn, header.step) });
      return;
    case 'assignment':
    case 'evaluation':
      if (state.cancelled.includes(header.assignment)) return discard(turn, ref, 'cancelled');
      if (state.presence.rest !== null) return turnAway(turn, header, ref, 'resting');
      if (heldStep === header.step) {
        state.assignments = [...state.assignments, { header, ref }];
        return;
      }
      if (heldStep !== null && header.step < heldStep) return discard(turn, ref, 'its step is done');
      turnAway(turn, header, ref, 'behind');
      if (!state.awaitsReplica) askForReplica(turn);
  }
}

/** Only what is held now can be copied: while an update is being applied, it is that of neither step. */
export function share(turn: MemberTurn, step: Step): void {
  const { state } = turn;
  if (state.loading === null && !state.awaitsReplica && state.replica?.step === step) turn.effects.push({ type: 'shareReplica', step });
}

function startNext(turn: MemberTurn): void {
  const { state } = turn;
  const [next, ...rest] = state.assignments;
  if (next === undefined || state.computing !== null || state.loading !== null) return;
  state.assignments = rest;
  const { header, ref } = next;
  if (header.kind === 'evaluation') {
    const { assignment, microbatches } = header;
    state.computing = { assignment, isCancelled: false, codec: null };
    turn.effects.push({ type: 'evaluate', assignment, microbatches: microbatches.length, ref });
    return;
  }
  const { assignment, step, microbatches, changes = [], codec = null } = header;
  state.computing = { assignment, isCancelled: false, codec };
  turn.effects.push({ type: 'compute', assignment, step, microbatches, changes, ref });
}

export function loaded(turn: MemberTurn, kind: 'load' | 'apply', step: Step, hash: string): void {
  const { state } = turn;
  const { loading, room } = state;
  if (loading?.kind !== kind || loading.step !== step) return;
  const held = (kind === 'load' ? step : step + 1) as Step;
  state.loading = null;
  state.replica = { step: held, hash };
  turn.isVisible = true;
  if (!loading.isOrphan && room !== null) {
    if (kind === 'load') {
      state.awaitsReplica = false;
      setPhase(turn, 'joined');
      send(turn, { type: 'ready', term: room.term, step: held, hash });
    } else {
      send(turn, { type: 'applied', term: room.term, step: held, hash });
    }
  }
  takeBlobs(turn);
}

export function loadFailed(turn: MemberTurn, step: Step): void {
  const { state } = turn;
  if (state.loading?.step !== step) return;
  const { isOrphan } = state.loading;
  state.loading = null;
  state.replica = null;
  endSuccession(turn);
  if (!isOrphan) askForReplica(turn);
  takeBlobs(turn);
}

/** What the trainer holds does not fit what comes next. */
export function askForReplica(turn: MemberTurn): void {
  const { state } = turn;
  if (state.room === null) return;
  endSuccession(turn);
  state.awaitsReplica = true;
  send(turn, { type: 'refetch', term: state.room.term });
  setPhase(turn, 'fetching');
}

export function computed(
  turn: MemberTurn,
  result: {
    readonly assignment: string;
    readonly step: Step;
    readonly lossSum: number;
    readonly weightSum: number;
    readonly computeMs: number;
    readonly tokens: number;
    readonly failed: boolean;
  },
): void {
  const { state } = turn;
  const { computing, room } = state;
  if (computing?.assignment !== result.assignment) return;
  state.computing = null;
  if (!computing.isCancelled && room !== null) {
    const { assignment, step, lossSum, weightSum, computeMs, tokens } = result;
    if (result.failed) decline(turn, assignment, 'failed');
    else if (!Number.isFinite(lossSum)) decline(turn, assignment, 'non-finite');
    else {
      const sums = { lossSum, weightSum, computeMs, tokens };
      turn.effects.push({ type: 'sendContribution', header: { kind: 'contribution', term: room.term, step, assignment, ...sums }, codec: computing.codec });
    }
  }
  takeBlobs(turn);
}

export function evaluated(turn: MemberTurn, { assignment, lossSum, weightSum, failed }: Extract<MemberEvent, { type: 'evaluated' }>): void {
  const { state } = turn;
  const { computing, room } = state;
  if (computing?.assignment !== assignment) return;
  state.computing = null;
  if (!computing.isCancelled && room !== null) {
    if (failed || !Number.isFinite(lossSum)) decline(turn, assignment, failed ? 'failed' : 'non-finite');
    else send(turn, { type: 'evaluated', term: room.term, assignment, lossSum, weightSum });
  }
  takeBlobs(turn);
}

export function cancelled(turn: MemberTurn, assignment: string): void {
  const { state } = turn;
  const queued = state.assignments.find((entry) => entry.header.assignment === assignment);
  if (state.computing?.assignment === assignment) stopComputing(turn);
  else if (queued !== undefined) {
    state.assignments = state.assignments.filter((entry) => entry !== queued);
    discard(turn, queued.ref, 'cancelled');
  } else {
    state.cancelled = [...state.cancelled, assignment].slice(-maxRememberedCancels);
  }
}

function isWork(header: TrainerBlob): header is AssignmentHeader | EvaluationHeader {
  return header.kind === 'assignment' || header.kind === 'evaluation';
}

/** Says goodbye to everything unfinished, telling the coordinator so. */
export function declineAll(turn: MemberTurn, code: DeclineCode): void {
  const { state } = turn;
  if (state.computing !== null && !state.computing.isCancelled) decline(turn, state.computing.assignment, code);
  for (const { header } of [...state.assignments, ...state.blobs]) {
    if (isWork(header)) decline(turn, header.assignment, code);
  }
  abandonAll(turn);
}

/** All work goes back, and only the work: weights go on being kept up to date. */
export function handBack(turn: MemberTurn): void {
  const { state } = turn;
  if (state.computing !== null && !state.computing.isCancelled) {
    decline(turn, state.computing.assignment, 'resting');
    stopComputing(turn);
  }
  for (const { header } of state.assignments) decline(turn, header.assignment, 'resting');
  for (const { ref } of state.assignments) discard(turn, ref, 'it was handed back');
  state.assignments = [];
  for (const { header, ref } of state.blobs) if (isWork(header)) turnAway(turn, header, ref, 'resting');
  state.blobs = state.blobs.filter(({ header }) => !isWork(header));
}

/** Drops everything unfinished without a word. */
export function abandonAll(turn: MemberTurn): void {
  const { state } = turn;
  abandonAssignments(turn);
  for (const { ref } of state.blobs) discard(turn, ref, 'the connection it came by is gone');
  state.blobs = [];
  state.cancelled = [];
}

function abandonAssignments(turn: MemberTurn): void {
  const { state } = turn;
  if (state.computing !== null && !state.computing.isCancelled) stopComputing(turn);
  for (const { ref } of state.assignments) discard(turn, ref, 'its step is done');
  state.assignments = [];
}

function stopComputing(turn: MemberTurn): void {
  const { computing } = turn.state;
  if (computing === null || computing.isCancelled) return;
  turn.state.computing = { ...computing, isCancelled: true };
  turn.effects.push({ type: 'cancel', assignment: computing.assignment });
}

function turnAway(turn: MemberTurn, header: TrainerBlob, ref: BlobRef, code: DeclineCode): void {
  discard(turn, ref, declineReasons[code]);
  if (isWork(header)) decline(turn, header.assignment, code);
  if (header.kind === 'gradient' || header.kind === 'piece') resign(turn, 'it is too far behind');
}

const declineReasons: Readonly<Record<DeclineCode, string>> = {
  leaving: 'it leaves the room',
  device: 'its GPU is gone',
  failed: 'its GPU failed on it',
  behind: 'it does not hold the weights for it',
  'non-finite': 'the loss is not a finite number',
  resting: 'it has to rest',
};

function decline(turn: MemberTurn, assignment: AssignmentHeader['assignment'], code: DeclineCode): void {
  const { room } = turn.state;
  if (room !== null) send(turn, { type: 'decline', term: room.term, assignment, code, reason: declineReasons[code] });
}

function discard(turn: MemberTurn, ref: BlobRef, reason: string): void {
  turn.effects.push({ type: 'discardBlob', ref, reason });
}
