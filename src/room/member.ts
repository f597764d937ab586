/**
 * A member's machine: (state, event, nowMs) → (state, effects). It finds the coordinator, keeps its replica in step,
 * computes what it is given and follows the shared history. No timers, sockets, GPU or randomness.
 */
import {
  connected,
  connectFailed,
  deviceIsBack,
  directoryAnswered,
  directoryUnreachable,
  disconnected,
  dropConnection,
  heardFromCoordinator,
  leadRefused,
  lookUp,
  refused,
  watchClock,
  welcomed,
} from './member-connection.ts';
import type { MemberConfig, MemberEffect, MemberEvent, MemberView, SavedState } from './machine.ts';
import { historyArrived, historyRead, progressed, validated } from './member-history.ts';
import { completed, completeIfWhole, endSuccession, leadTaken, resign } from './member-succession.ts';
import { beginTurn, changeRoom, isConnected, send, setPhase, setProblem, tellPresence } from './member-state.ts';
import type { MemberState, MemberTurn } from './member-state.ts';
import { ruled, sendCommand } from './member-rules.ts';
import { blobArrived, cancelled, computed, declineAll, evaluated, handBack, loaded, loadFailed, share } from './member-work.ts';
import { awake } from './messages.ts';
import type { CoordinatorMessage, PeerDevice, Presence, Step, Term } from './messages.ts';
import { noRules, stepsOf } from './rules.ts';

export type { MemberState } from './member-state.ts';

export interface MemberStep {
  readonly state: MemberState;
  readonly effects: readonly MemberEffect[];
}

export function createMember(config: MemberConfig, nowMs: number): MemberStep {
  const state: MemberState = {
    config,
    phase: 'finding',
    problem: null,
    device: config.device,
    presence: awake,
    toldPresence: null,
    coordinator: null,
    leadTerm: null,
    highestTerm: null,
    room: null,
    preparedRun: null,
    succession: null,
    saved: config.saved,
    lostAtMs: -Infinity,
    staleSinceMs: null,
    forgotten: null,
    waitingSinceMs: nowMs,
    retryAtMs: null,
    retries: 0,
    random: config.seed | 0,
    heardAtMs: nowMs,
    lastLookUpMs: nowMs,
    lastCallMs: nowMs,
    replica: null,
    loading: null,
    awaitsReplica: false,
    earlyHistory: null,
    blobs: [],
    assignments: [],
    computing: null,
    cancelled: [],
  };
  const turn = beginTurn(state, nowMs);
  lookUp(turn);
  turn.effects.push({ type: 'changed' });
  return { state: turn.state, effects: turn.effects };
}

export function memberStep(state: MemberState, event: MemberEvent, nowMs: number): MemberStep {
  const turn = beginTurn(state, nowMs);
  handle(turn, event);
  watchClock(turn);
  if (turn.isVisible) turn.effects.push({ type: 'changed' });
  return { state: turn.state, effects: turn.effects };
}

function handle(turn: MemberTurn, event: MemberEvent): void {
  if (turn.state.phase === 'left' || turn.state.phase === 'refused' || turn.state.phase === 'leading') return afterTheEnd(turn, event);
  switch (event.type) {
    case 'tick':
      return;
    case 'directory':
      return directoryAnswered(turn, event.lead);
    case 'directoryUnreachable':
      return directoryUnreachable(turn);
    case 'connected':
      return connected(turn, event.coordinator);
    case 'connectFailed':
      return connectFailed(turn, event.problem, event.isFinal ?? false);
    case 'disconnected':
      return disconnected(turn);
    case 'message':
      return fromCoordinator(turn, event.message);
    case 'leadTaken':
      return leadTaken(turn, event.term);
    case 'leadRefused':
      return leadRefused(turn, event.lead);
    case 'blob':
      heardFromCoordinator(turn);
      if (event.header.kind === 'history') return historyArrived(turn, event.header, event.ref);
      return blobArrived(turn, { header: event.header, ref: event.ref, bytes: event.bytes });
    case 'historyRead':
      historyRead(turn, event.ref, event.points);
      return completeIfWhole(turn);
    case 'saved':
      turn.state.saved = newer(turn.state.saved, event.saved);
      return;
    case 'successionCompleted':
      return completed(turn, event.step, event.problem);
    case 'replicaLoaded':
      return loaded(turn, 'load', event.step, event.hash);
    case 'updateApplied':
      return loaded(turn, 'apply', event.step, event.hash);
    case 'replicaFailed':
      return loadFailed(turn, event.step);
    case 'computed':
      return computed(turn, event);
    case 'evaluated':
      return evaluated(turn, event);
    case 'device':
      return deviceChanged(turn, event.device);
    case 'presence':
      return presenceChanged(turn, event.presence);
    case 'command':
      return command(turn, event.command);
    case 'ownerCommand':
      return sendCommand(turn, event.signed);
  }
}

