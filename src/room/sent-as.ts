/** The coordinator's part of `codec-choice.ts`: what its state says of the circumstances. */
import { nextSentAs } from './codec-choice.ts';
import type { Turn } from './coordinator-state.ts';
import type { RoomCodec } from './values.ts';

/** For what is sent now. Null: in the run's own. */
export function chooseCodec(turn: Turn): RoomCodec | null {
  const { state } = turn;
  const { codecs } = state.config;
  const hasMembers = [...state.peers.values()].some(({ stage }) => stage === 'member');
  state.sentAs = nextSentAs(state.sentAs, { codecs, wayShare: state.pace?.wayShare ?? null, hasMembers, aloneSteps: state.aloneSteps, step: state.step });
  return state.sentAs?.codec ?? null;
}
