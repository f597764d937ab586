/**
 * Who is in the room and what each holds: greeting, replicas and updates, pings and silence, goodbyes. What they compute
 * is `step-work.ts`.
 */
import { broadcast, changePeer, isGreeted, sendTo, touchPeers } from './coordinator-state.ts';
import type { Peer, Turn } from './coordinator-state.ts';
import {
  closedAfterMs,
  farewellMs,
  helloTimeoutMs,
  maxPeers,
  maxUnacknowledgedBytes,
  maxUnacknowledgedUpdates,
  maxUnsentWeights,
  maxWrongHashes,
  peersTableIntervalMs,
  pingIntervalMs,
  replicaIntervalMs,
  silentAfterMs,
} from './limits.ts';
import type { RoomProblem } from './machine.ts';
import { protocolVersion } from './messages.ts';
import type { MemberMessage, PeerDevice, PeerId, Step } from './messages.ts';
import { cleanName, distinctName } from './names.ts';
import { peerRows } from './roster.ts';
import { holdsStep, makeWatcher, withdrawAll } from './step-work.ts';
import { newWorkRecord } from './workers.ts';

const unknownDevice: PeerDevice = { name: '', isSoftware: false, probeTokensPerSecond: 0, problem: null };

export function peerOpened(turn: Turn, id: PeerId): void {
  const { state, nowMs } = turn;
  if (id === state.config.self) return;
  peerGone(turn, id);
  state.peers.set(id, {
    id,
    openedAtMs: nowMs,
    heardAtMs: nowMs,
    stage: 'greeting',
    partingSinceMs: 0,
    partingProblem: null,
    name: '',
    device: unknownDevice,
    note: null,
    holding: null,
    wantsReplica: false,
    replicaSentAtMs: null,
    unsentWeights: 0,
    wrongHashes: 0,
    strikes: 0,
    isSilent: false,
    lateStep: null,
    work: newWorkRecord(unknownDevice, state.config.tokensPerMicrobatch, state.step, nowMs),
  });
}

/** The connection is gone (or replaced): its work goes back to the pool at once. */
export function peerGone(turn: Turn, id: PeerId): void {
  if (!turn.state.peers.delete(id)) return;
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
    return part(turn, id, {
      code: 'protocol-mismatch',
      message: `This room speaks version ${protocolVersion} of the protocol, the joining tab version ${message.protocol}: reload both pages.`,
    });
  }
  const greeted = [...state.peers.values()].filter(isGreeted);
  if (greeted.length >= maxPeers) return part(turn, id, { code: 'room-full', message: `The room has ${maxPeers} peers already.` });
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
    note: message.wantsToWatch ? null : (message.device.problem?.message ?? null),
    wantsReplica: !watches && !keeps,
    holding: keeps ? { base: state.step, sent: state.step, acknowledged: null, isStalled: false } : null,
    work: newWorkRecord(message.device, config.tokensPerMicrobatch, state.step, nowMs),
  });
  sendTo(turn, id, {
    type: 'welcome',
    term: config.term,
    you: id,
    step: state.step,
    steps: config.steps,
    phase: state.phase,
    startedAtMs: config.startedAtMs,
    replica: watches ? 'none' : keeps ? 'kept' : 'coming',
    run: config.run,
    historyPoints: state.history.length,
  });
  if (state.history.length > 0) turn.effects.push({ type: 'sendHistory', to: id, history: state.history });
  if (state.problem !== null) sendTo(turn, id, { type: 'phase', term: config.term, phase: state.phase, problem: state.problem });
  touchPeers(turn);
}

/** Refuses a peer, or lets it go: the connection is closed a little later, so that the last words arrive. */
function part(turn: Turn, id: PeerId, problem: RoomProblem): void {
  if (problem.code !== 'left') sendTo(turn, id, { type: 'refused', ...problem });
  changePeer(turn, id, { stage: 'parting', partingSinceMs: turn.nowMs, partingProblem: problem, holding: null, wantsReplica: false });
}

