/**
 * What the coordinator knows, and the turn in which one event changes it. States are never mutated: a turn starts from
 * a shallow copy and replaces what changes.
 */
import type { CoordinatorConfig, CoordinatorEffect, RoomProblem, Way } from './machine.ts';
import type { CoordinatorMessage, GonePeer, HistoryPoint, PeerDevice, PeerId, Presence, RoomPhase, Step } from './messages.ts';
import type { LinkUse } from './link.ts';
import { ownSleepMs, ownStallMs } from './limits.ts';
import type { Pace, StepTimes } from './pace.ts';
import type { RoomRules } from './rules.ts';
import type { Speed } from './speed.ts';
import type { SentAs } from './codec-choice.ts';

/** The weights a peer holds, as far as the coordinator knows: a replica was sent at `base`, updates up to `sent`. */
export interface Holding {
  readonly base: Step;
  readonly sent: Step;
  /** Newest step whose hash the peer reported, and which was right; null until the replica itself is confirmed. */
  readonly acknowledged: Step | null;
  /** Too many updates are unacknowledged: no more are sent, and a replica follows when it has caught up. */
  readonly isStalled: boolean;
}

/** How a worker (a member, or the coordinator's own device) has done, and when it may be given more. */
export interface WorkRecord {
  readonly speed: Speed;
  /** Deadlines missed and assignments handed back in a row. */
  readonly failures: number;
  readonly notBeforeMs: number;
  /** From a commit until it holds the new weights: computing can't begin before. */
  readonly updateMs: number;
  /** Of the time from an assignment to its answer, all that was not computing. */
  readonly wayMs: number;
  /** When it became idle or got its first open assignment: where the measurement of its speed starts. */
  readonly busySinceMs: number;
  readonly lastWorkStep: Step;
  /** Micro-batches counted in the last committed step. */
  readonly microbatches: number;
}

/** From whom a member gets its updates instead of from the coordinator. `isOpen`: it says that it does; before, both go on. */
export interface Feed {
  readonly from: PeerId;
  readonly isOpen: boolean;
  readonly sinceMs: number;
}

export interface Peer {
  readonly id: PeerId;
  readonly openedAtMs: number;
  readonly heardAtMs: number;
  /** `greeting` until its hello; `parting` once it was refused or said goodbye. */
  readonly stage: 'greeting' | 'member' | 'watcher' | 'parting';
  readonly partingSinceMs: number;
  /** To give when the connection is closed. */
  readonly partingReason: string;
  readonly name: string;
  readonly device: PeerDevice;
  readonly canSucceed: boolean;
  readonly presence: Presence;
  readonly way: Pick<Way, 'path' | 'roundTripMs'>;
  readonly holderHash: string;
  /** Newest rules sent to it, and the newest that it keeps. */
  readonly toldRevision: number;
  readonly keptRevision: number;
  /** Appointments as successor that came to nothing. */
  readonly failedSuccessions: number;
  /** Why it watches, when not by choice. */
  readonly note: string | null;
  readonly holding: Holding | null;
  readonly wantsReplica: boolean;
  readonly replicaSentAtMs: number | null;
  /** Replicas and updates in a row that could not be read for it. */
  readonly unsentWeights: number;
  readonly wrongHashes: number;
  readonly strikes: number;
  readonly isSilent: boolean;
  readonly feed: Feed | null;
  /** Before then it forwards nothing: somebody waited for it in vain. */
  readonly noRelayBeforeMs: number;
  /** Newest update that it was sent again, since it missed it. */
  readonly repeatedStep: Step | null;
  /** Since when it holds the newest weights. */
  readonly currentSinceMs: number;
  /** The step at which it missed a deadline: it works again once it has applied that step's update. */
  readonly lateStep: Step | null;
  readonly work: WorkRecord;
}

export interface OwnWorker {
  readonly device: PeerDevice;
  /** The assignment the trainer is busy with; the next one must wait until this one's sums were added. */
  readonly running: string | null;
  readonly work: WorkRecord;
}

export interface Assignment {
  readonly id: string;
  readonly worker: PeerId;
  readonly microbatches: readonly number[];
  /** The open assignment that this one is a part of once more; the micro-batches are that one's until either is answered. */
  readonly repeats: string | null;
  readonly sentAtMs: number;
  /** From then on idle workers may repeat it. */
  readonly overdueMs: number;
  readonly deadlineMs: number;
  /** `adding`: its contribution is with the trainer. */
  readonly phase: 'open' | 'adding';
  readonly lossSum: number;
  readonly weightSum: number;
}

