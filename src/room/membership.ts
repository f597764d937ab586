/**
 * Who is in the room and what each holds: greeting, replicas and updates, pings and silence, goodbyes. What they compute
 * is `step-work.ts`.
 */
import { announcedStep, broadcast, changePeer, isGreeted, sendTo, touchPeers } from './coordinator-state.ts';
import type { CoordinatorState, Peer, Turn } from './coordinator-state.ts';
import {
  closedAfterMs,
  farewellMs,
  goneShownMs,
  helloTimeoutMs,
  maxPeers,
  maxUnacknowledgedBytes,
  maxUnacknowledgedUpdates,
  maxUnsentWeights,
  maxWrongHashes,
  peersTableIntervalMs,
  pingIntervalMs,
  silentAfterMs,
} from './limits.ts';
import type { RoomProblem, Way } from './machine.ts';
import { awake, protocolVersion } from './messages.ts';
import type { HistoryPoint, MemberMessage, PeerDevice, PeerId, Presence, Step } from './messages.ts';
import { cleanName, distinctName } from './names.ts';
import { problems } from './problems.ts';
import { goneRows, paceRow, peerRows } from './roster.ts';
import { holdsStep, makeWatcher, withdrawAll } from './step-work.ts';
import { confirmedBy, greetedAgain, resigned, successorLost } from './succession.ts';
import { observedMs } from './speed.ts';
import { newWorkRecord } from './workers.ts';

/** Of whoever said goodbye. */
export const hasLeft = 'it left the room';
const maxReason = 200;
const maxGone = 32;
const unknownDevice: PeerDevice = { name: '', isSoftware: false, probeTokensPerSecond: 0, problem: null };

export function peerOpened(turn: Turn, id: PeerId): void {
  const { state, nowMs } = turn;
  if (id === state.config.self) return;
  peerGone(turn, id, 'it connected again');
  state.peers.set(id, {
    id,
    openedAtMs: nowMs,
    heardAtMs: nowMs,
    stage: 'greeting',
    partingSinceMs: 0,
    partingReason: '',
    name: '',
    device: unknownDevice,
    canSucceed: false,
    presence: awake,
    way: { path: null, roundTripMs: null },
    holderHash: '',
    toldRevision: 0,
    keptRevision: 0,
    failedSuccessions: 0,
    note: null,
    holding: null,
    wantsReplica: false,
    replicaSentAtMs: null,
    unsentWeights: 0,
    wrongHashes: 0,
    strikes: 0,
    isSilent: false,
    feed: null,
    noRelayBeforeMs: nowMs,
    repeatedStep: null,
    currentSinceMs: nowMs,
    lateStep: null,
    work: newWorkRecord(unknownDevice, state.config.tokensPerMicrobatch, state.step, nowMs),
  });
}

/** The connection is gone (or replaced): its work goes back to the pool at once. */
export function peerGone(turn: Turn, id: PeerId, reason: string): void {
  const { state, nowMs } = turn;
  const peer = state.peers.get(id);
  if (peer === undefined) return;
  state.peers.delete(id);
  if (peer.name !== '') {
    const why = peer.stage === 'parting' ? peer.partingReason : reason;
    state.gone = [...state.gone.filter(({ name }) => name !== peer.name), { name: peer.name, reason: why.slice(0, maxReason), atMs: nowMs }].slice(-maxGone);
  }
  successorLost(turn, id);
  withdrawAll(turn, id, 'gone');
  touchPeers(turn);
}

export function heard(turn: Turn, id: PeerId): void {
  const peer = turn.state.peers.get(id);
  if (peer === undefined) return;
  changePeer(turn, id, { heardAtMs: turn.nowMs, isSilent: false });
  if (peer.isSilent) touchPeers(turn);
}

export function hello(turn: Turn, id: PeerId, message: Extract<MemberMessage, { type: 'hello' }>): void {
  const { state, nowMs } = turn;
  const { config } = state;
  const peer = state.peers.get(id);
  if (peer?.stage !== 'greeting') return;
  if (message.protocol !== protocolVersion) {
    return refuse(turn, id, problems.versionMismatch(message.protocol));
  }
  greetedAgain(turn, message.holderHash);
  if ((state.proposed ?? state.rules).removed.includes(message.holderHash)) return refuse(turn, id, problems.removed);
  const greeted = [...state.peers.values()].filter(isGreeted);
  if (greeted.length >= maxPeers) return refuse(turn, id, problems.roomFull(maxPeers));
  const taken = new Set([cleanName(config.name), ...greeted.map((other) => other.name)]);
  const watches = message.wantsToWatch || message.device.problem !== null;
  const { replica } = message;
  // While a commit runs, what is current is about to change.
  const isCurrent = replica?.step === state.step && replica.hash === state.hashes.get(state.step)?.hash;
  const keeps = !watches && isCurrent && state.work?.isCommitting !== true;
  changePeer(turn, id, {
    stage: watches ? 'watcher' : 'member',
    name: distinctName(cleanName(message.name), taken),
    device: message.device,
    canSucceed: message.canSucceed,
    presence: message.presence,
    holderHash: message.holderHash,
    toldRevision: state.rules.revision,
    keptRevision: state.rules.revision,
    note: message.wantsToWatch ? null : (message.device.problem?.message ?? null),
    wantsReplica: !watches && !keeps,
    holding: keeps ? { base: state.step, sent: state.step, acknowledged: null, isStalled: false } : null,
    work: newWorkRecord(message.device, config.tokensPerMicrobatch, state.step, nowMs),
  });
  sendTo(turn, id, {
    type: 'welcome',
    term: config.term,
    you: id,
    step: announcedStep(state),
    steps: config.steps,
    phase: state.phase,
    startedAtMs: config.startedAtMs,
    replica: watches ? 'none' : keeps ? 'kept' : 'coming',
    run: config.run,
    rules: state.rules,
    historyPoints: state.history.length,
  });
  if (state.history.length > 0) turn.effects.push({ type: 'sendHistory', to: id, history: state.history });
  if (state.problem !== null) sendTo(turn, id, { type: 'phase', term: config.term, phase: state.phase, problem: state.problem });
  touchPeers(turn);
}

