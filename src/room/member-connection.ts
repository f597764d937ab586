/** How a member finds the coordinator, says hello, notices that it is gone, and tries again with growing pauses. */
import {
  connectTimeoutMs,
  coordinatorLostMs,
  coordinatorSilentMs,
  firstRetryMs,
  handOffExpectedMs,
  longestRetryMs,
  lookUpIntervalMs,
  lookUpTimeoutMs,
  staleReignMs,
  welcomeTimeoutMs,
} from './limits.ts';
import type { DirectoryLead, RoomProblem } from './machine.ts';
import { announcedHistory, forgetAwaitedHistory, takeEarlyHistory } from './member-history.ts';
import { isConnected, nextRandom, send, setPhase, setProblem, tellPresence } from './member-state.ts';
import type { MemberTurn } from './member-state.ts';
import { claimLead, connectionLost, endSuccession, waitsForLead } from './member-succession.ts';
import { abandonAll, askForReplica, takeBlobs } from './member-work.ts';
import { protocolVersion } from './messages.ts';
import type { CoordinatorMessage, PeerId } from './messages.ts';
import { problems } from './problems.ts';

export function lookUp(turn: MemberTurn): void {
  const { state, nowMs } = turn;
  state.retryAtMs = null;
  state.waitingSinceMs = nowMs;
  state.lastLookUpMs = nowMs;
  turn.effects.push({ type: 'lookUp' });
}

/**
 * Whether this lead is of a reign that another has followed. A directory that was restarted may have forgotten the newer one;
 * when that does not come forward, the older one leads after all.
 */
function isOfOlderReign(turn: MemberTurn, lead: DirectoryLead): boolean {
  const { state, nowMs } = turn;
  if (state.highestTerm === null || lead.term >= state.highestTerm) {
    state.staleSinceMs = null;
    return false;
  }
  state.staleSinceMs ??= nowMs;
  if (!lead.isHeld || nowMs - state.staleSinceMs < staleReignMs) return true;
  state.highestTerm = lead.term;
  state.staleSinceMs = null;
  return false;
}

export function directoryAnswered(turn: MemberTurn, lead: DirectoryLead | null): void {
  const { state } = turn;
  if (lead === null) state.staleSinceMs = null;
  const isStale = lead !== null && isOfOlderReign(turn, lead);
  const isLed = lead !== null && lead.isHeld && !isStale;
  if (state.phase === 'finding') {
    if (!isLed) return nobodyLeads(turn, lead);
    if (waitsForLead(turn, lead)) return tryLater(turn, problems.coordinatorGone);
    return connect(turn, lead);
  }
  // The connection is silent, and whoever should be at its other end has lost the lead: so this peer may take it.
  if (!isLed && isConnected(state) && state.succession?.stage === 'warm' && lead?.term === state.succession.term) {
    dropConnection(turn);
    return nobodyLeads(turn, lead);
  }
  // While a connection is there (or on its way), only a newer reign matters.
  const isNewer = isLed && state.leadTerm !== null && lead.term > state.leadTerm;
  if (isNewer && (isConnected(state) || state.phase === 'connecting')) {
    dropConnection(turn);
    connect(turn, lead);
  }
}

/** Takes the lead where this peer can, or waits until somebody has it. */
function nobodyLeads(turn: MemberTurn, lead: DirectoryLead | null): void {
  const { state } = turn;
  if (claimLead(turn, lead)) return;
  if (lead?.hasSuccessor === true) return tryLater(turn, problems.handingOver);
  tryLater(turn, state.room?.phase === 'stopped' ? problems.roomStopped : problems.roomEmpty);
}

/** Somebody else has the lead, or will have it first. */
export function leadRefused(turn: MemberTurn, lead: DirectoryLead | null): void {
  if (turn.state.phase !== 'claiming') return;
  setPhase(turn, 'finding');
  // One of an older reign is claimed again, and refused again, until it is followed: not without a pause.
  if (lead?.isHeld === true && lead.term >= (turn.state.highestTerm ?? 0)) return directoryAnswered(turn, lead);
  tryLater(turn, lead?.hasSuccessor === true ? problems.handingOver : problems.roomEmpty);
}