/** The step being computed. Every micro-batch is in exactly one of: the pool, one assignment that repeats no other, counted. */
export interface StepWork {
  readonly step: Step;
  readonly beganAtMs: number;
  readonly pool: readonly number[];
  readonly assignments: ReadonlyMap<string, Assignment>;
  readonly counted: ReadonlyMap<PeerId, number>;
  readonly missing: number;
  readonly lossSum: number;
  readonly weightSum: number;
  readonly bytesUp: number;
  /** Who tried a micro-batch and came back with numbers that can't be used. */
  readonly spoiled: readonly { readonly microbatch: number; readonly worker: PeerId }[];
  readonly isCommitting: boolean;
  readonly times: StepTimes;
  readonly link: LinkUse;
}

/** Micro-batches of the held-out part that somebody is to evaluate. */
export interface EvaluationPart {
  readonly assignment: string;
  readonly worker: PeerId;
  readonly microbatches: readonly number[];
  readonly deadlineMs: number;
}

/** The validation loss that is being computed. Every micro-batch is in the pool, in one open part, or counted. */
export interface Evaluation {
  /** Whose update led to the weights. */
  readonly step: Step;
  readonly pool: readonly number[];
  readonly open: ReadonlyMap<string, EvaluationPart>;
  /** Who had a micro-batch and did not come back with it. */
  readonly tried: ReadonlyMap<number, ReadonlySet<PeerId>>;
  readonly counted: number;
  readonly lossSum: number;
  readonly weightSum: number;
}

/**
 * The member that keeps the master state. `warming`: it is being sent it; `whole`: it has all of it; `named`: the directory was
 * asked to name it, so no step is announced that it lacks; `confirmed`: the directory has done so.
 */
export interface Successor {
  readonly peer: PeerId;
  /** It gets the gradients of the steps from this one on. */
  readonly since: Step;
  readonly stage: 'warming' | 'whole' | 'named' | 'confirmed';
  /** Newest step that it is known to have. */
  readonly confirmed: Step;
  /** When it last confirmed one. */
  readonly sinceMs: number;
}

