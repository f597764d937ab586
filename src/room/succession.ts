/**
 * Who leads when the coordinator can't: chooses the successor, keeps it warm, and holds a step back until the successor
 * has it too. What the successor does with what it gets is `member-succession.ts`; who may take over, the directory says.
 *
 * A step is announced, and thereby committed for everybody, only when it can't be lost any more: with a successor named in the
 * directory, when that one has confirmed it. A successor that was lost without a word must be un-named before steps are
 * announced without it, or it could take over with an older state.
 */
import { announcedStep, changePeer, sendTo, touchPeers } from './coordinator-state.ts';
import type { CoordinatorState, Peer, Successor, Turn } from './coordinator-state.ts';
import { directoryPatienceMs, maxFailedSuccessions, slowestSuccessorBytesPerMs, successorConfirmMs } from './limits.ts';
import type { PeerId, Step } from './messages.ts';

/** Everybody but watchers, those on their way out, those that rest, and those that are behind. */
function couldFollow(state: CoordinatorState, peer: Peer): boolean {
  const { holding } = peer;
  const isFit = peer.stage === 'member' && peer.canSucceed && !peer.isSilent && peer.presence.rest === null && peer.lateStep === null;
  if (!isFit || (state.proposed ?? state.rules).removed.includes(peer.holderHash) || peer.holderHash === state.config.holderHash || peer.failedSuccessions >= maxFailedSuccessions) return false;
  return holding !== null && !holding.isStalled && holding.acknowledged === state.step;
}

/** Between two steps only: what is appointed at a step gets that step's gradient. */
export function chooseSuccessor(turn: Turn): void {
  const { state, nowMs } = turn;
  if (state.work?.isCommitting === true) return;
  makeWayForHeir(turn);
  if (state.successor !== null) return;
  const fit = [...state.peers.values()].filter((peer) => couldFollow(state, peer));
  const speedOf = ({ work }: Peer) => (work.speed.isMeasured ? 1 : 0.001) * work.speed.perSecond;
  const ablest = fit.reduce<Peer | null>((best, peer) => (best === null || speedOf(peer) > speedOf(best) ? peer : best), null);
  const chosen = fit.find(({ id }) => id === state.heir) ?? ablest;
  if (chosen === null) return;
  state.successor = { peer: chosen.id, since: state.step, stage: 'warming', confirmed: state.step, sinceMs: nowMs };
  state.hasHeirs = true;
  turn.effects.push({ type: 'appoint', to: chosen.id, step: state.step, unannounced: state.unannounced });
  touchPeers(turn);
}

/** Whom the owner wants to lead is made the successor, in another one's place if need be; unless it never can be. */
function makeWayForHeir(turn: Turn): void {
  const { state } = turn;
  const { heir, successor } = state;
  if (heir === null) return;
  const peer = state.peers.get(heir);
  if (peer === undefined || !mayBeHeir(state, peer)) {
    state.heir = null;
    return;
  }
  if (successor === null || successor.peer === heir || !couldFollow(state, peer)) return;
  const { failedSuccessions = 0 } = state.peers.get(successor.peer) ?? {};
  successorLost(turn, successor.peer);
  // That was not its fault.
  changePeer(turn, successor.peer, { failedSuccessions });
}

/** It is able to lead, or will be when it has caught up. */
export function mayBeHeir({ config }: CoordinatorState, peer: Peer): boolean {
  return peer.stage === 'member' && peer.canSucceed && peer.failedSuccessions < maxFailedSuccessions && peer.holderHash !== config.holderHash;
}

/** The next leader is ready: no step is begun any more. */
export function isHandingOver({ heir, successor }: CoordinatorState): boolean {
  return heir !== null && successor?.peer === heir && successor.stage === 'confirmed';
}

/** The directory names it, or will in a moment. */
function mayTakeOver({ stage }: Successor): boolean {
  return stage === 'named' || stage === 'confirmed';
}

/** Whether this step's gradient is of use to anybody. */
export function isFollowed(state: CoordinatorState, step: Step): boolean {
  return state.successor !== null && state.successor.since <= step;
}

/** It has everything as of this step. */
export function warm(turn: Turn, id: PeerId, step: Step): void {
  const { state } = turn;
  const { successor } = state;
  if (successor?.peer !== id || successor.stage !== 'warming' || step < successor.since || step > state.step) return;
  state.successor = { ...successor, stage: 'whole' };
  confirmedBy(turn, id, step);
}

/**
 * Once it has all that was announced, the directory may name it, and from then on no step is announced that it does not
 * have. Naming it earlier would let it take over without steps that are on their way to it.
 */
function nameIfCurrent(turn: Turn): void {
  const { state } = turn;
  const { successor } = state;
  if (successor?.stage !== 'whole' || successor.confirmed < announcedStep(state)) return;
  const peer = state.peers.get(successor.peer);
  if (peer === undefined || peer.keptRevision < state.rules.revision) return;
  state.successor = { ...successor, stage: 'named' };
  name(turn, peer.holderHash);
  touchPeers(turn);
}

