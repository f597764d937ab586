/**
 * How a step's update reaches everybody without the coordinator sending it to each: a few members get it in pieces and forward them,
 * each to a few others, and those to others again. Whoever has no such path gets it whole from the coordinator (a star), and
 * so does at once whoever misses one. Cutting, checking and forwarding is the session's (session/update-feed.ts); a member's place
 * among its orders does not change, since the hashes stand where the update would.
 */
import { changePeer, sendTo, touchPeers } from './coordinator-state.ts';
import type { CoordinatorState, Peer, Turn } from './coordinator-state.ts';
import { fanOutIntervalMs, feedOpenMs, firstRelays, forwardsPerRelay, relayPauseMs } from './limits.ts';
import type { MemberMessage, PeerId, Step } from './messages.ts';

/** Each receiver is in one of them. */
export interface UpdateRoutes {
  readonly whole: readonly PeerId[];
  readonly forward: readonly PeerId[];
  readonly fed: readonly PeerId[];
}

/** Nobody waits for somebody who does not get the update. */
export function routesOf({ peers }: Pick<CoordinatorState, 'peers'>, receivers: readonly PeerId[]): UpdateRoutes {
  const all = new Set(receivers);
  const fedBy = (id: PeerId): PeerId | null => {
    const feed = peers.get(id)?.feed;
    return feed?.isOpen === true && all.has(feed.from) ? feed.from : null;
  };
  const fed = receivers.filter((id) => fedBy(id) !== null);
  const relays = new Set(fed.map(fedBy));
  const others = receivers.filter((id) => fedBy(id) === null);
  return { fed, forward: others.filter((id) => relays.has(id)), whole: others.filter((id) => !relays.has(id)) };
}

/** Ahead of everything else of the step, since it has the longest way. */
export function fanOut(turn: Turn, step: Step, { forward, fed: others }: UpdateRoutes): void {
  if (forward.length > 0) turn.effects.push({ type: 'sendUpdate', whole: [], forward, fed: others, step });
}

/** It is up to date and takes part. The successor is sent everything directly: steps wait for it. */
function takesPart({ successor, heir }: CoordinatorState, { id, stage, isSilent, holding, lateStep }: Peer): boolean {
  return stage === 'member' && !isSilent && lateStep === null && id !== successor?.peer && id !== heir && holding !== null && holding.acknowledged !== null && !holding.isStalled;
}

function couldForward(state: CoordinatorState, peer: Peer, nowMs: number): boolean {
  return takesPart(state, peer) && peer.presence.rest === null && peer.way.path !== 'relayed' && nowMs >= peer.noRelayBeforeMs && !state.badRelays.has(peer.holderHash);
}

/** Keeps the tree as it is where it is sound, and finds places for those that have none. */
export function arrangeFanOut(turn: Turn): void {
  const { state, nowMs } = turn;
  const { relaysFrom } = state.config;
  if (relaysFrom === null || nowMs - state.lastFanOutMs < fanOutIntervalMs) return;
  state.lastFanOutMs = nowMs;
  const isWorthIt = [...state.peers.values()].filter((peer) => takesPart(state, peer)).length >= relaysFrom;
  for (const { id, feed } of state.peers.values()) if (feed !== null && !(isWorthIt && isSound(turn, id))) endFeed(turn, id);
  if (!isWorthIt) return;
  // The fastest are asked first, and are nearest to the coordinator.
  const waiting = [...state.peers.values()].filter((peer) => peer.feed === null && takesPart(state, peer)).sort((a, b) => b.work.speed.perSecond - a.work.speed.perSecond);
  const roots = waiting.filter((peer) => couldForward(state, peer, nowMs)).sort((a, b) => childrenOf(state, b.id) - childrenOf(state, a.id)).slice(0, firstRelays);
  const open: { readonly id: PeerId; readonly depth: number; places: number }[] = [];
  const offer = (peer: Peer): void => {
    const depth = depthOf(state, peer.id);
    if (depth !== null && couldForward(state, peer, nowMs)) open.push({ id: peer.id, depth, places: forwardsPerRelay - childrenOf(state, peer.id) });
  };
  for (const peer of state.peers.values()) if (roots.includes(peer) || peer.feed !== null) offer(peer);
  for (const peer of waiting) {
    if (roots.includes(peer)) continue;
    const under = open.filter(({ id, places }) => places > 0 && !isBelow(state, id, peer.id)).sort((a, b) => a.depth - b.depth)[0];
    if (under === undefined) continue;
    under.places -= 1;
    changePeer(turn, peer.id, { feed: { from: under.id, isOpen: false, sinceMs: nowMs } });
    sendTo(turn, peer.id, { type: 'feed', term: state.config.term, from: under.id });
    offer(state.peers.get(peer.id) as Peer);
  }
}

