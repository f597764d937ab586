/**
 * The coordinator's machine: (state, event, nowMs) → (state, effects). It decides who belongs to the room, who computes what,
 * and when a step is done; the session does what the effects say. No timers, sockets, GPU or randomness.
 */
import { announcedStep, beginTurn, broadcast, changeWorkRecord, isGreeted, sendTo, touchPeers } from './coordinator-state.ts';
import type { CoordinatorState, Turn } from './coordinator-state.ts';
import { advanceEvaluation, beginEvaluation, evaluationsWithoutGain, isBest, isEvaluationOwed, partDeclined, partEvaluated } from './evaluation.ts';
import type { PartSums } from './evaluation.ts';
import { hashesKept } from './limits.ts';
import { linkMsAfter } from './link.ts';
import { arrangeFanOut, fanOut, fed, missed, routesOf } from './fan-out.ts';
import type { CoordinatorConfig, CoordinatorEffect, CoordinatorEvent, CoordinatorView, StepMetrics } from './machine.ts';
import type { HistoryPoint, MemberMessage, PeerDevice, PeerId, RoomPhase, Step } from './messages.ts';
import {
  applied,
  heard,
  hello,
  leave,
  peerGone,
  peerOpened,
  presenceChanged,
  ready,
  refetch,
  sendPeersTable,
  receiversOf,
  sendGradient,
  sendUpdate,
  watchConnections,
  waysChanged,
  weightsNotSent,
} from './membership.ts';
import { enactIfSafe, handOverIfReady, kept, ownerCommand } from './owner.ts';
import { paceAfter } from './pace.ts';
import { problems } from './problems.ts';
import { serveReplicas, wanted } from './replica-offers.ts';
import { goneRows, paceRow, peerRows } from './roster.ts';
import { changeAt, stepsOf } from './rules.ts';
import {
  advanceStep,
  beginStep,
  checkDeadlines,
  contribution,
  contributionAdded,
  contributionRejected,
  decline,
  dropStep,
  isWaitingForWorkers,
  ownResult,
  pauseForTrouble,
  withdrawAll,
} from './step-work.ts';
import { chooseSuccessor, isHandingOver, isSafe, isWaitingForDirectory, resigned, successorLost, successorNamed, warm, watchSuccessor } from './succession.ts';
import { newWorkRecord } from './workers.ts';

export type { CoordinatorState } from './coordinator-state.ts';

export interface CoordinatorStep {
  readonly state: CoordinatorState;
  readonly effects: readonly CoordinatorEffect[];
}

export function createCoordinator(config: CoordinatorConfig, nowMs: number): CoordinatorStep {
  const isDone = config.startStep >= stepsOf(config.rules, config.steps);
  const state: CoordinatorState = {
    config,
    phase: isDone ? 'finished' : config.startPaused ? 'paused' : 'running',
    problem: null,
    step: config.startStep,
    hashes: new Map([[config.startStep, { hash: config.startHash, sinceMs: nowMs }]]),
    history: config.history,
    rules: config.rules,
    proposed: null,
    peers: new Map(),
    gone: [],
    own: {
      device: config.selfDevice,
      running: null,
      work: newWorkRecord(config.selfDevice, config.tokensPerMicrobatch, config.startStep, nowMs),
    },
    work: null,
    evaluation: null,
    patientSince: config.startStep,
    unannounced: null,
    committedAtMs: nowMs,
    pace: null,
    linkMs: null,
    sentAs: config.sentAs,
    aloneSteps: 0,
    sharing: null,
    sharersAwaitedSinceMs: null,
    successor: null,
    heir: null,
    isHandedOver: false,
    wishedName: null,
    fenced: new Set(),
    leaseUntilMs: config.leaseUntilMs,
    hasSlept: false,
    hasHeirs: config.hasHeirs,
    assignmentsMade: 0,
    updateBytes: 0,
    badRelays: new Set(),
    lastFanOutMs: nowMs,
    gradientBytes: 0,
    lastCallMs: nowMs,
    lastPingMs: nowMs,
    pingNonce: 0,
    isPeersTableDirty: false,
    lastPeersTableMs: nowMs,
    lastCheckpointMs: nowMs,
    lastCheckpointStep: config.startStep,
  };
  const turn = beginTurn(state, nowMs);
  turn.isVisible = true;
  if (isEvaluationOwed(config)) beginEvaluation(turn, (config.startStep - 1) as Step);
  return settle(turn);
}

export function coordinatorStep(state: CoordinatorState, event: CoordinatorEvent, nowMs: number): CoordinatorStep {
  const turn = beginTurn(state, nowMs);
  handle(turn, event);
  return settle(turn);
}

