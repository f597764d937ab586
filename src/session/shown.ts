/**
 * What a page shows of the room it is in, from the view of whichever machine it runs. Pure: the session looks and tells.
 */
import type { CoordinatorView, MemberView, RoomView } from '../room/machine.ts';
import type { HistoryPoint } from '../room/messages.ts';
import { problems } from '../room/problems.ts';
import { bitsPerByteOf } from '../data/bits-per-byte.ts';
import { recentSpeed } from './figures.ts';
import { explain } from './problems.ts';
import type { SessionPhase, SessionState } from './types.ts';

export type RoleView =
  | { readonly kind: 'lead'; readonly view: CoordinatorView }
  | { readonly kind: 'member'; readonly view: MemberView };

/** What changes in the state `before`. `elapsedMs`: time spent in these steps. */
export function shownState(role: RoleView, before: SessionState, elapsedMs: (history: readonly HistoryPoint[]) => number): Partial<SessionState> {
  const { view, heldHash } = shownView(role);
  const { tokensPerSecond, stepMs } = recentSpeed(view.history);
  const last = view.history.at(-1);
  const isRunning = view.phase === 'running';
  const validationLoss = view.history.findLast((point) => point.validationLoss !== undefined)?.validationLoss ?? null;
  const { validationBytesPerToken } = before;
  return {
    phase: phaseOf(role, view),
    role: view.role,
    selfId: view.self,
    term: view.term,
    step: view.step,
    ...(view.rules.title !== null && { title: view.rules.title }),
    steps: view.steps > 0 ? view.steps : before.steps,
    loss: last?.loss ?? null,
    validationLoss,
    bitsPerByte: validationLoss === null || validationBytesPerToken === null ? null : bitsPerByteOf(validationLoss, validationBytesPerToken),
    tokensPerSecond: isRunning ? tokensPerSecond : 0,
    ownTokensPerSecond: (isRunning && view.peers.find(({ id }) => id === view.self)?.tokensPerSecond) || 0,
    elapsedMs: elapsedMs(view.history),
    remainingMs: stepMs > 0 && isRunning ? (view.steps - view.step) * stepMs : null,
    peers: view.peers,
    gone: view.gone,
    pace: view.pace,
    sentAs: view.sentAs,
    changes: view.rules.changes,
    history: view.history,
    replicaHash: heldHash ?? last?.replicaHash ?? null,
    ...sentSample(role, before),
    ...waitingProblem(role, before),
  };
}

/** A leader that can't announce a step says so, until it can. */
function waitingProblem(role: RoleView, { problem }: SessionState): Partial<SessionState> {
  const isWaiting = role.kind === 'lead' && role.view.isWaitingForDirectory;
  if (isWaiting && problem === null) return { problem: explain(problems.waitingForDirectory) };
  return !isWaiting && problem?.code === problems.waitingForDirectory.code ? { problem: null } : {};
}

/**
 * The room as this page may speak of it. News of a step can overtake the step's weights; a member shows a step once it
 * holds them, so that step, history and hash always belong together.
 */
function shownView(role: RoleView): { readonly view: RoomView; readonly heldHash: string | null } {
  if (role.kind === 'lead') return { view: role.view, heldHash: null };
  const { view } = role;
  const { replica } = view;
  // Weights may also come before the news of their step: then the hash shown is the history's.
  if (replica === null || replica.step >= view.step) return { view, heldHash: replica?.step === view.step ? replica.hash : null };
  const phase = view.phase === 'stopped' ? view.phase : 'running';
  const history = view.history.filter((point) => point.step < replica.step);
  return { view: { ...view, step: replica.step, history, phase }, heldHash: replica.hash };
}

function phaseOf(role: RoleView, { phase }: RoomView): SessionPhase {
  if (role.kind === 'lead') return phase;
  const { connection, wasWelcomed } = role.view;
  switch (connection) {
    case 'finding':
    case 'claiming':
    case 'leading':
      return wasWelcomed ? 'reconnecting' : 'finding-room';
    case 'connecting':
    case 'greeting':
      return wasWelcomed ? 'reconnecting' : 'connecting';
    case 'fetching':
      return 'fetching-replica';
    case 'joined':
      return phase;
    case 'refused':
      return 'stopped';
    case 'left':
      return 'left';
  }
}

/** The coordinator's sample, for those who have drawn none of their own. */
function sentSample(role: RoleView, { sample }: SessionState): Partial<SessionState> {
  if (role.kind === 'lead' || role.view.sample === null || sample?.own === true) return {};
  const { step, text } = role.view.sample;
  return sample?.step === step ? {} : { sample: { step, prompt: '', text, temperature: 0, own: false } };
}