function isSound({ state, nowMs }: Turn, id: PeerId): boolean {
  const peer = state.peers.get(id);
  if (peer === undefined || peer.feed === null || !takesPart(state, peer)) return false;
  const relay = state.peers.get(peer.feed.from);
  return relay !== undefined && couldForward(state, relay, nowMs) && (peer.feed.isOpen || nowMs - peer.feed.sinceMs <= feedOpenMs);
}

function endFeed(turn: Turn, id: PeerId): void {
  const { state } = turn;
  const peer = state.peers.get(id);
  if (peer === undefined || peer.feed === null) return;
  changePeer(turn, id, { feed: null });
  if (peer.stage === 'member') sendTo(turn, id, { type: 'feed', term: state.config.term, from: null });
  touchPeers(turn);
}

function childrenOf({ peers }: CoordinatorState, id: PeerId): number {
  return [...peers.values()].filter(({ feed }) => feed?.from === id).length;
}

/** Relays between it and the coordinator; null where there is no path. */
function depthOf({ peers }: CoordinatorState, id: PeerId): number | null {
  let depth = 0;
  for (let at = peers.get(id); at !== undefined && depth <= peers.size; at = peers.get(at.feed.from), depth += 1) {
    if (at.feed === null) return depth;
  }
  return null;
}

/** Whether `id` is fed by `above`, or by somebody who is; or is it. */
function isBelow({ peers }: CoordinatorState, id: PeerId, above: PeerId): boolean {
  let steps = 0;
  for (let at: PeerId | undefined = id; at !== undefined && steps <= peers.size; at = peers.get(at)?.feed?.from, steps += 1) if (at === above) return true;
  return false;
}

/** It has reached whoever forwards to it: from the next update on. */
export function fed(turn: Turn, id: PeerId, from: PeerId): void {
  const { feed } = turn.state.peers.get(id) ?? {};
  if (feed?.from !== from) return;
  changePeer(turn, id, { feed: { ...feed, isOpen: true } });
  touchPeers(turn);
}

/** Whoever forwards wrong bytes is not asked again; whoever was late, not for a while. The update goes out once more, once. */
export function missed(turn: Turn, id: PeerId, step: Step, why: Extract<MemberMessage, { type: 'missed' }>['why']): void {
  const { state, nowMs } = turn;
  const peer = state.peers.get(id);
  if (peer === undefined) return;
  const relay = peer.feed === null ? undefined : state.peers.get(peer.feed.from);
  if (relay !== undefined) {
    if (why === 'wrong') state.badRelays = new Set([...state.badRelays, relay.holderHash]);
    if (why === 'late') changePeer(turn, relay.id, { noRelayBeforeMs: nowMs + relayPauseMs });
  }
  changePeer(turn, id, { feed: null });
  touchPeers(turn);
  const { holding, repeatedStep } = peer;
  const isOwed = holding !== null && step >= (holding.acknowledged ?? holding.base) && step < holding.sent && (repeatedStep === null || step > repeatedStep);
  if (!isOwed) return;
  changePeer(turn, id, { repeatedStep: step });
  turn.effects.push({ type: 'sendUpdate', whole: [id], forward: [], fed: [], step });
}
