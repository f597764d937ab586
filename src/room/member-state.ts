/** What a member knows, and the turn in which one event changes it. As for the coordinator, states are never mutated. */
import { ownStallMs } from './limits.ts';
import type { BlobRef, MachineBlob, MasterPart, MemberConfig, MemberEffect, MemberPhase, RoomProblem, SavedState, SuccessionPart } from './machine.ts';
import type { CoordinatorBlob, GonePeer, HistoryPoint, MemberMessage, PaceRow, PeerDevice, PeerId, PeerRow, Presence, RoomPhase, SentAsRow, Step, Term } from './messages.ts';
import type { RoomRules } from './rules.ts';
import type { RoomCodec } from './values.ts';

export type AssignmentHeader = Extract<CoordinatorBlob, { kind: 'assignment' }>;
export type EvaluationHeader = Extract<CoordinatorBlob, { kind: 'evaluation' }>;

export type HistoryHeader = Extract<CoordinatorBlob, { kind: 'history' }>;
/** Of what the trainer is given: weights, work, and what a successor keeps. */
export type TrainerBlob = Exclude<MachineBlob, HistoryHeader>;

export interface QueuedBlob {
  readonly header: TrainerBlob;
  readonly ref: BlobRef;
  readonly bytes: number;
}

/** The history that the welcome announced, while it is on its way, and what has happened since. */
export interface AwaitedHistory {
  readonly points: number;
  /** Steps below this one are in it; all others come as progress. */
  readonly endStep: Step;
  /** Names its bytes once they are here and being read. */
  readonly ref: BlobRef | null;
  readonly since: readonly HistoryPoint[];
  /** Of steps that are in it: it may have been sent before they were known. */
  readonly validations: readonly { readonly step: Step; readonly loss: number }[];
}

/** What this member has been sent, so that it could lead. */
export interface Succession {
  readonly term: Term;
  /** Of the appointment; gradients are followed from it on. */
  readonly step: Step;
  readonly masterBytes: number;
  readonly masterParts: readonly MasterPart[];
  readonly corpusBytes: number;
  readonly received: Readonly<Record<SuccessionPart, number>>;
  /** `completing`: every piece is there and is being put to use. */
  readonly stage: 'following' | 'completing' | 'warm';
  /** Waits for its update. */
  readonly gradient: { readonly step: Step; readonly ref: BlobRef; readonly weightSum: number; readonly point: HistoryPoint } | null;
  /** Of the last steps applied, whether announced or not. */
  readonly points: readonly HistoryPoint[];
}

/** Room as the coordinator described it; what is still shown while the connection is being re-made. */
export interface KnownRoom {
  readonly self: PeerId;
  readonly term: Term;
  readonly run: string;
  readonly isWatcher: boolean;
  readonly step: Step;
  /** As the run has them; the rules may say otherwise. */
  readonly steps: number;
  readonly phase: RoomPhase;
  readonly problem: RoomProblem | null;
  readonly startedAtMs: number;
  readonly rules: RoomRules;
  readonly areRulesInForce: boolean;
  /** As far as it is known without a gap; while one is awaited, what was known before. */
  readonly history: readonly HistoryPoint[];
  readonly awaited: AwaitedHistory | null;
  readonly peers: readonly PeerRow[];
  readonly gone: readonly GonePeer[];
  readonly pace: PaceRow | null;
  readonly sentAs: SentAsRow | null;
  readonly sample: { readonly step: Step; readonly text: string } | null;
}

export interface MemberState {
  readonly config: MemberConfig;
  readonly phase: MemberPhase;
  readonly problem: RoomProblem | null;
  readonly device: PeerDevice;
  readonly presence: Presence;
  /** As the coordinator has heard it. */
  readonly toldPresence: Presence | null;
  readonly coordinator: PeerId | null;
  /** Term the directory gave for that coordinator. */
  readonly leadTerm: Term | null;
  /** Nothing of a lower term counts any more. */
  readonly highestTerm: Term | null;
  readonly room: KnownRoom | null;
  /** What the trainer has planned. */
  readonly preparedRun: string | null;

  readonly succession: Succession | null;
  readonly saved: SavedState | null;
  /** When the last connection was lost; -Infinity before the first. */
  readonly lostAtMs: number;
  /** Since when the directory names somebody of a lower term than was seen. */
  readonly staleSinceMs: number | null;
  /** Since when the directory says, each time it is asked, that it does not know the room that this peer could lead. */
  readonly forgotten: { readonly sinceMs: number; readonly lastMs: number } | null;

