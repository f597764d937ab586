/**
 * One step's micro-batches from the first assignment to the commit: handed out, counted exactly once, taken back from
 * whoever is late, gone or wrong. Membership is `membership.ts`; what follows a commit is `coordinator.ts`.
 */
import { assign, cancel, openAssignment } from './assignments.ts';
import { broadcast, changePeer, changeWorkRecord, touchPeers, workRecord } from './coordinator-state.ts';
import type { Assignment, CoordinatorState, Peer, StepWork, Turn } from './coordinator-state.ts';
import { partDeclined, withdrawEvaluation } from './evaluation.ts';
import { chooseCodec } from './sent-as.ts';
import { maxStrikes, weightTolerance } from './limits.ts';
import { unused, usedBy } from './link.ts';
import type { BlobRef, RoomProblem } from './machine.ts';
import type { MemberBlob, PeerId, Step } from './messages.ts';
import { answeredBy, noTimes, withWay } from './pace.ts';
import { problems } from './problems.ts';
import { giveUpRepetition, repeatOverdue, settleRace } from './repetition.ts';
import { shareOfRest, shareOfStep } from './sharing.ts';
import { believedComputeMs, decayedSpeed, observedMs, observedSpeed } from './speed.ts';
import { isFollowed, successorLost } from './succession.ts';
import { heldOff, possibleWorkers, readyWorkers } from './workers.ts';

/**
 * Why work is taken back, which decides what is held against the worker: nothing when it is `gone` or `returned` its work on
 * leaving, a pause when it was `late` or `failed`, and never this micro-batch again when it was `spoiled`.
 */
type Withdrawal = 'late' | 'gone' | 'returned' | 'failed' | 'spoiled';

export function beginStep(turn: Turn): void {
  const { state, nowMs } = turn;
  const count = state.config.microbatchesPerStep;
  state.aloneSteps = [...state.peers.values()].some(({ stage }) => stage === 'member') ? 0 : state.aloneSteps + 1;
  chooseCodec(turn);
  state.work = {
    step: state.step,
    beganAtMs: nowMs,
    pool: Array.from({ length: count }, (_, index) => index),
    assignments: new Map(),
    counted: new Map(),
    missing: count,
    lossSum: 0,
    weightSum: 0,
    bytesUp: 0,
    spoiled: [],
    isCommitting: false,
    times: noTimes,
    link: unused,
  };
  turn.effects.push({ type: 'beginStep', step: state.step });
}

/** Gives the pool to workers, starts the own device on what is its, and commits when everything is counted. */
export function advanceStep(turn: Turn): void {
  const { work } = turn.state;
  if (work === null || work.isCommitting) return;
  distribute(turn);
  repeatOverdue(turn);
  startOwn(turn);
  // Never two steps at once that could be lost with this peer, and none before it is certain what holds for it.
  const { unannounced, evaluation } = turn.state;
  if (turn.state.work?.missing === 0 && unannounced === null && evaluation === null && !isChangeProposed(turn.state, work.step)) commit(turn, turn.state.work);
}

/** Gives up the running step: nothing of it will count. */
export function dropStep(turn: Turn): void {
  const { work } = turn.state;
  if (work === null) return;
  for (const assignment of work.assignments.values()) if (assignment.phase === 'open') cancel(turn, assignment);
  turn.state.work = null;
}

function isUntouched(work: StepWork): boolean {
  return work.assignments.size === 0 && work.counted.size === 0;
}

function distribute(turn: Turn): void {
  const { state } = turn;
  const work = state.work;
  if (work === null || work.pool.length === 0) return;
  if (state.phase !== 'running' && isUntouched(work)) return;
  const workers = readyWorkers(turn);
  const tried = triedBy(work);
  const whole = work.pool.filter((microbatch) => !tried.has(microbatch));
  if (workers.length > 0 && whole.length > 0) {
    const isWholeStep = isUntouched(work) && whole.length === state.config.microbatchesPerStep;
    const { shares, ms } = isWholeStep ? shareOfStep(whole.length, workers, state.step, state.linkMs ?? 0) : { shares: shareOfRest(whole.length, workers), ms: Infinity };
    let next = 0;
    for (const [worker, count] of shares) {
      if (count > 0) assign(turn, workers, worker, whole.slice(next, next + count), { plannedMs: ms });
      next += count;
    }
  }
  // What somebody could not compute goes to one that has not tried, to the own device first: it is the one we trust.
  for (const [names, microbatches] of groupedBy(work.pool, (microbatch) => [...(tried.get(microbatch) ?? [])].sort().join(' '))) {
    const by = tried.get(microbatches[0] ?? -1);
    if (names === '' || by === undefined) continue;
    if (!possibleWorkers(state).some((id) => !by.has(id))) return pauseForTrouble(turn, problems.resultsNotFinite);
    const fresh = workers.filter((worker) => !by.has(worker.id));
    const own = fresh.find((worker) => worker.id === state.config.self);
    const chosen = own?.id ?? [...shareOfRest(1, fresh).keys()][0];
    if (chosen !== undefined) assign(turn, workers, chosen, microbatches);
  }
}