export interface CoordinatorState {
  readonly config: CoordinatorConfig;
  readonly phase: RoomPhase;
  readonly problem: RoomProblem | null;
  /** Updates applied. */
  readonly step: Step;
  /** Hashes of recent replicas by step, and since when each is current. */
  readonly hashes: ReadonlyMap<Step, { readonly hash: string; readonly sinceMs: number }>;
  readonly history: readonly HistoryPoint[];
  /** In force. */
  readonly rules: RoomRules;
  /** The owner wants these, and the successor does not keep them yet. */
  readonly proposed: RoomRules | null;
  readonly peers: ReadonlyMap<PeerId, Peer>;
  /** Those who have left or were lost within the last seconds. */
  readonly gone: readonly (GonePeer & { readonly atMs: number })[];
  readonly own: OwnWorker;
  readonly work: StepWork | null;
  /** No step is committed until it is done. */
  readonly evaluation: Evaluation | null;
  /** Evaluations from this step on count for `config.patience`. */
  readonly patientSince: Step;
  /** Committed here and not announced yet: what would be lost with this peer. The next step is computed, but not committed, meanwhile. */
  readonly unannounced: HistoryPoint | null;
  readonly committedAtMs: number;
  /** Null before the first step under this coordinator. */
  readonly pace: Pace | null;
  /** What a contribution takes of this peer's link; null before one has come. */
  readonly linkMs: number | null;
  /** Null where there is nothing to choose. */
  readonly sentAs: SentAs | null;
  /** Begun since there was a member. */
  readonly aloneSteps: number;
  /** Who was asked to keep a copy of the replica for newcomers, and of which step's. */
  readonly sharing: { readonly step: Step; readonly peers: readonly PeerId[] } | null;
  /** Since when newcomers wait for somebody who could share the newest weights. */
  readonly sharersAwaitedSinceMs: number | null;
  readonly successor: Successor | null;
  /** Whom the owner wants to lead: it is made the successor, and then given the lead. */
  readonly heir: PeerId | null;
  /** The lead is being given to it: nothing is decided here any more. */
  readonly isHandedOver: boolean;
  /** Who the directory was last asked to name. */
  readonly wishedName: string | null;
  /** Nobody else can have taken the lead before, by this peer's clock. */
  readonly leaseUntilMs: number;
  /** It stood still, and has not renewed its lease since: what it believed of its successor may have ended meanwhile. */
  readonly hasSlept: boolean;
  /** Somebody else may hold an older state, and could go on from it if the directory let it. */
  readonly hasHeirs: boolean;
  /** Who was lost as successor and is perhaps still named. */
  readonly fenced: ReadonlySet<string>;
  readonly assignmentsMade: number;
  readonly updateBytes: number;
  /** Browsers that forwarded what was not announced. */
  readonly badRelays: ReadonlySet<string>;
  readonly lastFanOutMs: number;
  /** Of the last step's gradient, which the successor gets besides. */
  readonly gradientBytes: number;
  readonly lastCallMs: number;
  readonly lastPingMs: number;
  readonly pingNonce: number;
  readonly isPeersTableDirty: boolean;
  readonly lastPeersTableMs: number;
  readonly lastCheckpointMs: number;
  readonly lastCheckpointStep: Step;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
export interface Turn {
  readonly state: Mutable<Omit<CoordinatorState, 'peers'>> & { readonly peers: Map<PeerId, Peer> };
  readonly nowMs: number;
  readonly effects: CoordinatorEffect[];
  /** Something a page shows has changed. */
  isVisible: boolean;
}

/**
 * Starts from a copy of the state. If this machine itself stood still (a laptop asleep, a frozen tab), the others' silence
 * during the gap says nothing about them: what is measured against the clock moves on by the gap.
 */
export function beginTurn(state: CoordinatorState, nowMs: number): Turn {
  const copy = { ...state, peers: new Map(state.peers), lastCallMs: nowMs };
  const gapMs = nowMs - state.lastCallMs;
  if (gapMs > ownSleepMs) copy.hasSlept = true;
  if (gapMs > ownStallMs) {
    for (const [id, peer] of copy.peers) {
      copy.peers.set(id, { ...peer, openedAtMs: peer.openedAtMs + gapMs, heardAtMs: peer.heardAtMs + gapMs });
    }
    if (copy.work !== null) {
      const later = (assignment: Assignment) => ({ ...assignment, deadlineMs: assignment.deadlineMs + gapMs, overdueMs: assignment.overdueMs + gapMs });
      copy.work = { ...copy.work, assignments: mapValues(copy.work.assignments, later) };
    }
  }
  return { state: copy, nowMs, effects: [], isVisible: false };
}

function mapValues<K, V>(map: ReadonlyMap<K, V>, change: (value: V) => V): ReadonlyMap<K, V> {
  return new Map([...map].map(([key, value]) => [key, change(value)]));
}

export function changePeer(turn: Turn, id: PeerId, change: Partial<Peer>): void {
  const peer = turn.state.peers.get(id);
  if (peer !== undefined) turn.state.peers.set(id, { ...peer, ...change });
}

/** The table of peers differs from the one sent last. */
export function touchPeers(turn: Turn): void {
  turn.state.isPeersTableDirty = true;
  turn.isVisible = true;
}

/** Steps that everybody may know of: all that are committed here but one that waits for its announcement. */
export function announcedStep({ step, unannounced }: Pick<CoordinatorState, 'step' | 'unannounced'>): Step {
  return unannounced === null ? step : unannounced.step;
}

export function isGreeted(peer: Peer): boolean {
  return peer.stage === 'member' || peer.stage === 'watcher';
}

export function sendTo(turn: Turn, to: PeerId, message: CoordinatorMessage): void {
  turn.effects.push({ type: 'send', to, message });
}

export function broadcast(turn: Turn, message: CoordinatorMessage): void {
  for (const peer of turn.state.peers.values()) if (isGreeted(peer)) sendTo(turn, peer.id, message);
}

/** Record of whoever works under this id: a member, or the coordinator itself. */
export function workRecord(state: CoordinatorState, id: PeerId): WorkRecord | null {
  return id === state.config.self ? state.own.work : (state.peers.get(id)?.work ?? null);
}

export function changeWorkRecord(turn: Turn, id: PeerId, change: Partial<WorkRecord>): void {
  const { state } = turn;
  if (id === state.config.self) {
    state.own = { ...state.own, work: { ...state.own.work, ...change } };
    return;
  }
  const peer = state.peers.get(id);
  if (peer !== undefined) changePeer(turn, id, { work: { ...peer.work, ...change } });
}