function handle(turn: Turn, event: CoordinatorEvent): void {
  if (turn.state.isHandedOver) return afterTheEnd(turn, event);
  switch (event.type) {
    case 'tick':
      return;
    case 'peerOpened':
      return peerOpened(turn, event.peer);
    case 'peerClosed':
      return peerGone(turn, event.peer, event.reason);
    case 'message':
      heard(turn, event.from);
      return fromPeer(turn, event.from, event.message);
    case 'blob':
      heard(turn, event.from);
      return contribution(turn, event.from, event.header, event.ref, event.bytes);
    case 'ownResult':
      return ownResult(turn, event);
    case 'contributionAdded':
      return contributionAdded(turn, event.assignment);
    case 'ownerCommand':
      return ownerCommand(turn, event);
    case 'contributionRejected':
      return contributionRejected(turn, event.assignment, event.reason);
    case 'committed':
      return committed(turn, event.step, event.metrics);
    case 'weightsNotSent':
      return weightsNotSent(turn, event.peer, event.reason);
    case 'successorNamed':
      return successorNamed(turn, event.holderHash);
    case 'lease':
      turn.state.leaseUntilMs = event.untilMs;
      if (event.untilMs > turn.nowMs) turn.state.hasSlept = false;
      return;
    case 'notAppointed':
      return successorLost(turn, event.peer);
    case 'ways':
      return waysChanged(turn, event.ways);
    case 'evaluatedOwn':
      if (event.failed) return void partDeclined(turn, turn.state.config.self, event.assignment);
      return evaluated(turn, turn.state.config.self, event);
    case 'sampled':
      return sampled(turn, event.step, event.text);
    case 'command':
      return command(turn, event.command);
    case 'ownDevice':
      return ownDevice(turn, event.device);
  }
}

/** Somebody else decides from now on; but the bytes of a blob must be let go. */
function afterTheEnd(turn: Turn, event: CoordinatorEvent): void {
  if (event.type === 'blob') turn.effects.push({ type: 'discardBlob', ref: event.ref, reason: 'somebody else leads now' });
}

function fromPeer(turn: Turn, from: PeerId, message: MemberMessage): void {
  const peer = turn.state.peers.get(from);
  if (peer === undefined || peer.stage === 'parting' || message.type === 'pong') return;
  if (message.type === 'hello') return hello(turn, from, message);
  if (!isGreeted(peer)) return;
  if (message.type === 'leave') return leave(turn, from);
  if (message.term !== turn.state.config.term) return;
  switch (message.type) {
    case 'ready':
      return ready(turn, from, message.step, message.hash);
    case 'applied':
      return applied(turn, from, message.step, message.hash);
    case 'decline':
      return decline(turn, from, message.assignment, message.code);
    case 'evaluated':
      return evaluated(turn, from, message);
    case 'refetch':
      // What it had besides went with its weights.
      resigned(turn, from);
      return refetch(turn, from);
    case 'presence':
      return presenceChanged(turn, from, message.presence);
    case 'want':
      return wanted(turn, from, message.step, message.piece);
    case 'fed':
      return fed(turn, from, message.from);
    case 'missed':
      return missed(turn, from, message.step, message.why);
    case 'warm':
      return warm(turn, from, message.step);
    case 'unable':
      return resigned(turn, from, message.reason);
    case 'command':
      return command(turn, message.command);
    case 'kept':
      return kept(turn, from, message.revision);
    case 'owner':
      // Comes again as an event of its own, if it is really the owner's.
      return;
  }
}

/** What follows from every event and from time alone. */
function settle(turn: Turn): CoordinatorStep {
  const { state } = turn;
  if (state.isHandedOver) return { state, effects: turn.effects };
  watchConnections(turn);
  watchSuccessor(turn);
  enactIfSafe(turn);
  obeyRules(turn);
  announceIfSafe(turn);
  if (state.phase !== 'stopped') {
    checkDeadlines(turn);
    advanceEvaluation(turn);
    serveReplicas(turn);
    chooseSuccessor(turn);
    arrangeFanOut(turn);
    if (handOverIfReady(turn)) return { state, effects: turn.effects };
    if (state.phase === 'running' && state.work === null && !isHandingOver(state) && !state.rules.isClosed && state.step < stepsOf(state.rules, state.config.steps)) beginStep(turn);
    advanceStep(turn);
  }
  sendPeersTable(turn);
  if (turn.isVisible) turn.effects.push({ type: 'changed' });
  return { state, effects: turn.effects };
}