/** Nothing matters any more, but the bytes of a blob must be let go, and leaving is always possible. */
function afterTheEnd(turn: MemberTurn, event: MemberEvent): void {
  if (event.type === 'blob') turn.effects.push({ type: 'discardBlob', ref: event.ref, reason: 'this peer has left' });
  if (event.type === 'command' && event.command === 'leave') setPhase(turn, 'left');
}

function fromCoordinator(turn: MemberTurn, message: CoordinatorMessage): void {
  const { state } = turn;
  if (!isConnected(state)) return;
  heardFromCoordinator(turn);
  if (message.type === 'welcome') return welcomed(turn, message);
  if (message.type === 'refused') return refused(turn, { code: message.code, message: message.message });
  if (message.type === 'ping') return send(turn, { type: 'pong', nonce: message.nonce });
  if (state.phase === 'greeting' || message.term !== state.room?.term) return;
  switch (message.type) {
    case 'cancel':
      return cancelled(turn, message.assignment);
    case 'rules':
      return ruled(turn, message);
    case 'declined': {
      const { revision, code, reason } = message;
      turn.effects.push({ type: 'declined', revision, code, reason });
      return;
    }
    case 'dismissed':
      return endSuccession(turn);
    case 'progress':
      return progressed(turn, message);
    case 'phase':
      return changeRoom(turn, { phase: message.phase, problem: message.problem });
    case 'validation':
      return validated(turn, message.step, message.loss);
    case 'peers':
      return changeRoom(turn, { peers: message.peers, gone: message.gone ?? [], pace: message.pace ?? null, sentAs: message.sentAs ?? null });
    case 'share':
      return share(turn, message.step);
    case 'missing':
      // It concerns whoever puts the replica together.
      return;
    case 'feed':
      // And this one whoever does the same with updates.
      return;
    case 'sample':
      return changeRoom(turn, { sample: { step: message.step, text: message.text } });
  }
}

function deviceChanged(turn: MemberTurn, device: PeerDevice): void {
  const { state } = turn;
  const couldCompute = state.device.problem === null;
  state.device = device;
  if (device.problem === null) {
    if (!couldCompute) deviceIsBack(turn);
  } else if (couldCompute) {
    declineAll(turn, 'device');
    endSuccession(turn);
    state.computing = null;
    state.loading = null;
    state.replica = null;
    state.preparedRun = null;
  }
  turn.isVisible = true;
}

/** A save may be reported after a later one. */
function newer(before: SavedState | null, now: SavedState): SavedState {
  if (before === null || now.term !== before.term) return before !== null && now.term < before.term ? before : now;
  return now.step >= before.step ? now : before;
}

/** Work goes back before the tab can't do it any more; weights are kept up to date as long as it lasts. */
function presenceChanged(turn: MemberTurn, presence: Presence): void {
  const { state } = turn;
  state.presence = presence;
  tellPresence(turn);
  if (presence.rest === null) return;
  handBack(turn);
  // Nobody else has what it keeps once the coordinator is gone.
  if (state.succession !== null && isConnected(state)) resign(turn, 'it has to rest');
}

function command(turn: MemberTurn, wish: 'pause' | 'resume' | 'leave'): void {
  const { state } = turn;
  const isWelcome = state.phase === 'fetching' || state.phase === 'joined';
  if (wish !== 'leave') {
    if (isWelcome && state.room !== null) send(turn, { type: 'command', term: state.room.term, command: wish });
    return;
  }
  if (isWelcome) {
    declineAll(turn, 'leaving');
    send(turn, { type: 'leave', reason: 'It left the room.' });
  }
  if (isConnected(state) || state.phase === 'connecting') dropConnection(turn);
  endSuccession(turn);
  state.retryAtMs = null;
  setPhase(turn, 'left');
  setProblem(turn, null);
}

export function memberView(state: MemberState): MemberView {
  const { room } = state;
  const ownRow = room?.peers.find((row) => row.id === room.self);
  return {
    self: room?.self ?? null,
    role: (room?.isWatcher ?? state.config.wantsToWatch) || ownRow?.role === 'watcher' ? 'watcher' : 'member',
    term: room?.term ?? (0 as Term),
    step: room?.step ?? (0 as Step),
    steps: room === null ? 0 : stepsOf(room.rules, room.steps),
    phase: room?.phase ?? 'running',
    startedAtMs: room?.startedAtMs ?? 0,
    history: room?.history ?? [],
    rules: room?.rules ?? noRules,
    areRulesInForce: room?.areRulesInForce ?? false,
    peers: room?.peers ?? [],
    gone: room?.gone ?? [],
    pace: room?.pace ?? null,
    sentAs: room?.sentAs ?? null,
    problem: state.problem ?? room?.problem ?? null,
    connection: state.phase,
    wasWelcomed: room !== null,
    replica: state.replica,
    sample: room?.sample ?? null,
  };
}
