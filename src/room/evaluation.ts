/**
 * The validation loss, computed by the peers as gradients are: micro-batches of the held-out part are handed out to whoever holds the
 * weights, and their sums added. Until all are in no further step is committed, so everybody evaluates the same weights; the next
 * step's gradients are computed meanwhile. What an answer means for the run is `coordinator.ts`'s to say.
 */
import { changeWorkRecord, sendTo } from './coordinator-state.ts';
import type { CoordinatorState, Evaluation, EvaluationPart, Turn } from './coordinator-state.ts';
import { deadlineFactor, firstDeadlineSlackMs, weightTolerance } from './limits.ts';
import type { HistoryPoint, PeerId, Step } from './messages.ts';
import { shareOfRest } from './sharing.ts';
import { expectedMs } from './speed.ts';
import { possibleWorkers, readyWorkers } from './workers.ts';

export interface PartSums {
  readonly assignment: string;
  readonly lossSum: number;
  readonly weightSum: number;
}

/** Of the weights after the update of `step`, which are those of everybody now. */
export function beginEvaluation(turn: Turn, step: Step): void {
  const { state } = turn;
  const count = state.config.validationWeights.length;
  if (count === 0) return;
  state.evaluation = { step, pool: Array.from({ length: count }, (_, index) => index), open: new Map(), tried: new Map(), counted: 0, lossSum: 0, weightSum: 0 };
}

/** Whether the weights after the last committed step are due to be evaluated and were not: the reign before may have ended meanwhile. */
export function isEvaluationOwed({ evalEvery, startStep, steps, history }: CoordinatorState['config']): boolean {
  const last = history.at(-1);
  if (evalEvery === 0 || last === undefined || last.step + 1 !== startStep || last.validationLoss !== undefined) return false;
  return startStep % evalEvery === 0 || startStep >= steps;
}

/** Takes back what is late, and gives out what nobody has; gives up where nobody is left who has not tried. */
export function advanceEvaluation(turn: Turn): void {
  const { state, nowMs } = turn;
  for (const part of state.evaluation?.open.values() ?? []) if (nowMs > part.deadlineMs) withdrawPart(turn, part);
  const { evaluation } = state;
  if (evaluation === null || evaluation.pool.length === 0) return;
  const hasTried = (id: PeerId, index: number): boolean => evaluation.tried.get(index)?.has(id) ?? false;
  if (evaluation.pool.some((index) => possibleWorkers(state).length > 0 && possibleWorkers(state).every((id) => hasTried(id, index)))) {
    for (const part of evaluation.open.values()) cancelPart(turn, part);
    state.evaluation = null;
    return;
  }
  const workers = readyWorkers(turn).filter(({ id }) => !evaluation.pool.some((index) => hasTried(id, index)));
  // One part each: what was computed at once by a device is one answer.
  const idle = workers.filter(({ id }) => ![...evaluation.open.values()].some(({ worker }) => worker === id));
  let next = 0;
  for (const [id, count] of shareOfRest(evaluation.pool.length, idle)) {
    const worker = idle.find((each) => each.id === id);
    if (count > 0 && worker !== undefined) give(turn, id, worker.perSecond, evaluation.pool.slice(next, next + count));
    next += count;
  }
}

function give(turn: Turn, worker: PeerId, perSecond: number, microbatches: readonly number[]): void {
  const { state, nowMs } = turn;
  const { evaluation, config } = state;
  if (evaluation === null) return;
  const assignment = `${config.term}.${evaluation.step}.${state.assignmentsMade}`;
  state.assignmentsMade += 1;
  // The first one of a device compiles what it needs; it may have gradients to finish before.
  const deadlineMs = nowMs + deadlineFactor * expectedMs(perSecond, microbatches.length + config.microbatchesPerStep) + firstDeadlineSlackMs;
  const given = new Set(microbatches);
  state.evaluation = {
    ...evaluation,
    pool: evaluation.pool.filter((index) => !given.has(index)),
    open: new Map(evaluation.open).set(assignment, { assignment, worker, microbatches, deadlineMs }),
  };
  if (worker === config.self) turn.effects.push({ type: 'evaluateOwn', assignment, microbatches });
  else {
    turn.effects.push({
      type: 'assignEvaluation',
      to: worker,
      header: { kind: 'evaluation', term: config.term, step: state.step, assignment, microbatches: [...microbatches] },
    });
  }
}