function committed(turn: Turn, step: Step, metrics: StepMetrics): void {
  const { state, nowMs } = turn;
  const { work, config } = state;
  if (work === null || !work.isCommitting || work.step !== step) return;
  if (!metrics.applied) return pauseForTrouble(turn, problems.stepNotFinite(step));
  const next = (step + 1) as Step;
  state.work = null;
  state.step = next;
  state.updateBytes = metrics.updateBytes;
  state.gradientBytes = metrics.gradientBytes;
  state.hashes = new Map(
    [...state.hashes, [next, { hash: metrics.replicaHash, sinceMs: nowMs }] as const].slice(-hashesKept),
  );
  changeWorkRecord(turn, config.self, { microbatches: work.counted.get(config.self) ?? 0 });
  for (const id of state.peers.keys()) changeWorkRecord(turn, id, { microbatches: work.counted.get(id) ?? 0 });
  state.committedAtMs = nowMs;
  state.linkMs = linkMsAfter(state.linkMs, work.link);
  state.pace = paceAfter(state.pace, work, config.self, nowMs);
  const receivers = receiversOf(state, step);
  const routes = routesOf(state, receivers);
  const point: HistoryPoint = {
    step,
    loss: work.lossSum / work.weightSum,
    gradNorm: metrics.gradNorm,
    lr: metrics.learningRate,
    ms: nowMs - work.beganAtMs,
    tokens: config.microbatchesPerStep * config.tokensPerMicrobatch,
    bytesDown: metrics.updateBytes * (routes.whole.length + routes.forward.length) + metrics.gradientBytes,
    bytesUp: work.bytesUp,
    replicaHash: metrics.replicaHash,
    ...changeAt(state.rules, step),
  };
  fanOut(turn, step, routes);
  if (metrics.gradientBytes > 0) sendGradient(turn, step, work.weightSum, point);
  sendUpdate(turn, step, receivers, routes.whole);
  state.unannounced = point;
  touchPeers(turn);
}

/** Everybody hears of the step, now that it can't be lost. */
function announceIfSafe(turn: Turn): void {
  const { state } = turn;
  const { config, unannounced: point } = state;
  if (point === null || !isSafe(state, turn.nowMs)) return;
  state.unannounced = null;
  state.history = [...state.history, point];
  const isLast = state.step >= stepsOf(state.rules, config.steps);
  const isStopped = state.phase === 'stopped';
  if (isLast && !isStopped) state.phase = 'finished';
  broadcast(turn, { type: 'progress', term: config.term, phase: state.phase, point });
  touchPeers(turn);
  if (config.evalEvery > 0 && (isLast || state.step % config.evalEvery === 0)) beginEvaluation(turn, point.step);
  if (isStopped) {
    checkpoint(turn, 'stopped');
  } else if (isLast) {
    broadcast(turn, { type: 'phase', term: config.term, phase: 'finished', problem: null });
    checkpoint(turn, 'finished');
  } else if (state.phase === 'paused') {
    checkpoint(turn, 'paused');
  } else if (isCheckpointDue(turn)) {
    checkpoint(turn, 'interval');
  }
}

function isCheckpointDue({ state, nowMs }: Turn): boolean {
  const { checkpointEverySteps, checkpointEveryMs } = state.config;
  const isEnoughSteps = checkpointEverySteps > 0 && state.step - state.lastCheckpointStep >= checkpointEverySteps;
  return isEnoughSteps || (checkpointEveryMs > 0 && nowMs - state.lastCheckpointMs >= checkpointEveryMs);
}

function checkpoint(turn: Turn, reason: 'interval' | 'paused' | 'finished' | 'stopped'): void {
  const { state, nowMs } = turn;
  state.lastCheckpointMs = nowMs;
  state.lastCheckpointStep = state.step;
  turn.effects.push({ type: 'checkpoint', step: state.step, reason });
}

function evaluated(turn: Turn, from: PeerId, sums: PartSums): void {
  const { state } = turn;
  const { evaluation } = state;
  const loss = partEvaluated(turn, from, sums);
  if (evaluation === null || loss === null) return;
  const { step } = evaluation;
  const index = state.history.findLastIndex((point) => point.step === step);
  const point = state.history[index];
  if (point === undefined) return;
  state.history = state.history.with(index, { ...point, validationLoss: loss });
  turn.isVisible = true;
  broadcast(turn, { type: 'validation', term: state.config.term, step, loss });
  if (isBest(state.history, step, loss)) turn.effects.push({ type: 'keepBest', step, loss });
  if (state.phase === 'finished') checkpoint(turn, 'finished');
  else stopEarlyIfDue(turn);
}

