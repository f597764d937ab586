/**
 * A member as successor: it keeps the coordinator's master state, and takes the lead over when the directory lets it. Any
 * member whose browser has saved the run can take it too, later and from an older step. What the coordinator does for its
 * successor is `succession.ts`.
 */
import { forgottenGapMs, forgottenRoomMs, forgottenTermGap, forgottenTermSpread, successorPatienceMs } from './limits.ts';
import type { BlobRef, DirectoryLead, FollowedStep, SuccessionPart } from './machine.ts';
import { nextRandom, send, setPhase } from './member-state.ts';
import type { MemberTurn, Succession } from './member-state.ts';
import type { CoordinatorBlob, HistoryPoint, Step, Term } from './messages.ts';

type Header<Kind extends CoordinatorBlob['kind']> = Extract<CoordinatorBlob, { kind: Kind }>;

/** Applied steps whose announcement is still awaited: at most one or two. */
const keptPoints = 4;

/** In its turn among weights and work: what follows belongs to the replica held now. */
export function appointed(turn: MemberTurn, header: Header<'appointment'>): void {
  const { state } = turn;
  // Delivered twice.
  if (state.succession?.term === header.term && state.succession.step === header.step) return;
  endSuccession(turn);
  if (state.replica?.step !== header.step || !state.config.canSucceed) return resign(turn, 'it does not hold the weights of that step');
  const { term, step, masterBytes, masterParts, corpusBytes, unannounced } = header;
  state.succession = {
    term,
    step,
    masterBytes,
    masterParts,
    corpusBytes,
    received: { firstMoments: 0, secondMoments: 0, masterWeights: 0, corpus: 0 },
    stage: 'following',
    gradient: null,
    points: unannounced === null ? [] : [unannounced],
  };
  turn.effects.push({ type: 'follow', step, masterBytes, masterParts, corpusBytes });
}

/** Comes right before the update of its step. */
export function gradientArrived(turn: MemberTurn, header: Header<'gradient'>, ref: BlobRef): void {
  const { state } = turn;
  const { succession } = state;
  if (succession === null || succession.gradient !== null || header.step !== state.replica?.step) {
    turn.effects.push({ type: 'discardBlob', ref, reason: 'this peer does not follow' });
    return;
  }
  const { step, weightSum, point } = header;
  state.succession = { ...succession, gradient: { step, ref, weightSum, point } };
}

/** For the update of this step: the gradient that came before it. Without one the moments are behind, and of no use any more. */
export function takeGradient(turn: MemberTurn, step: Step): FollowedStep | null {
  const { succession } = turn.state;
  if (succession === null) return null;
  const { gradient } = succession;
  if (gradient?.step !== step) {
    resign(turn, 'the gradient of a step is missing');
    return null;
  }
  turn.state.succession = { ...succession, gradient: null, points: [...succession.points, gradient.point].slice(-keptPoints) };
  const { ref, weightSum, point } = gradient;
  return { ref, weightSum, learningRate: point.lr };
}

export function pieceArrived(turn: MemberTurn, header: Header<'piece'>, ref: BlobRef, bytes: number): void {
  const { state } = turn;
  const { succession } = state;
  const { part, offset } = header;
  // Of an appointment before this one, perhaps.
  const isOther = header.term !== succession?.term || header.since !== succession.step;
  if (succession?.stage !== 'following' || isOther || offset !== succession.received[part] || offset + bytes > sizeOf(succession, part)) {
    turn.effects.push({ type: 'discardBlob', ref, reason: 'no such piece is awaited' });
    return;
  }
  if (header.step !== state.replica?.step) {
    turn.effects.push({ type: 'discardBlob', ref, reason: 'it is of another step' });
    return resign(turn, 'a piece is of another step than the weights');
  }
  state.succession = { ...succession, received: { ...succession.received, [part]: offset + bytes } };
  turn.effects.push({ type: 'keepPiece', step: header.step, part, offset, ref });
  completeIfWhole(turn);
}

function sizeOf({ masterBytes, masterParts, corpusBytes }: Succession, part: SuccessionPart): number {
  if (part === 'corpus') return corpusBytes;
  return masterParts.includes(part) ? masterBytes : 0;
}

/** When the last piece is here, and the history too. */
export function completeIfWhole(turn: MemberTurn): void {
  const { state } = turn;
  const { succession, room } = state;
  if (succession?.stage !== 'following' || room === null || room.awaited !== null) return;
  const parts: readonly SuccessionPart[] = [...succession.masterParts, 'corpus'];
  if (parts.some((part) => succession.received[part] < sizeOf(succession, part))) return;
  state.succession = { ...succession, stage: 'completing' };
  turn.effects.push({ type: 'completeSuccession', step: succession.step });
}

export function completed(turn: MemberTurn, step: Step, problem: string | null): void {
  const { state } = turn;
  const { succession } = state;
  if (succession === null || succession.stage === 'warm' || succession.step !== step) return;
  // What fails while pieces are still on their way is not waited for to the end.
  if (problem !== null) return resign(turn, problem);
  if (succession.stage !== 'completing') return;
  state.succession = { ...succession, stage: 'warm' };
  turn.isVisible = true;
  if (state.replica !== null) send(turn, { type: 'warm', term: succession.term, step: state.replica.step });
}