export function leave(turn: Turn, id: PeerId): void {
  withdrawAll(turn, id, 'returned');
  part(turn, id, { code: 'left', message: 'It left the room.' });
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
  const wasUnknown = peer.holding.acknowledged === null || (peer.lateStep !== null && step > peer.lateStep);
  const hasCaughtUp = peer.holding.isStalled && step === peer.holding.sent;
  changePeer(turn, peer.id, {
    holding: { ...peer.holding, acknowledged: step },
    unsentWeights: 0,
    wantsReplica: peer.wantsReplica || hasCaughtUp,
    lateStep: peer.lateStep !== null && step > peer.lateStep ? null : peer.lateStep,
  });
  if (wasUnknown) touchPeers(turn);
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
  if (unsentWeights < maxUnsentWeights) return;
  const message = `The tab that leads this room can’t read its weights to send them (${reason.slice(0, 200)}).`;
  part(turn, id, { code: 'weights-unreadable', message });
}

/** Not while a commit runs: the weights are about to change under the copy. Not often to the same peer: it is the largest thing we send. */
export function serveReplicas(turn: Turn): void {
  const { state, nowMs } = turn;
  if (state.work?.isCommitting === true) return;
  for (const peer of state.peers.values()) {
    if (!peer.wantsReplica || (peer.replicaSentAtMs !== null && nowMs - peer.replicaSentAtMs < replicaIntervalMs)) continue;
    const holding = { base: state.step, sent: state.step, acknowledged: null, isStalled: false };
    changePeer(turn, peer.id, { wantsReplica: false, replicaSentAtMs: nowMs, holding });
    turn.effects.push({ type: 'sendReplica', to: peer.id, step: state.step });
  }
}

/** Sends the update that has just been committed to all who hold the step before it. Returns how many they are. */
export function sendUpdate(turn: Turn, step: Step): number {
  const { state } = turn;
  const next = (step + 1) as Step;
  const to: PeerId[] = [];
  for (const peer of state.peers.values()) {
    const { holding } = peer;
    if (holding === null || !holdsStep(peer, step)) continue;
    const unacknowledged = step - (holding.acknowledged ?? holding.base);
    if (unacknowledged >= maxUnacknowledgedUpdates || unacknowledged * state.updateBytes > maxUnacknowledgedBytes) {
      changePeer(turn, peer.id, { holding: { ...holding, isStalled: true } });
    } else {
      to.push(peer.id);
      changePeer(turn, peer.id, { holding: { ...holding, sent: next } });
    }
  }
  if (to.length > 0) turn.effects.push({ type: 'sendUpdate', to, step });
  return to.length;
}

/** Pings, and what silence and time do to connections. */
export function watchConnections(turn: Turn): void {
  const { state, nowMs } = turn;
  for (const peer of state.peers.values()) {
    const silenceMs = nowMs - peer.heardAtMs;
    if (peer.stage === 'greeting' && nowMs - peer.openedAtMs > helloTimeoutMs) {
      close(turn, peer.id, { code: 'no-hello', message: 'It connected but never said hello.' });
    } else if (peer.stage === 'parting' && nowMs - peer.partingSinceMs > farewellMs) {
      close(turn, peer.id, peer.partingProblem ?? { code: 'left', message: 'It left the room.' });
    } else if (silenceMs > closedAfterMs) {
      close(turn, peer.id, { code: 'silent', message: 'Nothing was heard from it for too long.' });
    } else if (silenceMs > silentAfterMs && isGreeted(peer) && !peer.isSilent) {
      changePeer(turn, peer.id, { isSilent: true });
      withdrawAll(turn, peer.id, 'gone');
      touchPeers(turn);
    }
  }
  if (nowMs - state.lastPingMs < pingIntervalMs) return;
  state.lastPingMs = nowMs;
  state.pingNonce += 1;
  broadcast(turn, { type: 'ping', nonce: state.pingNonce });
}

function close(turn: Turn, id: PeerId, problem: RoomProblem): void {
  turn.effects.push({ type: 'closePeer', peer: id, problem });
  peerGone(turn, id);
}

export function sendPeersTable(turn: Turn): void {
  const { state, nowMs } = turn;
  if (!state.isPeersTableDirty || nowMs - state.lastPeersTableMs < peersTableIntervalMs) return;
  state.isPeersTableDirty = false;
  state.lastPeersTableMs = nowMs;
  broadcast(turn, { type: 'peers', term: state.config.term, peers: [...peerRows(state)] });
}
