/**
 * Who may be given work now, and how fast each is believed to be. Decides nothing about which work: see `sharing.ts` for
 * how much and `step-work.ts` for what.
 */
import type { CoordinatorState, Peer, Turn, WorkRecord } from './coordinator-state.ts';
import { catchUpMs, firstHoldOffMs, longestHoldOffMs } from './limits.ts';
import type { PeerDevice, PeerId, Step } from './messages.ts';
import type { Worker } from './sharing.ts';
import { guessedSpeed } from './speed.ts';

/** A guess never makes a newcomer more than this much faster than the fastest worker measured. */
const boldestGuess = 2;

export function newWorkRecord(device: PeerDevice, tokensPerMicrobatch: number, step: Step, nowMs: number): WorkRecord {
  return {
    speed: guessedSpeed(device.probeTokensPerSecond / Math.max(tokensPerMicrobatch, 1)),
    failures: 0,
    notBeforeMs: nowMs,
    updateMs: 0,
    wayMs: 0,
    busySinceMs: nowMs,
    lastWorkStep: step,
    microbatches: 0,
  };
}

/** The record after one failure more: the next work comes after a pause that doubles each time. */
export function heldOff(record: WorkRecord, nowMs: number): WorkRecord {
  const pauseMs = Math.min(firstHoldOffMs * 2 ** record.failures, longestHoldOffMs);
  return { ...record, failures: record.failures + 1, notBeforeMs: nowMs + pauseMs };
}

function canOwnDeviceWork(state: CoordinatorState): boolean {
  return state.own.device.problem === null;
}

/** Members that work or might again: everybody but watchers, those that rest, and those on their way out. */
export function possibleWorkers(state: CoordinatorState): readonly PeerId[] {
  const members = [...state.peers.values()].filter((peer) => peer.stage === 'member' && peer.presence.rest === null).map((peer) => peer.id);
  return canOwnDeviceWork(state) ? [state.config.self, ...members] : members;
}

/** Workers that can take work now. Peers that were late come back alone when nobody else is there. */
export function readyWorkers(turn: Turn): readonly Worker[] {
  const { state, nowMs } = turn;
  const members = [...state.peers.values()].filter((peer) => holdsReplica(state, peer, nowMs) && nowMs >= peer.work.notBeforeMs);
  const ownIsReady = canOwnDeviceWork(state) && nowMs >= state.own.work.notBeforeMs;
  const punctual = members.filter((peer) => peer.lateStep === null);
  const chosen = punctual.length > 0 || ownIsReady ? punctual : members;
  const records = chosen.map((peer): readonly [PeerId, WorkRecord] => [peer.id, peer.work]);
  if (ownIsReady) records.unshift([state.config.self, state.own.work]);
  const outstanding = outstandingOf(state);
  const rateOf = calibrated(state);
  return records.map(([id, record]) => ({
    id,
    perSecond: rateOf(record),
    updateMs: record.updateMs,
    wayMs: record.wayMs,
    isSelf: id === state.config.self,
    outstanding: outstanding.get(id) ?? 0,
    isNew: !record.speed.isMeasured,
    idleSteps: state.step - record.lastWorkStep,
  }));
}

/** Its replica is confirmed and it keeps up with the updates. */
function holdsReplica(state: CoordinatorState, peer: Peer, nowMs: number): boolean {
  const { holding } = peer;
  if (peer.stage !== 'member' || peer.isSilent || peer.presence.rest !== null || holding === null || holding.isStalled) return false;
  if (holding.acknowledged === null || holding.sent !== state.step) return false;
  if (holding.acknowledged === state.step) return true;
  const nextSinceMs = state.hashes.get((holding.acknowledged + 1) as Step)?.sinceMs ?? -Infinity;
  return nowMs - nextSinceMs <= catchUpMs;
}

function outstandingOf(state: CoordinatorState): ReadonlyMap<PeerId, number> {
  const counts = new Map<PeerId, number>();
  for (const assignment of state.work?.assignments.values() ?? []) {
    if (assignment.phase !== 'open') continue;
    counts.set(assignment.worker, (counts.get(assignment.worker) ?? 0) + assignment.microbatches.length);
  }
  return counts;
}

/**
 * Probes ran another model than the run's: guesses are scaled by how measured workers compare with their own guesses, and
 * kept within reason, since a probe is only what a peer says of itself.
 */
function calibrated(state: CoordinatorState): (record: WorkRecord) => number {
  const perMicrobatch = Math.max(state.config.tokensPerMicrobatch, 1);
  const all = [{ device: state.own.device, record: state.own.work }];
  for (const peer of state.peers.values()) all.push({ device: peer.device, record: peer.work });
  const measured = all.filter(({ record }) => record.speed.isMeasured);
  if (measured.length === 0) return (record) => record.speed.perSecond;
  const fastest = Math.max(...measured.map(({ record }) => record.speed.perSecond));
  const ratios = measured
    .filter(({ device }) => device.probeTokensPerSecond > 0)
    .map(({ device, record }) => (record.speed.perSecond * perMicrobatch) / device.probeTokensPerSecond)
    .sort((a, b) => a - b);
  const ratio = ratios[Math.floor(ratios.length / 2)] ?? null;
  return ({ speed }) => {
    if (speed.isMeasured) return speed.perSecond;
    return ratio === null ? fastest : Math.min(speed.perSecond * ratio, boldestGuess * fastest);
  };
}
