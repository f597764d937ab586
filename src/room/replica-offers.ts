/**
 * How newcomers get the weights. The coordinator announces a copy of its replica; members that hold the same weights at that
 * moment are asked to keep a copy too, so that most pieces come from them. Fetching and checking pieces is the session's.
 */
import { changePeer, sendTo } from './coordinator-state.ts';
import type { CoordinatorState, Peer, Turn } from './coordinator-state.ts';
import { maxSharers, replicaIntervalMs, sharerPatienceMs } from './limits.ts';
import type { PeerId, Step } from './messages.ts';

/** Not while a commit runs: the weights are about to change under the copy. Not often to the same peer: it is the largest thing we send. */
export function serveReplicas(turn: Turn): void {
  const { state, nowMs } = turn;
  const due = [...state.peers.values()].filter(({ wantsReplica, replicaSentAtMs }) => wantsReplica && (replicaSentAtMs === null || nowMs - replicaSentAtMs >= replicaIntervalMs));
  if (due.length === 0) state.sharersAwaitedSinceMs = null;
  if (due.length === 0 || state.work?.isCommitting === true) return;
  if (isBetterSharedSoon(state)) {
    state.sharersAwaitedSinceMs ??= nowMs;
    if (nowMs - state.sharersAwaitedSinceMs <= sharerPatienceMs) return;
  }
  state.sharersAwaitedSinceMs = null;
  for (const peer of due) {
    const holding = { base: state.step, sent: state.step, acknowledged: null, isStalled: false };
    changePeer(turn, peer.id, { wantsReplica: false, replicaSentAtMs: nowMs, holding });
    const sources = sharers(turn).filter((id) => id !== peer.id);
    turn.effects.push({ type: 'offerReplica', to: peer.id, step: state.step, sources });
  }
}

/** Right after a step nobody has confirmed the new weights yet: in a moment there is somebody to share them. */
function isBetterSharedSoon({ config, peers, step }: CoordinatorState): boolean {
  if (!config.sharesReplica) return false;
  const others = [...peers.values()].filter((peer) => peer.holding !== null && peer.holding.acknowledged !== null && !peer.isSilent);
  return others.length > 0 && !others.some((peer) => hasExactly(peer, step));
}

function hasExactly({ stage, holding, isSilent }: Peer, step: Step): boolean {
  return stage === 'member' && !isSilent && holding?.acknowledged === step && holding.sent === step;
}

/** Each is asked once for a step; the ablest first. */
function sharers(turn: Turn): readonly PeerId[] {
  const { state } = turn;
  const { config, step } = state;
  if (!config.sharesReplica) return [];
  const asked = state.sharing?.step === step ? state.sharing.peers.filter((id) => state.peers.get(id)?.stage === 'member') : [];
  const able = [...state.peers.values()].filter((peer) => hasExactly(peer, step) && !asked.includes(peer.id));
  able.sort((a, b) => b.work.speed.perSecond - a.work.speed.perSecond);
  const chosen = able.slice(0, maxSharers - asked.length).map(({ id }) => id);
  for (const id of chosen) sendTo(turn, id, { type: 'share', term: config.term, step });
  const peers = [...asked, ...chosen];
  state.sharing = { step, peers };
  return peers;
}

/** Of the copy that this peer was told of, and of no other. */
export function wanted(turn: Turn, id: PeerId, step: Step, piece: number): void {
  const { holding } = turn.state.peers.get(id) ?? {};
  if (holding?.base === step && holding.acknowledged === null) turn.effects.push({ type: 'sendPiece', to: id, step, piece });
  else sendTo(turn, id, { type: 'missing', term: turn.state.config.term, step, piece });
}