export function directoryUnreachable(turn: MemberTurn): void {
  const { phase } = turn.state;
  if (phase === 'finding' || phase === 'claiming') tryLater(turn, problems.signallingUnreachable);
}

function connect(turn: MemberTurn, lead: DirectoryLead): void {
  const { state } = turn;
  state.coordinator = lead.coordinator;
  state.leadTerm = lead.term;
  state.forgotten = null;
  state.retryAtMs = null;
  setPhase(turn, 'connecting');
  turn.effects.push({ type: 'connect', coordinator: lead.coordinator });
}

export function connected(turn: MemberTurn, coordinator: PeerId): void {
  const { state, nowMs } = turn;
  if (state.phase !== 'connecting' || coordinator !== state.coordinator) return;
  state.heardAtMs = nowMs;
  // Whoever says hello gives up what it had from before: the coordinator counts on that.
  endSuccession(turn);
  setPhase(turn, 'greeting');
  state.toldPresence = state.presence;
  send(turn, {
    type: 'hello',
    protocol: protocolVersion,
    name: state.config.name,
    wantsToWatch: state.config.wantsToWatch,
    device: state.device,
    canSucceed: state.config.canSucceed,
    holderHash: state.config.holderHash,
    presence: state.presence,
    // While the trainer is busy with an old update, what it holds is about to change.
    replica: state.loading === null ? state.replica : null,
  });
}

export function connectFailed(turn: MemberTurn, problem: RoomProblem, isFinal: boolean): void {
  if (turn.state.phase !== 'connecting') return;
  if (isFinal) return giveUp(turn, problem);
  tryLater(turn, problem);
}

export function disconnected(turn: MemberTurn): void {
  const { state } = turn;
  if (!isConnected(state)) return;
  forgetConnection(turn);
  tryLater(turn, state.room?.phase === 'stopped' ? problems.roomStopped : problems.coordinatorGone);
}

export function welcomed(turn: MemberTurn, message: Extract<CoordinatorMessage, { type: 'welcome' }>): void {
  const { state } = turn;
  if (state.phase !== 'greeting') return;
  if (state.highestTerm !== null && message.term < state.highestTerm) {
    dropConnection(turn);
    return tryLater(turn, problems.coordinatorGone);
  }
  const { term, you, run, rules, step, steps, phase, startedAtMs } = message;
  const isWatcher = message.replica === 'none';
  state.highestTerm = term;
  state.retries = 0;
  if (state.room?.run !== run) turn.effects.push({ type: 'describe', run });
  state.room = {
    self: you,
    term,
    run,
    isWatcher,
    step,
    steps,
    phase,
    problem: null,
    startedAtMs,
    rules,
    areRulesInForce: true,
    ...announcedHistory(state.room, message),
    peers: state.room?.peers ?? [],
    gone: state.room?.gone ?? [],
    pace: state.room?.pace ?? null,
    sentAs: state.room?.sentAs ?? null,
    sample: state.room?.sample ?? null,
  };
  setProblem(turn, null);
  turn.isVisible = true;
  if (isWatcher) {
    setPhase(turn, 'joined');
  } else {
    prepareRun(turn);
    if (message.replica === 'coming') {
      state.awaitsReplica = true;
      setPhase(turn, 'fetching');
    } else if (state.replica === null) {
      askForReplica(turn);
    } else {
      state.awaitsReplica = false;
      setPhase(turn, 'joined');
      send(turn, { type: 'ready', term, ...state.replica });
    }
  }
  tellPresence(turn);
  takeEarlyHistory(turn);
  takeBlobs(turn);
}

/** Planning another run forgets the weights of the one before. */
function prepareRun(turn: MemberTurn): void {
  const { state } = turn;
  if (state.room === null || state.preparedRun === state.room.run) return;
  state.preparedRun = state.room.run;
  state.replica = null;
  turn.effects.push({ type: 'prepare', run: state.room.run });
}

/** This peer's GPU works again: plan anew, and fetch the weights, or say hello again where the hello said that it can't compute. */
export function deviceIsBack(turn: MemberTurn): void {
  const { state } = turn;
  state.preparedRun = null;
  if (state.phase === 'fetching' || state.phase === 'joined') {
    if (state.room?.isWatcher === true) {
      if (!state.config.wantsToWatch) hangUp(turn);
      return;
    }
    prepareRun(turn);
    askForReplica(turn);
  } else if (state.phase === 'greeting') {
    hangUp(turn);
  }
}

