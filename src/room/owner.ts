/**
 * The owner's commands as the coordinator carries them out. What a command asks for becomes the next revision of the rules
 * (`rules.ts`): proposed first, and in force once the successor keeps it too, so that no hand-off can lose what the owner was
 * told is done. Whether a command is the owner's, the session has checked before.
 */
import { changePeer, isGreeted, sendTo, touchPeers } from './coordinator-state.ts';
import type { CoordinatorState, Peer, Turn } from './coordinator-state.ts';
import type { CoordinatorEvent } from './machine.ts';
import type { PeerId, Step } from './messages.ts';
import { part } from './membership.ts';
import { cleanName, cleanTitle } from './names.ts';
import { maxChanges, maxRemoved, withOrder } from './rules.ts';
import type { OwnerCommand, RoomRules } from './rules.ts';
import { withdrawAll } from './step-work.ts';
import { isHandingOver, keepsRules, mayBeHeir, successorLost } from './succession.ts';

/** What a command makes of the rules, or in words why nothing. */
type Decision = Omit<RoomRules, 'revision'> | string;

type OwnerOrder = Extract<CoordinatorEvent, { type: 'ownerCommand' }>;

export function ownerCommand(turn: Turn, { from, order, revision, command }: OwnerOrder): void {
  const { state } = turn;
  const sender = state.peers.get(from);
  // To find out that it is the owner took a moment: it may be gone.
  if (from !== state.config.self && (sender === undefined || !isGreeted(sender))) return;
  const decline = (code: 'outdated' | 'impossible', reason: string): void => {
    if (from === state.config.self) turn.effects.push({ type: 'declined', revision, code, reason });
    else sendTo(turn, from, { type: 'declined', term: state.config.term, revision, code, reason });
  };
  // Sent again, since its answer was long in coming.
  if ((state.proposed ?? state.rules).orders.includes(order)) return;
  if (state.proposed !== null || revision <= state.rules.revision) return decline('outdated', 'another command came before');
  if (state.phase === 'stopped') return decline('impossible', 'The room is closed.');
  const decided = decide(state, from, command);
  if (typeof decided === 'string') return decline('impossible', decided);
  state.proposed = withOrder(decided, revision, order);
  if (command.kind === 'handOver') state.heir = command.peer;
  const { successor, peers } = state;
  // It will not be asked whether it keeps this.
  if (successor !== null && isRemoved(state, peers.get(successor.peer))) successorLost(turn, successor.peer);
}

function decide(state: CoordinatorState, from: PeerId, command: OwnerCommand): Decision {
  const { rules, config, peers } = state;
  const by = from === config.self ? cleanName(config.name) : (peers.get(from)?.name ?? '');
  switch (command.kind) {
    case 'rename': {
      const title = cleanTitle(command.title);
      if (title === '') return 'A room’s name needs a letter that can be seen.';
      return { ...rules, title, latest: { kind: 'rename', by, about: title } };
    }
    case 'schedule':
      return reschedule(state, command, by);
    case 'remove': {
      const peer = peers.get(command.peer);
      if (command.peer === config.self) return `${cleanName(config.name)} leads the room: hand the lead over to somebody else first.`;
      if (peer === undefined || !isGreeted(peer)) return 'That peer is not in the room any more.';
      const ownHash = from === config.self ? config.holderHash : peers.get(from)?.holderHash;
      if (peer.holderHash === ownHash) return 'That is a tab of your own browser: close it there.';
      if (peer.holderHash === config.holderHash) return 'Another tab of that browser leads the room: hand the lead over to somebody else first.';
      if (rules.removed.length >= maxRemoved) return 'Too many were removed from this room already.';
      return { ...rules, removed: [...rules.removed, peer.holderHash], latest: { kind: 'remove', by, about: peer.name } };
    }
    case 'handOver': {
      const peer = peers.get(command.peer);
      if (command.peer === config.self) return `${cleanName(config.name)} leads the room already.`;
      if (peer === undefined || !isGreeted(peer)) return 'That peer is not in the room any more.';
      if (!mayBeHeir(state, peer)) return `${peer.name} can’t lead: it watches only, can’t keep up, or is a tab of the browser that leads already.`;
      return { ...rules, latest: { kind: 'handOver', by, about: peer.name } };
    }
    case 'renewKey':
      return { ...rules, keys: { current: command.key, former: rules.keys?.current ?? command.former }, latest: { kind: 'renewKey', by, about: '' } };
    case 'close':
      return { ...rules, isClosed: true, latest: { kind: 'close', by, about: '' } };
  }
}