/** An answer of whoever it came from. The loss, once every micro-batch is counted; null before, and for answers that nobody waits for. */
export function partEvaluated(turn: Turn, from: PeerId, { assignment, lossSum, weightSum }: PartSums): number | null {
  const { state } = turn;
  const part = openPart(state, from, assignment);
  if (part === null || state.evaluation === null) return null;
  const { validationWeights } = state.config;
  const known = part.microbatches.reduce((sum, index) => sum + (validationWeights[index] ?? 0), 0);
  const isWrong = !Number.isFinite(lossSum) || lossSum < 0 || Math.abs(weightSum - known) > weightTolerance * Math.max(known, 1);
  if (isWrong) {
    withdrawPart(turn, part);
    return null;
  }
  // Gradients that were asked for meanwhile were begun only now.
  changeWorkRecord(turn, from, { busySinceMs: turn.nowMs });
  const { evaluation } = state;
  const open = new Map(evaluation.open);
  open.delete(assignment);
  const sums = { counted: evaluation.counted + part.microbatches.length, lossSum: evaluation.lossSum + lossSum, weightSum: evaluation.weightSum + weightSum };
  const isWhole = sums.counted === validationWeights.length;
  state.evaluation = isWhole ? null : { ...evaluation, ...sums, open };
  return isWhole && sums.weightSum > 0 ? sums.lossSum / sums.weightSum : null;
}

/** It can't do this one. False: it is no part of an evaluation. */
export function partDeclined(turn: Turn, from: PeerId, assignment: string): boolean {
  const part = openPart(turn.state, from, assignment);
  if (part !== null) withdrawPart(turn, part);
  return part !== null;
}

export function withdrawEvaluation(turn: Turn, worker: PeerId): void {
  for (const part of turn.state.evaluation?.open.values() ?? []) if (part.worker === worker) withdrawPart(turn, part);
}

/** Evaluations in a row, up to the newest, without a loss below the best before; only those from `since` on count. */
export function evaluationsWithoutGain(history: readonly HistoryPoint[], since: Step): number {
  let best = Infinity;
  let without = 0;
  for (const { step, validationLoss } of history) {
    if (validationLoss === undefined) continue;
    if (validationLoss < best) {
      best = validationLoss;
      without = 0;
    } else if (step >= since) without += 1;
  }
  return without;
}

/** Whether no evaluation before that of `step` came to less. */
export function isBest(history: readonly HistoryPoint[], step: Step, loss: number): boolean {
  return history.every((point) => point.step === step || point.validationLoss === undefined || point.validationLoss > loss);
}

function openPart({ evaluation }: Pick<CoordinatorState, 'evaluation'>, worker: PeerId, assignment: string): EvaluationPart | null {
  const part = evaluation?.open.get(assignment);
  return part?.worker === worker ? part : null;
}

function withdrawPart(turn: Turn, part: EvaluationPart): void {
  const { state } = turn;
  const { evaluation } = state;
  if (evaluation === null) return;
  const open = new Map(evaluation.open);
  open.delete(part.assignment);
  const tried: Map<number, ReadonlySet<PeerId>> = new Map(evaluation.tried);
  for (const index of part.microbatches) tried.set(index, new Set(tried.get(index)).add(part.worker));
  state.evaluation = { ...evaluation, open, tried, pool: [...evaluation.pool, ...part.microbatches] } satisfies Evaluation;
  cancelPart(turn, part);
}

/** The own device's answer is not waited for. */
function cancelPart(turn: Turn, { worker, assignment }: EvaluationPart): void {
  if (turn.state.peers.has(worker)) sendTo(turn, worker, { type: 'cancel', term: turn.state.config.term, assignment });
}
