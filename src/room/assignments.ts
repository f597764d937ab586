/** Giving an assignment to a worker, and taking it away. What for is `step-work.ts`'s and `repetition.ts`'s to say. */
import { changeWorkRecord, sendTo, touchPeers } from './coordinator-state.ts';
import type { Assignment, Turn } from './coordinator-state.ts';
import { deadlineFactor, deadlineSlackMs, deadlineStepFactor, firstDeadlineSlackMs, overdueFactor, overdueSlackMs } from './limits.ts';
import type { PeerId } from './messages.ts';
import { chooseCodec } from './sent-as.ts';
import { idealStepMs } from './sharing.ts';
import type { Worker } from './sharing.ts';
import { expectedMs } from './speed.ts';

interface Terms {
  /** The open assignment of somebody else whose work this is, or a part of it. */
  readonly repeats?: string;
  /** So long the step is to take. */
  readonly plannedMs?: number;
}

export function assign(turn: Turn, workers: readonly Worker[], id: PeerId, microbatches: readonly number[], { repeats, plannedMs = Infinity }: Terms = {}): void {
  const { state, nowMs } = turn;
  const { work, config, rules } = state;
  const worker = workers.find((candidate) => candidate.id === id);
  if (work === null || worker === undefined) return;
  const open = [...work.assignments.values()].filter((other) => other.worker === id && other.phase === 'open');
  const evaluating = [...(state.evaluation?.open.values() ?? [])].filter((part) => part.worker === id);
  const outstanding = [...open, ...evaluating].reduce((sum, other) => sum + other.microbatches.length, microbatches.length);
  const longestMs = deadlineStepFactor * idealStepMs(config.microbatchesPerStep, workers);
  const neededMs = worker.wayMs + expectedMs(worker.perSecond, outstanding);
  const allowedMs = Math.min(deadlineFactor * neededMs, Math.max(longestMs, overdueFactor * worker.wayMs, deadlineSlackMs));
  const assignment: Assignment = {
    id: `${config.term}.${work.step}.${state.assignmentsMade}`,
    worker: id,
    microbatches,
    repeats: repeats ?? null,
    sentAtMs: nowMs,
    overdueMs: nowMs + overdueFactor * Math.min(neededMs, plannedMs) + (worker.isNew ? firstDeadlineSlackMs : overdueSlackMs),
    deadlineMs: nowMs + allowedMs + (worker.isNew ? firstDeadlineSlackMs : deadlineSlackMs),
    phase: 'open',
    lossSum: 0,
    weightSum: 0,
  };
  state.assignmentsMade += 1;
  const given = new Set(microbatches);
  state.work = {
    ...work,
    pool: work.pool.filter((index) => !given.has(index)),
    assignments: new Map(work.assignments).set(assignment.id, assignment),
  };
  changeWorkRecord(turn, id, { lastWorkStep: work.step, ...(open.length === 0 && { busySinceMs: nowMs }) });
  touchPeers(turn);
  if (id === config.self) return;
  const codec = chooseCodec(turn);
  turn.effects.push({
    type: 'assign',
    to: id,
    header: { kind: 'assignment', term: config.term, step: work.step, assignment: assignment.id, microbatches: [...microbatches], ...(config.hasLocalSteps && rules.changes.length > 0 && { changes: [...rules.changes] }), ...(codec !== null && { codec }) },
  });
}

export function openAssignment(turn: Turn, id: string, worker: PeerId): Assignment | null {
  const assignment = turn.state.work?.assignments.get(id);
  return assignment !== undefined && assignment.phase === 'open' && assignment.worker === worker ? assignment : null;
}

/** What its worker still sends finds nobody waiting. */
export function cancel(turn: Turn, assignment: Assignment): void {
  const { config, own, peers } = turn.state;
  const { id, worker } = assignment;
  if (peers.has(worker)) return sendTo(turn, worker, { type: 'cancel', term: config.term, assignment: id });
  if (own.running === id) turn.effects.push({ type: 'cancelOwn', assignment: id });
}
