/**
 * Near a step's end idle workers repeat what somebody is overdue with, so that the slowest does not keep everybody waiting. It is
 * a race between the original assignment and all its repetitions together: with the first answer one side has lost and is
 * cancelled, so that no micro-batch is counted twice.
 */
import { assign, cancel } from './assignments.ts';
import { changeWorkRecord, touchPeers, workRecord } from './coordinator-state.ts';
import type { Assignment, Turn } from './coordinator-state.ts';
import { shareOfRest } from './sharing.ts';
import { expectedMs, observedSpeed } from './speed.ts';
import { readyWorkers } from './workers.ts';

/** Gives overdue work to idle workers too, once there is nothing else to give. */
export function repeatOverdue(turn: Turn): void {
  const { state, nowMs } = turn;
  const { work } = state;
  if (work === null || work.pool.length > 0) return;
  for (const original of work.assignments.values()) {
    if (original.phase !== 'open' || original.repeats !== null || nowMs < original.overdueMs) continue;
    if (repetitionsOf(turn, original.id).length > 0) continue;
    const hasSpoiled = new Set(work.spoiled.filter(({ microbatch }) => original.microbatches.includes(microbatch)).map(({ worker }) => worker));
    const isIdle = (id: string, outstanding: number) => outstanding === 0 && !(id === state.config.self && state.own.running !== null);
    const idle = readyWorkers(turn).filter(({ id, outstanding }) => isIdle(id, outstanding) && !hasSpoiled.has(id));
    if (idle.length === 0) return;
    let next = 0;
    for (const [worker, count] of shareOfRest(original.microbatches.length, idle)) {
      if (count > 0) assign(turn, idle, worker, original.microbatches.slice(next, next + count), { repeats: original.id });
      next += count;
    }
  }
}

/** One side of a race has answered: the other has lost. */
export function settleRace(turn: Turn, winner: Assignment): void {
  if (winner.repeats === null) {
    for (const repetition of repetitionsOf(turn, winner.id)) drop(turn, repetition);
    return;
  }
  const original = turn.state.work?.assignments.get(winner.repeats);
  release(turn, winner.repeats);
  if (original === undefined) return;
  drop(turn, original);
  const record = workRecord(turn.state, original.worker);
  if (record === null) return;
  // It is at most as fast as if it had answered now.
  const elapsedMs = turn.nowMs - Math.max(original.sentAtMs, record.busySinceMs);
  const { length } = original.microbatches;
  // That is its computing's fault or its way's: whichever was known to be long has become longer.
  if (record.wayMs > expectedMs(record.speed.perSecond, length)) changeWorkRecord(turn, original.worker, { wayMs: Math.max(record.wayMs, elapsedMs - expectedMs(record.speed.perSecond, length)) });
  else changeWorkRecord(turn, original.worker, { speed: observedSpeed(record.speed, length, elapsedMs) });
}

/**
 * This assignment was taken back. False: its micro-batches are nobody's now. True: somebody still has them; a repetition
 * goes on as an assignment of its own, or ends with the others where it can't win without this one.
 */
export function giveUpRepetition(turn: Turn, lost: Assignment): boolean {
  if (lost.repeats !== null) {
    for (const other of repetitionsOf(turn, lost.repeats)) drop(turn, other);
    return true;
  }
  if (repetitionsOf(turn, lost.id).length === 0) return false;
  release(turn, lost.id);
  return true;
}

function repetitionsOf(turn: Turn, original: string): readonly Assignment[] {
  return [...(turn.state.work?.assignments.values() ?? [])].filter(({ repeats }) => repeats === original);
}

/** Its repetitions are assignments like any others from now on. */
function release(turn: Turn, original: string): void {
  const { work } = turn.state;
  if (work === null) return;
  const assignments = new Map([...work.assignments].map(([id, each]) => [id, each.repeats === original ? { ...each, repeats: null } : each]));
  turn.state.work = { ...work, assignments };
}

function drop(turn: Turn, assignment: Assignment): void {
  const { work } = turn.state;
  if (work === null) return;
  const assignments = new Map(work.assignments);
  assignments.delete(assignment.id);
  turn.state.work = { ...work, assignments };
  cancel(turn, assignment);
  touchPeers(turn);
}