/** Of each micro-batch that somebody came back with unusable numbers of, who did. */
function triedBy({ spoiled }: StepWork): ReadonlyMap<number, ReadonlySet<PeerId>> {
  const tried = new Map<number, Set<PeerId>>();
  for (const { microbatch, worker } of spoiled) tried.set(microbatch, (tried.get(microbatch) ?? new Set<PeerId>()).add(worker));
  return tried;
}

function groupedBy<T>(all: readonly T[], nameOf: (each: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const each of all) {
    const group = groups.get(nameOf(each));
    if (group === undefined) groups.set(nameOf(each), [each]);
    else group.push(each);
  }
  return groups;
}

/** Pauses the room with the step undone. Numbers that nobody can compute are the run's fault, not the peers'. */
export function pauseForTrouble(turn: Turn, problem: RoomProblem): void {
  const { state } = turn;
  for (const worker of new Set(state.work?.spoiled.map((entry) => entry.worker))) {
    const peer = state.peers.get(worker);
    if (peer !== undefined) changePeer(turn, worker, { strikes: Math.max(0, peer.strikes - 1) });
  }
  dropStep(turn);
  state.phase = 'paused';
  state.problem = problem;
  broadcast(turn, { type: 'phase', term: state.config.term, phase: 'paused', problem });
  turn.effects.push({ type: 'problem', problem });
  touchPeers(turn);
}

/** The own device does one assignment at a time: a second one would overwrite the first one's sums. */
function startOwn(turn: Turn): void {
  const { state } = turn;
  if (state.own.running !== null || state.work === null) return;
  for (const assignment of state.work.assignments.values()) {
    if (assignment.worker !== state.config.self || assignment.phase !== 'open') continue;
    state.own = { ...state.own, running: assignment.id };
    const { id, microbatches } = assignment;
    turn.effects.push({ type: 'computeOwn', assignment: id, step: state.work.step, microbatches: [...microbatches], changes: state.rules.changes });
    return;
  }
}

export function ownResult(
  turn: Turn,
  result: { readonly assignment: string; readonly lossSum: number; readonly weightSum: number; readonly computeMs: number; readonly failed: boolean },
): void {
  const { state } = turn;
  if (state.own.running === result.assignment) state.own = { ...state.own, running: null };
  const assignment = openAssignment(turn, result.assignment, state.config.self);
  if (assignment === null) return;
  if (result.failed) return withdraw(turn, assignment.id, 'failed');
  answered(turn, assignment, result, 0);
  turn.effects.push({ type: 'addOwn', assignment: assignment.id, step: (state.work as StepWork).step });
}

export function contribution(turn: Turn, from: PeerId, header: MemberBlob, ref: BlobRef, bytes: number): void {
  const { state } = turn;
  const discard = (reason: string) => void turn.effects.push({ type: 'discardBlob', ref, reason });
  if (header.term !== state.config.term) return discard('of another term');
  const assignment = openAssignment(turn, header.assignment, from);
  if (assignment === null || header.step !== state.work?.step) return discard('nobody waits for it');
  const wrong = wrongAccounts(turn, assignment, header);
  if (wrong !== null) {
    discard(wrong);
    return refuse(turn, assignment, wrong);
  }
  answered(turn, assignment, header, bytes);
  turn.effects.push({ type: 'addBlob', assignment: assignment.id, step: header.step, ref });
}

/** What can be checked without the GPU: the loss weights are known beforehand, and a cross-entropy is never negative. */
function wrongAccounts(turn: Turn, assignment: Assignment, header: MemberBlob): string | null {
  const { weightOfMicrobatch } = turn.state.config;
  const known = assignment.microbatches.reduce((sum, index) => sum + weightOfMicrobatch(header.step, index), 0);
  if (Math.abs(header.weightSum - known) > weightTolerance * Math.max(known, 1)) return 'the loss weights are not those of the work';
  return header.lossSum < 0 ? 'the loss is negative' : null;
}