  /** Since when the answer that the phase waits for is awaited. */
  readonly waitingSinceMs: number;
  /** When to look up next; null while an answer is awaited. */
  readonly retryAtMs: number | null;
  readonly retries: number;
  readonly random: number;
  readonly heardAtMs: number;
  readonly lastLookUpMs: number;
  readonly lastCallMs: number;

  /** What the trainer holds, when that is known; while an update is being applied, what it held before. */
  readonly replica: { readonly step: Step; readonly hash: string } | null;
  /** The one load or update the trainer is busy with. `isOrphan`: of a connection that is gone, so nobody is told. */
  readonly loading: { readonly kind: 'load' | 'apply'; readonly step: Step; readonly isOrphan: boolean } | null;
  readonly awaitsReplica: boolean;
  /** A history that overtook its welcome. */
  readonly earlyHistory: { readonly header: HistoryHeader; readonly ref: BlobRef } | null;
  /** Blobs in the order sent; each waits until the one before is through. */
  readonly blobs: readonly QueuedBlob[];
  /** Assignments for the replica at hand, evaluations too, to be computed one after another. */
  readonly assignments: readonly { readonly header: AssignmentHeader | EvaluationHeader; readonly ref: BlobRef }[];
  readonly computing: { readonly assignment: string; readonly isCancelled: boolean; readonly codec: RoomCodec | null } | null;
  /** Cancels may overtake the assignments they are about. */
  readonly cancelled: readonly string[];
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
export interface MemberTurn {
  readonly state: Mutable<MemberState>;
  readonly nowMs: number;
  readonly effects: MemberEffect[];
  isVisible: boolean;
}

/** Starts from a copy. After a gap in which this machine itself stood still, what it waits for gets that much longer. */
export function beginTurn(state: MemberState, nowMs: number): MemberTurn {
  const gapMs = nowMs - state.lastCallMs;
  const shiftMs = gapMs > ownStallMs ? gapMs : 0;
  const copy = {
    ...state,
    lastCallMs: nowMs,
    heardAtMs: state.heardAtMs + shiftMs,
    waitingSinceMs: state.waitingSinceMs + shiftMs,
  };
  return { state: copy, nowMs, effects: [], isVisible: false };
}

export function send(turn: MemberTurn, message: MemberMessage): void {
  turn.effects.push({ type: 'send', message });
}

/** What the coordinator does not know yet of this peer's presence: once it is welcome, since a hello says it once. */
export function tellPresence(turn: MemberTurn): void {
  const { phase, room, presence, toldPresence } = turn.state;
  if (room === null || (phase !== 'fetching' && phase !== 'joined')) return;
  if (toldPresence?.isHidden === presence.isHidden && toldPresence.rest === presence.rest) return;
  turn.state.toldPresence = presence;
  send(turn, { type: 'presence', term: room.term, presence });
}

export function changeRoom(turn: MemberTurn, change: Partial<KnownRoom>): void {
  if (turn.state.room === null) return;
  turn.state.room = { ...turn.state.room, ...change };
  turn.isVisible = true;
}

export function setPhase(turn: MemberTurn, phase: MemberPhase): void {
  if (turn.state.phase === phase) return;
  turn.state.phase = phase;
  turn.state.waitingSinceMs = turn.nowMs;
  turn.isVisible = true;
}

export function setProblem(turn: MemberTurn, problem: RoomProblem | null): void {
  if (turn.state.problem?.code === problem?.code && turn.state.problem?.message === problem?.message) return;
  turn.state.problem = problem;
  turn.effects.push({ type: 'problem', problem });
  turn.isVisible = true;
}

/** A channel to the coordinator is open. */
export function isConnected({ phase }: MemberState): boolean {
  return phase === 'greeting' || phase === 'fetching' || phase === 'joined';
}

/** The next of a sequence of numbers in [0, 1) that a seed fixes (mulberry32, a public-domain generator by T. Ettinger). */
export function nextRandom(turn: MemberTurn): number {
  turn.state.random = (turn.state.random + 0x6d2b79f5) | 0;
  let mixed = Math.imul(turn.state.random ^ (turn.state.random >>> 15), turn.state.random | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}
