/** The table of peers as everybody in the room sees it, drawn from the coordinator's state. */
import type { CoordinatorState, OwnWorker, Peer } from './coordinator-state.ts';
import { maxPeers } from './limits.ts';
import { cleanName } from './names.ts';
import type { GonePeer, PaceRow, PeerRow } from './messages.ts';
import { slowestOf } from './pace.ts';

/** The coordinator first, then peers in the order they came. */
export function peerRows(state: CoordinatorState): readonly PeerRow[] {
  const { config } = state;
  const busy = new Set([...(state.work?.assignments.values() ?? [])].map((assignment) => assignment.worker));
  const rows: PeerRow[] = [
    {
      id: config.self,
      name: cleanName(config.name),
      role: 'coordinator',
      ...deviceColumns(state.own, config.tokensPerMicrobatch),
      state: state.own.device.problem !== null ? 'watching' : busy.has(config.self) ? 'computing' : 'ready',
      ...(state.own.device.problem !== null && { note: state.own.device.problem.message }),
    },
  ];
  for (const peer of state.peers.values()) {
    if (peer.stage === 'greeting' || (peer.stage === 'parting' && peer.name === '')) continue;
    rows.push({
      id: peer.id,
      name: peer.name,
      role: peer.stage === 'watcher' ? 'watcher' : 'member',
      ...deviceColumns(peer, config.tokensPerMicrobatch),
      state: stateOf(peer, busy.has(peer.id)),
      ...successionColumns(state, peer),
      ...twinColumn(state, peer),
      ...forwardingColumn(state, peer),
      ...(peer.way.path !== null && { path: peer.way.path }),
      ...(peer.way.roundTripMs !== null && { roundTripMs: peer.way.roundTripMs }),
      ...(peer.presence.isHidden && { isHidden: true }),
      ...(peer.presence.rest !== null && { rest: peer.presence.rest }),
      ...(peer.note !== null && { note: peer.note }),
    });
  }
  // Those on their way out may be more than a table holds.
  return rows.slice(0, maxPeers + 1);
}

function deviceColumns(worker: Pick<OwnWorker, 'device' | 'work'>, tokensPerMicrobatch: number) {
  const { device, work } = worker;
  return {
    device: device.name,
    isSoftware: device.isSoftware,
    tokensPerSecond: work.speed.isMeasured ? work.speed.perSecond * tokensPerMicrobatch : 0,
    microbatches: work.microbatches,
  };
}

function successionColumns({ successor, step }: CoordinatorState, peer: Peer): Pick<PeerRow, 'succession' | 'lagSteps'> {
  if (successor?.peer !== peer.id) return {};
  return { succession: successor.stage === 'confirmed' ? 'ready' : 'warming', lagSteps: step - successor.confirmed };
}

function forwardingColumn({ peers }: CoordinatorState, { id }: Peer): Pick<PeerRow, 'forwardsTo'> {
  const forwardsTo = [...peers.values()].filter(({ feed }) => feed?.isOpen === true && feed.from === id).length;
  return forwardsTo === 0 ? {} : { forwardsTo };
}

export function paceRow({ pace, peers, config }: CoordinatorState): PaceRow | null {
  if (pace === null) return null;
  const { last: _last, wayShare: _wayShare, ...times } = pace;
  const slowest = slowestOf(pace);
  return { ...times, slowest: slowest === config.self ? cleanName(config.name) : slowest === null ? null : (peers.get(slowest)?.name ?? null) };
}

/** Unless they are back under their names. */
export function goneRows({ gone, peers }: CoordinatorState): readonly GonePeer[] {
  const names = new Set([...peers.values()].map(({ name }) => name));
  return gone.filter(({ name }) => !names.has(name)).map(({ name, reason }) => ({ name, reason }));
}

/** Two tabs of one browser share its GPU, which is worth knowing. */
function twinColumn({ config, peers }: CoordinatorState, peer: Peer): Pick<PeerRow, 'twinOf'> {
  const first = [...peers.values()].find(({ holderHash, name }) => holderHash === peer.holderHash && name !== '');
  const name = peer.holderHash === config.holderHash ? cleanName(config.name) : first?.id === peer.id ? undefined : first?.name;
  return name === undefined ? {} : { twinOf: name };
}

function stateOf(peer: Peer, isBusy: boolean): PeerRow['state'] {
  if (peer.stage === 'parting') return 'leaving';
  if (peer.isSilent) return 'silent';
  if (peer.stage === 'watcher') return 'watching';
  if (peer.lateStep !== null) return 'late';
  if (peer.holding === null) return 'joining';
  if (peer.holding.acknowledged === null) return 'syncing';
  if (peer.presence.rest !== null) return 'resting';
  return isBusy ? 'computing' : 'ready';
}