function answered(turn: Turn, assignment: Assignment, sums: { lossSum: number; weightSum: number; computeMs: number }, bytes: number): void {
  const { state, nowMs } = turn;
  const before = [...(state.work?.assignments.values() ?? [])];
  settleRace(turn, assignment);
  const work = state.work as StepWork;
  const isMember = (worker: PeerId): boolean => worker !== state.config.self;
  const late = before.filter(({ id, worker, phase }) => phase === 'open' && isMember(worker) && id !== assignment.id && !work.assignments.has(id));
  let { link } = work;
  const record = workRecord(state, assignment.worker);
  const sinceMs = Math.max(assignment.sentAtMs, record?.busySinceMs ?? 0);
  let times = answeredBy(work.times, assignment.worker, sums.computeMs, nowMs);
  if (isMember(assignment.worker)) times = withWay(times, sinceMs, sums.computeMs, nowMs);
  for (const { sentAtMs } of late) times = withWay(times, sentAtMs, 0, nowMs);
  if (record !== null) {
    const elapsedMs = nowMs - sinceMs;
    const computeMs = isMember(assignment.worker) ? believedComputeMs(sums.computeMs, elapsedMs) : elapsedMs;
    const beganMs = Math.max(sinceMs, state.peers.get(assignment.worker)?.currentSinceMs ?? sinceMs);
    if (isMember(assignment.worker)) link = usedBy(link, beganMs + computeMs, nowMs);
    const { isMeasured } = record.speed;
    changeWorkRecord(turn, assignment.worker, {
      speed: observedSpeed(record.speed, assignment.microbatches.length, computeMs),
      wayMs: observedMs(record.wayMs, elapsedMs - computeMs, !isMeasured),
      busySinceMs: nowMs,
    });
  }
  const { lossSum, weightSum } = sums;
  const adding: Assignment = { ...assignment, repeats: null, phase: 'adding', lossSum, weightSum };
  state.work = {
    ...work,
    bytesUp: work.bytesUp + bytes,
    times,
    link,
    assignments: new Map(work.assignments).set(assignment.id, adding),
  };
  touchPeers(turn);
}

export function contributionAdded(turn: Turn, id: string): void {
  const { state, nowMs } = turn;
  const { work } = state;
  const assignment = work?.assignments.get(id);
  if (work === null || assignment?.phase !== 'adding') return;
  const assignments = new Map(work.assignments);
  assignments.delete(id);
  const count = assignment.microbatches.length;
  const isWhole = work.missing === count;
  state.work = {
    ...work,
    assignments,
    times: isWhole ? { ...work.times, wholeMs: nowMs } : work.times,
    counted: new Map(work.counted).set(assignment.worker, (work.counted.get(assignment.worker) ?? 0) + count),
    missing: work.missing - count,
    lossSum: work.lossSum + assignment.lossSum,
    weightSum: work.weightSum + assignment.weightSum,
  };
  changeWorkRecord(turn, assignment.worker, { failures: 0 });
}

export function contributionRejected(turn: Turn, id: string, reason: string): void {
  const assignment = turn.state.work?.assignments.get(id);
  if (assignment?.phase === 'adding') refuse(turn, assignment, reason);
}

function refuse(turn: Turn, assignment: Assignment, reason: string): void {
  const { state } = turn;
  const spoiledBefore = state.work?.spoiled.some((entry) => entry.worker === assignment.worker) ?? false;
  withdraw(turn, assignment.id, 'spoiled');
  // One strike a step: when the run itself has gone wrong, everybody's numbers are refused.
  if (spoiledBefore) return;
  const note = `Its results were refused twice (${reason}), so it only watches.`;
  const peer = state.peers.get(assignment.worker);
  if (peer === undefined) return;
  changePeer(turn, peer.id, { strikes: peer.strikes + 1 });
  if (peer.strikes + 1 >= maxStrikes && peer.stage === 'member') makeWatcher(turn, peer.id, note);
}

/** Its numbers can't be used: from now on it only looks on, and everybody sees why. */
export function makeWatcher(turn: Turn, id: PeerId, note: string): void {
  withdrawAll(turn, id, 'gone');
  successorLost(turn, id);
  changePeer(turn, id, { stage: 'watcher', note, holding: null, wantsReplica: false });
  touchPeers(turn);
}