/** Ends a working connection to make it again at once. */
function hangUp(turn: MemberTurn): void {
  dropConnection(turn);
  setPhase(turn, 'finding');
  lookUp(turn);
}

export function refused(turn: MemberTurn, problem: RoomProblem): void {
  dropConnection(turn);
  giveUp(turn, problem);
}

export function giveUp(turn: MemberTurn, problem: RoomProblem): void {
  setPhase(turn, 'refused');
  setProblem(turn, problem);
}

/** Ends the connection from this side. */
export function dropConnection(turn: MemberTurn): void {
  turn.effects.push({ type: 'disconnect' });
  forgetConnection(turn);
}

function forgetConnection(turn: MemberTurn): void {
  const { state } = turn;
  abandonAll(turn);
  connectionLost(turn);
  forgetAwaitedHistory(turn);
  if (isConnected(state)) state.lostAtMs = turn.nowMs;
  if (state.loading !== null) state.loading = { ...state.loading, isOrphan: true };
  state.awaitsReplica = false;
  state.coordinator = null;
  state.leadTerm = null;
}

function tryLater(turn: MemberTurn, problem: RoomProblem): void {
  const { state, nowMs } = turn;
  setPhase(turn, 'finding');
  setProblem(turn, problem);
  const isExpected = nowMs - state.lostAtMs < handOffExpectedMs || state.forgotten !== null;
  const pauseMs = Math.min(firstRetryMs * 2 ** state.retries, isExpected ? lookUpIntervalMs : longestRetryMs);
  // A room's members must not all come back in the same moment.
  state.retryAtMs = nowMs + pauseMs * (0.75 + 0.5 * nextRandom(turn));
  state.retries = Math.min(state.retries + 1, 10);
}

export function heardFromCoordinator(turn: MemberTurn): void {
  turn.state.heardAtMs = turn.nowMs;
  if (turn.state.problem === problems.coordinatorGone && isConnected(turn.state)) setProblem(turn, null);
}

/** What time alone brings about. */
export function watchClock(turn: MemberTurn): void {
  const { state, nowMs } = turn;
  const waitedMs = nowMs - state.waitingSinceMs;
  switch (state.phase) {
    case 'finding':
      if (state.retryAtMs === null) {
        if (waitedMs > lookUpTimeoutMs) tryLater(turn, problems.signallingUnreachable);
      } else if (nowMs >= state.retryAtMs) {
        lookUp(turn);
      }
      return;
    case 'claiming':
      if (waitedMs > lookUpTimeoutMs) tryLater(turn, problems.signallingUnreachable);
      return;
    case 'connecting':
      if (waitedMs <= connectTimeoutMs) return askWhoLeads(turn);
      dropConnection(turn);
      return tryLater(turn, problems.coordinatorGone);
    case 'greeting':
      if (waitedMs <= welcomeTimeoutMs) return;
      dropConnection(turn);
      return tryLater(turn, problems.coordinatorGone);
    case 'fetching':
    case 'joined':
      return watchCoordinator(turn);
    case 'refused':
    case 'left':
    case 'leading':
      return;
  }
}

function askWhoLeads(turn: MemberTurn): void {
  const { state, nowMs } = turn;
  if (nowMs - state.lastLookUpMs < lookUpIntervalMs) return;
  state.lastLookUpMs = nowMs;
  turn.effects.push({ type: 'lookUp' });
}

/** A silent coordinator may have been followed by another: ask the directory, and in the end start over. */
function watchCoordinator(turn: MemberTurn): void {
  const { state, nowMs } = turn;
  const silenceMs = nowMs - state.heardAtMs;
  if (silenceMs <= coordinatorSilentMs) return;
  if (silenceMs > coordinatorLostMs) {
    dropConnection(turn);
    return tryLater(turn, problems.coordinatorGone);
  }
  setProblem(turn, problems.coordinatorGone);
  askWhoLeads(turn);
}