/** It has handed back by itself what it does not work on any more. */
export function presenceChanged(turn: Turn, id: PeerId, presence: Presence): void {
  changePeer(turn, id, { presence });
  if (presence.rest !== null) withdrawAll(turn, id, 'returned');
  touchPeers(turn);
}

function refuse(turn: Turn, id: PeerId, { code, message }: RoomProblem): void {
  sendTo(turn, id, { type: 'refused', code, message });
  part(turn, id, message);
}

/** The connection is closed a little later, so that the last words arrive. */
export function part(turn: Turn, id: PeerId, partingReason: string): void {
  changePeer(turn, id, { stage: 'parting', partingSinceMs: turn.nowMs, partingReason, holding: null, wantsReplica: false });
}

export function leave(turn: Turn, id: PeerId): void {
  resigned(turn, id);
  withdrawAll(turn, id, 'returned');
  part(turn, id, hasLeft);
  touchPeers(turn);
}

/** A replica was loaded, or what the peer kept is confirmed. */
export function ready(turn: Turn, id: PeerId, step: Step, hash: string): void {
  const peer = turn.state.peers.get(id);
  const holding = peer?.holding ?? null;
  if (peer === undefined || holding === null || holding.acknowledged !== null || step !== holding.base) return;
  if (isRightHash(turn, peer, step, hash)) acknowledge(turn, peer, step);
}

export function applied(turn: Turn, id: PeerId, step: Step, hash: string): void {
  const peer = turn.state.peers.get(id);
  const holding = peer?.holding ?? null;
  if (peer === undefined || holding === null || holding.acknowledged === null) return;
  if (step <= holding.acknowledged || step > holding.sent) return;
  if (isRightHash(turn, peer, step, hash)) acknowledge(turn, peer, step);
}

function acknowledge(turn: Turn, peer: Peer, step: Step): void {
  if (peer.holding === null) return;
  confirmedBy(turn, peer.id, step);
  const wasUnknown = peer.holding.acknowledged === null || (peer.lateStep !== null && step > peer.lateStep);
  const hasCaughtUp = peer.holding.isStalled && step === peer.holding.sent;
  changePeer(turn, peer.id, {
    holding: { ...peer.holding, acknowledged: step },
    currentSinceMs: turn.nowMs,
    work: { ...peer.work, updateMs: updateMsOf(turn, peer, step) },
    unsentWeights: 0,
    wantsReplica: peer.wantsReplica || hasCaughtUp,
    lateStep: peer.lateStep !== null && step > peer.lateStep ? null : peer.lateStep,
  });
  if (wasUnknown) touchPeers(turn);
}

/** Of everybody, whether it works or not, so that it is known for whom work is worth it. A first replica says nothing of it. */
function updateMsOf({ state, nowMs }: Turn, { work, holding }: Peer, step: Step): number {
  const since = state.hashes.get(step);
  if (since === undefined || holding?.acknowledged == null) return work.updateMs;
  return observedMs(work.updateMs, nowMs - since.sinceMs, work.updateMs === 0);
}

function isRightHash(turn: Turn, peer: Peer, step: Step, hash: string): boolean {
  const known = turn.state.hashes.get(step);
  if (known === undefined || known.hash === hash) return true;
  const wrongHashes = peer.wrongHashes + 1;
  changePeer(turn, peer.id, { wrongHashes });
  if (wrongHashes >= maxWrongHashes) {
    makeWatcher(turn, peer.id, 'Its weights differ from the room’s even after they were sent again, so it only watches.');
  } else {
    refetch(turn, peer.id);
  }
  return false;
}

/** It has lost its replica: a new one is due, and until it is confirmed there is no work for it. */
export function refetch(turn: Turn, id: PeerId): void {
  if (turn.state.peers.get(id)?.stage !== 'member') return;
  successorLost(turn, id);
  withdrawAll(turn, id, 'returned');
  changePeer(turn, id, { holding: null, wantsReplica: true });
  touchPeers(turn);
}