export function decline(turn: Turn, from: PeerId, id: string, code: string): void {
  if (partDeclined(turn, from, id)) return;
  if (openAssignment(turn, id, from) === null) return;
  // Whoever rests has said so before; from anybody else it would come back again and again.
  const isResting = code === 'resting' && turn.state.peers.get(from)?.presence.rest !== null;
  withdraw(turn, id, code === 'leaving' || isResting ? 'returned' : code === 'non-finite' ? 'spoiled' : 'failed');
}

export function withdrawAll(turn: Turn, worker: PeerId, why: Withdrawal): void {
  for (const assignment of turn.state.work?.assignments.values() ?? []) {
    if (assignment.worker === worker && assignment.phase === 'open') withdraw(turn, assignment.id, why);
  }
  withdrawEvaluation(turn, worker);
}

/** Takes an assignment back: its micro-batches go to the pool, and what its worker still sends finds nobody waiting. */
export function withdraw(turn: Turn, id: string, why: Withdrawal): void {
  const { state, nowMs } = turn;
  const { work } = state;
  const assignment = work?.assignments.get(id);
  if (work === null || assignment === undefined) return;
  const { worker, microbatches } = assignment;
  const spoiled = why === 'spoiled' ? microbatches.map((microbatch) => ({ microbatch, worker })) : [];
  const assignments = new Map(work.assignments);
  assignments.delete(id);
  state.work = { ...work, assignments, spoiled: [...work.spoiled, ...spoiled] };
  if (!giveUpRepetition(turn, assignment)) state.work = { ...state.work, pool: [...work.pool, ...microbatches] };
  touchPeers(turn);
  if (why === 'late' || why === 'gone') cancel(turn, assignment);
  const record = workRecord(state, worker);
  if (record === null || (why !== 'late' && why !== 'failed')) return;
  const elapsedMs = nowMs - Math.max(assignment.sentAtMs, record.busySinceMs);
  const speed = why === 'late' ? decayedSpeed(record.speed, microbatches.length, elapsedMs) : record.speed;
  changeWorkRecord(turn, worker, { ...heldOff(record, nowMs), speed });
  if (why !== 'late') return;
  changePeer(turn, worker, { lateStep: work.step });
  // Steps would wait for its confirmation next.
  successorLost(turn, worker);
}

/** Deadlines hold for others. The own device has none: if it is stuck, `ownDevice` says so. */
export function checkDeadlines(turn: Turn): void {
  const { state, nowMs } = turn;
  for (const assignment of state.work?.assignments.values() ?? []) {
    if (assignment.phase === 'open' && assignment.worker !== state.config.self && nowMs > assignment.deadlineMs) {
      withdraw(turn, assignment.id, 'late');
    }
  }
}

/** Micro-batches wait, and nobody works on any. */
export function isWaitingForWorkers({ phase, work, ...state }: CoordinatorState): boolean {
  if (phase !== 'running' || work === null || work.pool.length === 0) return false;
  return state.own.device.problem !== null && work.assignments.size === 0;
}

/** The owner wants another schedule from this step on, or from one before it. */
function isChangeProposed({ rules, proposed }: CoordinatorState, step: Step): boolean {
  if (proposed === null || proposed.changes === rules.changes) return false;
  return (proposed.changes.at(-1)?.step ?? Infinity) <= step;
}

function commit(turn: Turn, work: StepWork): void {
  const { state, nowMs } = turn;
  if (!Number.isFinite(work.lossSum)) return pauseForTrouble(turn, problems.stepNotFinite(work.step));
  if (work.weightSum <= 0) return pauseForTrouble(turn, problems.nothingScored(work.step));
  state.work = { ...work, isCommitting: true, times: { ...work.times, commitMs: nowMs } };
  const encodeUpdate = [...state.peers.values()].some((peer) => holdsStep(peer, work.step));
  const encodeGradient = isFollowed(state, work.step);
  const { step, lossSum, weightSum } = work;
  turn.effects.push({ type: 'commit', step, lossSum, weightSum, encodeUpdate, encodeGradient, changes: state.rules.changes, codec: chooseCodec(turn) });
}

/** Everything up to this step was sent to it, so the next update is what it needs next. */
export function holdsStep({ stage, holding }: Peer, step: Step): boolean {
  return stage === 'member' && holding !== null && !holding.isStalled && holding.sent === step;
}