/** Pauses, so that whoever wants may go on all the same. */
function stopEarlyIfDue(turn: Turn): void {
  const { state } = turn;
  const { patience } = state.config;
  if (patience === 0 || state.phase !== 'running') return;
  const without = evaluationsWithoutGain(state.history, state.patientSince);
  if (without < patience) return;
  const best = Math.min(...state.history.flatMap(({ validationLoss }) => validationLoss ?? []));
  pauseForTrouble(turn, problems.noImprovement(without, best));
  checkpoint(turn, 'paused');
}

/** Watchers have no weights to draw text from. */
function sampled(turn: Turn, step: Step, text: string): void {
  for (const peer of turn.state.peers.values()) {
    if (peer.stage === 'watcher') sendTo(turn, peer.id, { type: 'sample', term: turn.state.config.term, step, text });
  }
}

function command(turn: Turn, wish: 'pause' | 'resume' | 'stop'): void {
  const { state } = turn;
  if (wish === 'pause' && state.phase === 'running') {
    enterPhase(turn, 'paused');
    // A step on its way is finished first, and saved then; one that nobody works on is not waited for.
    const { work } = state;
    const isComputing = work !== null && (work.isCommitting || work.assignments.size > 0 || work.counted.size > 0);
    const isUnderWay = isComputing || state.unannounced !== null;
    if (!isUnderWay && state.step !== state.lastCheckpointStep) checkpoint(turn, 'paused');
  } else if (wish === 'resume' && state.phase === 'paused') {
    state.patientSince = state.step;
    enterPhase(turn, 'running');
  } else if (wish === 'stop' && state.phase !== 'stopped') {
    const isCommitting = state.work?.isCommitting ?? false;
    if (!isCommitting) dropStep(turn);
    enterPhase(turn, 'stopped');
    if (!isCommitting && state.unannounced === null) checkpoint(turn, 'stopped');
  }
}

/** The owner may have closed the room, lengthened a finished run, or let one end here. */
function obeyRules(turn: Turn): void {
  const { state } = turn;
  const { rules, config, phase } = state;
  if (phase === 'stopped') return;
  if (rules.isClosed) {
    // What is committed is announced and saved first: it could be lost with this page.
    if (state.work?.isCommitting !== true) dropStep(turn);
    if (state.work !== null || state.unannounced !== null) return;
    command(turn, 'stop');
    turn.effects.push({ type: 'closeRoom' });
    return;
  }
  const steps = stepsOf(rules, config.steps);
  if (phase === 'finished') {
    if (state.step < steps) enterPhase(turn, 'running');
    return;
  }
  if (state.step < steps) return;
  dropStep(turn);
  if (state.unannounced !== null) return;
  enterPhase(turn, 'finished');
  checkpoint(turn, 'finished');
}

function enterPhase(turn: Turn, phase: RoomPhase): void {
  const { state } = turn;
  state.phase = phase;
  state.problem = null;
  broadcast(turn, { type: 'phase', term: state.config.term, phase, problem: null });
  turn.isVisible = true;
}

/** The own GPU is lost: its work goes to others and this peer coordinates only. It is back: it works again. */
function ownDevice(turn: Turn, device: PeerDevice): void {
  const { state } = turn;
  if (device.problem !== null) {
    withdrawAll(turn, state.config.self, 'gone');
    state.own = { ...state.own, device, running: null };
  } else {
    const { tokensPerMicrobatch } = state.config;
    const work = { ...newWorkRecord(device, tokensPerMicrobatch, state.step, turn.nowMs), microbatches: state.own.work.microbatches };
    state.own = { ...state.own, device, work: state.own.device.problem === null ? state.own.work : work };
  }
  touchPeers(turn);
}

export function coordinatorView(state: CoordinatorState): CoordinatorView {
  const { config } = state;
  return {
    self: config.self,
    role: 'coordinator',
    term: config.term,
    step: announcedStep(state),
    steps: stepsOf(state.rules, config.steps),
    phase: state.phase,
    startedAtMs: config.startedAtMs,
    history: state.history,
    rules: state.rules,
    areRulesInForce: true,
    peers: peerRows(state),
    gone: goneRows(state),
    pace: paceRow(state),
    sentAs: state.sentAs,
    problem: state.problem,
    isWaitingForWorkers: isWaitingForWorkers(state),
    isWaitingForDirectory: isWaitingForDirectory(state, state.lastCallMs),
  };
}