/** It waits in vain for what it was to get: it gets a replica instead when the next one is due, or hears why not. */
export function weightsNotSent(turn: Turn, id: PeerId, reason: string): void {
  const peer = turn.state.peers.get(id);
  if (peer === undefined || peer.holding === null) return;
  const unsentWeights = peer.unsentWeights + 1;
  refetch(turn, id);
  changePeer(turn, id, { unsentWeights });
  if (unsentWeights >= maxUnsentWeights) refuse(turn, id, problems.weightsUnreadable(reason));
}

/** Who gets the update of this step: all who hold the step before it, unless they have too much before them. */
export function receiversOf(state: CoordinatorState, step: Step): readonly PeerId[] {
  return [...state.peers.values()].filter((peer) => holdsStep(peer, step) && !isOverwhelmed(state, peer, step)).map(({ id }) => id);
}

function isOverwhelmed({ updateBytes }: CoordinatorState, { holding }: Peer, step: Step): boolean {
  if (holding === null) return false;
  const unacknowledged = step - (holding.acknowledged ?? holding.base);
  return unacknowledged >= maxUnacknowledgedUpdates || unacknowledged * updateBytes > maxUnacknowledgedBytes;
}

/** Notes that the update just committed goes to its receivers, and sends it to those who get it `whole`; who should have it and is no receiver is stalled. */
export function sendUpdate(turn: Turn, step: Step, to: readonly PeerId[], whole: readonly PeerId[]): void {
  const next = (step + 1) as Step;
  const receivers = new Set(to);
  for (const peer of turn.state.peers.values()) {
    const { holding } = peer;
    if (holding === null || !holdsStep(peer, step)) continue;
    changePeer(turn, peer.id, { holding: receivers.has(peer.id) ? { ...holding, sent: next } : { ...holding, isStalled: true } });
  }
  if (whole.length > 0) turn.effects.push({ type: 'sendUpdate', whole, forward: [], fed: [], step });
}

/** To the successor, unless it was lost while the step was committed. */
export function sendGradient(turn: Turn, step: Step, weightSum: number, point: HistoryPoint): void {
  const { successor, peers } = turn.state;
  const peer = successor === null ? undefined : peers.get(successor.peer);
  if (successor === null || peer === undefined || successor.since > step || !holdsStep(peer, step)) return;
  turn.effects.push({ type: 'sendGradient', to: peer.id, step, weightSum, point });
}

/** Pings, and what silence and time do to connections. */
export function watchConnections(turn: Turn): void {
  const { state, nowMs } = turn;
  for (const peer of state.peers.values()) {
    const silenceMs = nowMs - peer.heardAtMs;
    if (peer.stage === 'greeting' && nowMs - peer.openedAtMs > helloTimeoutMs) {
      close(turn, peer.id, 'it connected but never said hello');
    } else if (peer.stage === 'parting' && nowMs - peer.partingSinceMs > farewellMs) {
      close(turn, peer.id, peer.partingReason);
    } else if (silenceMs > closedAfterMs) {
      close(turn, peer.id, 'nothing was heard from it for too long');
    } else if (silenceMs > silentAfterMs && isGreeted(peer) && !peer.isSilent) {
      changePeer(turn, peer.id, { isSilent: true });
      withdrawAll(turn, peer.id, 'gone');
      touchPeers(turn);
    }
  }
  const gone = state.gone.filter(({ atMs }) => nowMs - atMs <= goneShownMs);
  if (gone.length < state.gone.length) {
    state.gone = gone;
    touchPeers(turn);
  }
  if (nowMs - state.lastPingMs < pingIntervalMs) return;
  state.lastPingMs = nowMs;
  state.pingNonce += 1;
  broadcast(turn, { type: 'ping', nonce: state.pingNonce });
}

function close(turn: Turn, id: PeerId, reason: string): void {
  turn.effects.push({ type: 'closePeer', peer: id, reason });
  peerGone(turn, id, reason);
}

export function sendPeersTable(turn: Turn): void {
  const { state, nowMs } = turn;
  if (!state.isPeersTableDirty || nowMs - state.lastPeersTableMs < peersTableIntervalMs) return;
  state.isPeersTableDirty = false;
  state.lastPeersTableMs = nowMs;
  const pace = paceRow(state);
  broadcast(turn, {
    type: 'peers',
    term: state.config.term,
    peers: [...peerRows(state)],
    ...(state.gone.length > 0 && { gone: [...goneRows(state)] }),
    ...(pace !== null && { pace }),
    ...(state.sentAs !== null && { sentAs: state.sentAs }),
  });
}

/** What is known of the ways to the peers has changed. */
export function waysChanged(turn: Turn, ways: readonly Way[]): void {
  for (const { peer: id, path, roundTripMs } of ways) {
    const peer = turn.state.peers.get(id);
    if (peer === undefined || (peer.way.path === path && !isFarFrom(peer.way.roundTripMs, roundTripMs))) continue;
    changePeer(turn, id, { way: { path, roundTripMs } });
    touchPeers(turn);
  }
}

/** Round trips are never the same twice; the table follows what people would notice. */
function isFarFrom(before: number | null, now: number | null): boolean {
  if (before === null || now === null) return before !== now;
  return Math.abs(now - before) > Math.max(5, before / 4);
}
