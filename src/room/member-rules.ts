/** What the owner has decided, as a member hears and keeps it; and the owner's own commands where this page is a member. */
import { changeRoom, isConnected, send } from './member-state.ts';
import type { MemberTurn } from './member-state.ts';
import { dropConnection, giveUp } from './member-connection.ts';
import { problems } from './problems.ts';
import type { RoomRules, SignedCommand } from './rules.ts';

/** Where this peer keeps the coordinator's state, they may not be in force yet: nothing is lost if it has to lead with them. */
export function ruled(turn: MemberTurn, { rules, areInForce }: { readonly rules: RoomRules; readonly areInForce: boolean }): void {
  const { state } = turn;
  const { room } = state;
  if (room === null) return;
  const { revision } = rules;
  if (revision > room.rules.revision) changeRoom(turn, { rules, areRulesInForce: areInForce });
  else if (revision === room.rules.revision && areInForce) changeRoom(turn, { areRulesInForce: true });
  send(turn, { type: 'kept', term: room.term, revision });
  if (!areInForce) return;
  const isRemoved = rules.removed.includes(state.config.holderHash);
  if (!isRemoved && !rules.isClosed) return;
  if (!isRemoved && state.succession?.stage === 'warm') turn.effects.push({ type: 'save' });
  dropConnection(turn);
  giveUp(turn, isRemoved ? problems.removed : problems.roomClosed(rules.latest?.by ?? 'The owner'));
}

/** Lost with the connection: whoever sends it sends it again until it is answered. */
export function sendCommand(turn: MemberTurn, signed: SignedCommand): void {
  const { room } = turn.state;
  if (room !== null && isConnected(turn.state) && turn.state.phase !== 'greeting') send(turn, { type: 'owner', term: room.term, ...signed });
}