/** It will not take over on the strength of what it has, and says so. */
export function resign(turn: MemberTurn, reason: string): void {
  const { room } = turn.state;
  endSuccession(turn);
  if (room !== null) send(turn, { type: 'unable', term: room.term, reason: reason.slice(0, 200) });
}

export function endSuccession(turn: MemberTurn): void {
  const { succession } = turn.state;
  if (succession === null) return;
  if (succession.gradient !== null) discardGradient(turn, succession.gradient.ref);
  turn.state.succession = null;
  turn.effects.push({ type: 'endSuccession' });
  turn.isVisible = true;
}

function discardGradient(turn: MemberTurn, ref: BlobRef): void {
  turn.effects.push({ type: 'discardBlob', ref, reason: 'its update did not come' });
}

/** The connection is gone. Who has everything keeps it; half of it is of no use. */
export function connectionLost(turn: MemberTurn): void {
  const { succession } = turn.state;
  if (succession === null) return;
  if (succession.stage !== 'warm') return endSuccession(turn);
  if (succession.gradient === null) return;
  discardGradient(turn, succession.gradient.ref);
  turn.state.succession = { ...succession, gradient: null };
}

/** What this peer could lead with: its master state, or what this browser has saved. */
function ownStep(turn: MemberTurn): Step | null {
  const { succession, replica, saved, loading } = turn.state;
  if (succession?.stage === 'warm') return loading === null ? (replica?.step ?? null) : null;
  return saved?.step ?? null;
}

/**
 * Whether the directory has not known the room whenever it was asked for a while. Answers far apart prove nothing: it may have
 * known the room in between, and have been restarted since, and whoever leads may be on its way to tell it.
 */
function isForgottenForLong({ state, nowMs }: MemberTurn): boolean {
  const { forgotten } = state;
  const sinceMs = forgotten === null || nowMs - forgotten.lastMs > forgottenGapMs ? nowMs : forgotten.sinceMs;
  state.forgotten = { sinceMs, lastMs: nowMs };
  return nowMs - sinceMs >= forgottenRoomMs;
}

/** Nobody leads: asks for the lead where this peer could take it. False: it can't, or not yet. */
export function claimLead(turn: MemberTurn, lead: DirectoryLead | null): boolean {
  const { state } = turn;
  const { config, device } = state;
  if (lead !== null) state.forgotten = null;
  const step = ownStep(turn);
  // A page that is about to stand still leads only where nobody else has what it keeps.
  const isFading = state.presence.rest === 'hidden' || state.presence.rest === 'frozen';
  if (isFading && state.succession?.stage !== 'warm') return false;
  if (step === null || config.wantsToWatch || device.problem !== null || state.room?.phase === 'stopped') return false;
  if (lead === null && !isForgottenForLong(turn)) return false;
  const known = Math.max(lead?.term ?? 0, state.highestTerm ?? 0, state.saved?.term ?? 0);
  // A forgetful directory may have granted terms this peer has not heard of: far beyond them, none is granted twice.
  const term = (lead === null ? known + forgottenTermGap + Math.floor(nextRandom(turn) * forgottenTermSpread) : known) as Term;
  const claim = { term, step, isForgotten: lead === null, isWarm: state.succession?.stage === 'warm' };
  turn.effects.push({ type: 'takeOver', claim });
  setPhase(turn, 'claiming');
  return true;
}

/** While the coordinator's lease is still renewed, a successor that lost it was only cut off; before that is certain, it keeps what it has. */
export function waitsForLead({ state, nowMs }: MemberTurn, lead: DirectoryLead): boolean {
  return state.succession?.stage === 'warm' && lead.term === state.succession.term && nowMs - state.lostAtMs < successorPatienceMs;
}

export function leadTaken(turn: MemberTurn, term: Term): void {
  const { state } = turn;
  if (state.phase !== 'claiming') return;
  const { succession, replica, room } = state;
  setPhase(turn, 'leading');
  const isWarm = succession?.stage === 'warm' && replica !== null && room !== null;
  if (!isWarm) {
    turn.effects.push({ type: 'lead', term, reign: null });
    return;
  }
  const { run, rules, history, startedAtMs, phase, sentAs } = room;
  const reign = { step: replica.step, hash: replica.hash, run, rules, startedAtMs, isPaused: phase === 'paused', sentAs };
  turn.effects.push({ type: 'lead', term, reign: { ...reign, history: wholeHistory(history, succession.points, replica.step) } });
}

/** A step may have been applied here and not been announced: its point came with its gradient. */
function wholeHistory(history: readonly HistoryPoint[], points: readonly HistoryPoint[], step: Step): readonly HistoryPoint[] {
  const known = history.filter((point) => point.step < step);
  const lastStep = known.at(-1)?.step ?? -1;
  return [...known, ...points.filter((point) => point.step > lastStep && point.step < step)];
}