/** From the next step on that is not begun: its work is not given out yet, so nobody waits for it. */
function reschedule(state: CoordinatorState, { learningRate, minLearningRate, steps }: Extract<OwnerCommand, { kind: 'schedule' }>, by: string): Decision {
  const { rules, work } = state;
  const step = (work === null ? state.step : work.step + 1) as Step;
  const given = {
    ...(learningRate !== undefined && { learningRate }),
    ...(minLearningRate !== undefined && { minLearningRate }),
    ...(steps !== undefined && { steps }),
  };
  if (Object.keys(given).length === 0) return 'Nothing was to be changed.';
  if (steps !== undefined && steps < step) return `The run is at step ${step} already: it can’t end before that.`;
  const before = rules.changes.filter((change) => change.step < step);
  if (before.length >= maxChanges) return 'This run’s schedule was changed too often already.';
  // Changed twice before that step, or gone back before an earlier change: what was said last holds for everything after it.
  const merged = rules.changes.slice(before.length).reduce((earlier, later) => ({ ...earlier, ...later }), {});
  return { ...rules, changes: [...before, { ...merged, ...given, step, by }], latest: { kind: 'schedule', by, about: '' } };
}

/** Whether this browser may not be in the room, or in a moment. */
export function isRemoved({ rules, proposed }: CoordinatorState, peer: Pick<Peer, 'holderHash'> | undefined): boolean {
  return peer !== undefined && (proposed ?? rules).removed.includes(peer.holderHash);
}

/** The successor keeps these rules, or newer ones. */
export function kept(turn: Turn, id: PeerId, revision: number): void {
  const peer = turn.state.peers.get(id);
  if (peer === undefined || revision <= peer.keptRevision || revision > peer.toldRevision) return;
  changePeer(turn, id, { keptRevision: revision });
}

/** The successor hears of what is proposed first; when it can't be lost any more, it is in force and everybody hears of it. */
export function enactIfSafe(turn: Turn): void {
  const { state } = turn;
  const { proposed, successor } = state;
  if (proposed === null) return;
  const follower = successor === null ? undefined : state.peers.get(successor.peer);
  if (follower !== undefined && follower.toldRevision < proposed.revision) tell(turn, follower.id, proposed, false);
  if (!keepsRules(state, proposed.revision, turn.nowMs)) return;
  state.rules = proposed;
  state.proposed = null;
  for (const peer of state.peers.values()) if (isGreeted(peer)) tell(turn, peer.id, proposed, true);
  for (const peer of state.peers.values()) if (isGreeted(peer) && isRemoved(state, peer)) sendAway(turn, peer.id);
  touchPeers(turn);
}

/** Between two steps, when whoever is to lead has all that there is. True: this peer's reign is over. */
export function handOverIfReady(turn: Turn): boolean {
  const { state } = turn;
  const { work, successor } = state;
  if (!isHandingOver(state) || state.proposed !== null || state.unannounced !== null || successor?.confirmed !== state.step) return false;
  const isUnderWay = work !== null && (work.isCommitting || work.assignments.size > 0 || work.counted.size > 0);
  if (isUnderWay) return false;
  state.work = null;
  state.isHandedOver = true;
  turn.effects.push({ type: 'changed' }, { type: 'handOver' });
  return true;
}

/** The rules that it was told say why. */
function sendAway(turn: Turn, id: PeerId): void {
  successorLost(turn, id);
  withdrawAll(turn, id, 'gone');
  part(turn, id, 'the owner has removed it');
}

function tell(turn: Turn, id: PeerId, rules: RoomRules, areInForce: boolean): void {
  changePeer(turn, id, { toldRevision: rules.revision });
  sendTo(turn, id, { type: 'rules', term: turn.state.config.term, rules, areInForce });
}
