/**
 * A member's copy of the shared history: what the welcome announced and a blob brings, and every step committed since, each
 * point once and in order. Reading the blob's bytes is the session's.
 */
import { maxRememberedValidations } from './limits.ts';
import type { BlobRef } from './machine.ts';
import { changeRoom } from './member-state.ts';
import type { HistoryHeader, KnownRoom, MemberTurn } from './member-state.ts';
import { changeAt } from './rules.ts';
import type { CoordinatorMessage, HistoryPoint, Step } from './messages.ts';

type Welcome = Extract<CoordinatorMessage, { type: 'welcome' }>;

/** What a welcome says of the history: until it is here, the curve known before is shown as far as it may still hold. */
export function announcedHistory(before: KnownRoom | null, { run, step, historyPoints }: Welcome): Pick<KnownRoom, 'history' | 'awaited'> {
  if (historyPoints === 0) return { history: [], awaited: null };
  return {
    history: before?.run === run ? before.history.filter((point) => point.step < step) : [],
    awaited: { points: historyPoints, endStep: step, ref: null, since: [], validations: [] },
  };
}

export function historyArrived(turn: MemberTurn, header: HistoryHeader, ref: BlobRef): void {
  const { state } = turn;
  if (state.phase === 'greeting' && state.earlyHistory === null) {
    state.earlyHistory = { header, ref };
    return;
  }
  const awaited = state.room?.awaited ?? null;
  if (awaited === null || awaited.ref !== null || header.term !== state.room?.term) {
    turn.effects.push({ type: 'discardBlob', ref, reason: 'no such history was announced' });
    return;
  }
  changeRoom(turn, { awaited: { ...awaited, ref } });
  const { points, endStep } = awaited;
  turn.effects.push({ type: 'readHistory', ref, checksum: header.checksum, points, endStep });
}

/** After the welcome: the history may be here already. */
export function takeEarlyHistory(turn: MemberTurn): void {
  const early = turn.state.earlyHistory;
  turn.state.earlyHistory = null;
  if (early !== null) historyArrived(turn, early.header, early.ref);
}

/** The connection is gone, and with it what it had announced. */
export function forgetAwaitedHistory(turn: MemberTurn): void {
  const { earlyHistory, room } = turn.state;
  turn.state.earlyHistory = null;
  if (earlyHistory !== null) {
    turn.effects.push({ type: 'discardBlob', ref: earlyHistory.ref, reason: 'the connection it came by is gone' });
  }
  if (room !== null && room.awaited !== null) turn.state.room = { ...room, awaited: null };
}

export function historyRead(turn: MemberTurn, ref: BlobRef, points: readonly HistoryPoint[]): void {
  const { room } = turn.state;
  if (room === null || room.awaited?.ref !== ref) return;
  const { awaited, rules } = room;
  const dated: readonly HistoryPoint[] = points.map((point) => (rules.changes.some(({ step }) => step === point.step) ? { ...point, ...changeAt(rules, point.step) } : point));
  const whole = awaited.validations.reduce((history, { step, loss }) => withValidation(history, step, loss), dated);
  changeRoom(turn, { history: [...whole, ...awaited.since], awaited: null });
}

/** A step was committed. Points come in order; one that is known already (a message delivered twice) is old news, and so is its phase. */
export function progressed(turn: MemberTurn, { point, phase }: Extract<CoordinatorMessage, { type: 'progress' }>): void {
  const { room } = turn.state;
  if (room === null) return;
  const { history, awaited } = room;
  const known = awaited === null ? (history.at(-1)?.step ?? -1) : (awaited.since.at(-1)?.step ?? awaited.endStep - 1);
  if (point.step <= known) return;
  const added = awaited === null ? { history: [...history, point] } : { awaited: { ...awaited, since: [...awaited.since, point] } };
  changeRoom(turn, { ...added, phase, step: (point.step + 1) as Step });
}

export function validated(turn: MemberTurn, step: Step, loss: number): void {
  const { room } = turn.state;
  if (room === null) return;
  const { history, awaited } = room;
  if (awaited === null) return changeRoom(turn, { history: withValidation(history, step, loss) });
  if (step >= awaited.endStep) return changeRoom(turn, { awaited: { ...awaited, since: withValidation(awaited.since, step, loss) } });
  const validations = [...awaited.validations, { step, loss }].slice(-maxRememberedValidations);
  changeRoom(turn, { awaited: { ...awaited, validations } });
}

function withValidation(history: readonly HistoryPoint[], step: Step, loss: number): readonly HistoryPoint[] {
  const index = history.findLastIndex((point) => point.step === step);
  const point = history[index];
  return point === undefined ? history : history.with(index, { ...point, validationLoss: loss });
}