/** It reports this replica, and with it, if it follows, this master state. */
export function confirmedBy(turn: Turn, id: PeerId, step: Step): void {
  const { state } = turn;
  if (state.successor?.peer !== id || step <= state.successor.confirmed) return;
  state.successor = { ...state.successor, confirmed: step, sinceMs: turn.nowMs };
}

function name(turn: Turn, holderHash: string | null): void {
  turn.state.wishedName = holderHash;
  turn.effects.push({ type: 'nameSuccessor', holderHash });
}

/** The directory has done as wished, so nobody named before can take over any more. */
export function successorNamed(turn: Turn, holderHash: string | null): void {
  const { state } = turn;
  if (state.wishedName !== holderHash) return;
  state.fenced = new Set();
  if (holderHash === null || state.successor?.stage !== 'named') return;
  state.successor = { ...state.successor, stage: 'confirmed' };
  changePeer(turn, state.successor.peer, { failedSuccessions: 0 });
  touchPeers(turn);
}

/** It says itself that it won't take over: nothing has to be waited for. `reason`: why it can't. */
export function resigned(turn: Turn, id: PeerId, reason: string | null = null): void {
  const { state } = turn;
  if (state.successor?.peer !== id) return;
  endSuccession(turn, true);
  const { stage, failedSuccessions = 0 } = state.peers.get(id) ?? {};
  if (stage !== 'member' || reason === null || state.heir !== id || failedSuccessions < maxFailedSuccessions) return;
  state.heir = null;
  changePeer(turn, id, { note: `It was to lead, and could not: ${reason}` });
}

/** It is gone, or can't be relied on: it may still believe that it is the successor. */
export function successorLost(turn: Turn, id: PeerId): void {
  const { state } = turn;
  if (state.successor?.peer !== id) return;
  if (state.peers.has(id)) sendTo(turn, id, { type: 'dismissed', term: state.config.term });
  endSuccession(turn, false);
}

function endSuccession(turn: Turn, isHarmless: boolean): void {
  const { state } = turn;
  const { successor } = state;
  if (successor === null) return;
  const peer = state.peers.get(successor.peer);
  if (peer !== undefined) changePeer(turn, peer.id, { failedSuccessions: peer.failedSuccessions + 1 });
  state.successor = null;
  touchPeers(turn);
  if (!mayTakeOver(successor)) return;
  if (!isHarmless && state.wishedName !== null) state.fenced = new Set([...state.fenced, state.wishedName]);
  name(turn, null);
}

/** Whoever says hello gives up what it knew from before. */
export function greetedAgain(turn: Turn, holderHash: string): void {
  const { fenced } = turn.state;
  if (fenced.has(holderHash)) turn.state.fenced = new Set([...fenced].filter((hash) => hash !== holderHash));
}

/**
 * Whether what was committed here can be relied on: nobody else could take the lead without it. The named successor has it.
 * Without one, whoever kept an older state could, once the lease is over; where nobody did, there is nothing to fear.
 */
export function isSafe(state: CoordinatorState, nowMs: number): boolean {
  const { successor, step } = state;
  if (isExposed(state, nowMs)) return false;
  return successor === null || !mayTakeOver(successor) || successor.confirmed >= step;
}

function isExposed({ fenced, successor, leaseUntilMs, hasSlept, hasHeirs }: CoordinatorState, nowMs: number): boolean {
  if (fenced.size > 0) return true;
  // A successor that lost what it had is one among others for the directory when the lease has been over for a while.
  const isCovered = successor?.stage === 'confirmed' && !hasSlept;
  return !isCovered && hasHeirs && nowMs >= leaseUntilMs;
}

/** Whether these rules can be relied on, in the same sense. */
export function keepsRules(state: CoordinatorState, revision: number, nowMs: number): boolean {
  const { successor, peers } = state;
  if (isExposed(state, nowMs)) return false;
  return successor === null || !mayTakeOver(successor) || (peers.get(successor.peer)?.keptRevision ?? 0) >= revision;
}

/** Longer than the directory takes to answer. */
export function isWaitingForDirectory(state: CoordinatorState, nowMs: number): boolean {
  return state.unannounced !== null && isExposed(state, nowMs) && nowMs - state.committedAtMs > directoryPatienceMs;
}

/** A successor is named when it may be; one that does not keep up makes way for another. */
export function watchSuccessor(turn: Turn): void {
  nameIfCurrent(turn);
  const { state, nowMs } = turn;
  const { successor } = state;
  if (successor === null) return;
  const patienceMs = successorConfirmMs + (state.updateBytes + state.gradientBytes) / slowestSuccessorBytesPerMs;
  const peer = state.peers.get(successor.peer);
  const isStalled = peer === undefined || peer.isSilent || peer.holding === null || peer.holding.isStalled;
  const isBehind = mayTakeOver(successor) && state.unannounced !== null && successor.confirmed < state.step && nowMs - Math.max(state.committedAtMs, successor.sinceMs) > patienceMs;
  if (isStalled || isBehind) successorLost(turn, successor.peer);
}
