/** Drives one machine by hand, for tests of single rules: events in, effects out, time as told. */
import { coordinatorStep, coordinatorView, createCoordinator } from '../../src/room/coordinator.ts';
import type { CoordinatorState } from '../../src/room/coordinator.ts';
import { createMember, memberStep, memberView } from '../../src/room/member.ts';
import type { MemberState } from '../../src/room/member.ts';
import type { BlobRef, CoordinatorConfig, CoordinatorEffect, CoordinatorEvent, MachineBlob, MemberConfig, MemberEffect, MemberEvent, ReplicaOffer, StepMetrics } from '../../src/room/machine.ts';
import { awake, protocolVersion } from '../../src/room/messages.ts';
import { noRules } from '../../src/room/rules.ts';
import type { CoordinatorMessage, HistoryPoint, MemberMessage, PeerDevice, PeerId, Step, Term } from '../../src/room/messages.ts';

export const goodDevice: PeerDevice = { name: 'GPU', isSoftware: false, probeTokensPerSecond: 100, problem: null };
export const brokenDevice: PeerDevice = { ...goodDevice, problem: { code: 'no-webgpu', message: 'This browser has no WebGPU.' } };
export const peer = (name: string) => name as PeerId;
export const step = (value: number) => value as Step;
export const term = (value: number) => value as Term;
/** Hash of the replica after so many updates, in these tests. */
export const hashAt = (value: number) => value.toString(16).padStart(16, '0');

/** By which the directory would know this peer, in these tests. */
export const holderOf = (name: string) => name.padEnd(43, '_');

export const replicaOffer = (ofTerm: Term, at: Step, sources: readonly string[] = []): ReplicaOffer => ({ kind: 'replica', term: ofTerm, step: at, byteLength: 100, pieceBytes: 50, sources: sources.map(peer) });

type Of<Union, Type> = Extract<Union, { readonly type: Type }>;

export class CoordinatorBench {
  state: CoordinatorState;
  nowMs = 1000;
  /** Effects of the last event. */
  effects: readonly CoordinatorEffect[];
  #blobs = 0;

  constructor(change: Partial<CoordinatorConfig> = {}) {
    const config: CoordinatorConfig = {
      self: peer('ada'),
      holderHash: holderOf('ada'),
      name: 'Ada',
      term: term(3),
      run: '{}',
      steps: 100,
      microbatchesPerStep: 6,
      tokensPerMicrobatch: 10,
      codecs: [],
      sentAs: null,
      hasLocalSteps: false,
      weightOfMicrobatch: () => 9,
      selfDevice: goodDevice,
      sharesReplica: false,
      relaysFrom: null,
      evalEvery: 0,
      validationWeights: [7, 7, 4],
      patience: 0,
      checkpointEveryMs: 0,
      checkpointEverySteps: 0,
      startStep: step(0),
      startHash: hashAt(0),
      history: [],
      rules: noRules,
      startedAtMs: 0,
      startPaused: false,
      hasHeirs: false,
      leaseUntilMs: 0,
      ...change,
    };
    const { state, effects } = createCoordinator(config, this.nowMs);
    this.state = state;
    this.effects = effects;
  }

  send(event: CoordinatorEvent): this {
    const { state, effects } = coordinatorStep(this.state, event, this.nowMs);
    this.state = state;
    this.effects = effects;
    return this;
  }

  /** Time passes with a tick every quarter of a second; returns what happened meanwhile. */
  pass(durationMs: number): readonly CoordinatorEffect[] {
    const seen: CoordinatorEffect[] = [];
    const endMs = this.nowMs + durationMs;
    while (this.nowMs < endMs) {
      this.nowMs = Math.min(this.nowMs + 250, endMs);
      seen.push(...this.send({ type: 'tick' }).effects);
    }
    this.effects = seen;
    return seen;
  }

  /** Time passes while these peers answer pings. */
  passWith(durationMs: number, ...peers: readonly string[]): readonly CoordinatorEffect[] {
    const seen: CoordinatorEffect[] = [];
    for (let left = durationMs; left > 0; left -= 500) {
      for (const id of peers) seen.push(...this.from(id, { type: 'pong', nonce: 1 }).effects);
      seen.push(...this.pass(Math.min(left, 500)));
    }
    this.effects = seen;
    return seen;
  }

  from(id: string, message: MemberMessage): this {
    return this.send({ type: 'message', from: peer(id), message });
  }

  hello(id: string, change: Partial<Of<MemberMessage, 'hello'>> = {}): this {
    this.send({ type: 'peerOpened', peer: peer(id) });
    return this.from(id, { type: 'hello', protocol: protocolVersion, name: id, wantsToWatch: false, device: goodDevice, canSucceed: false, holderHash: holderOf(id), presence: awake, replica: null, ...change });
  }

  ready(id: string, at = this.state.step as number): this {
    return this.from(id, { type: 'ready', term: this.state.config.term, step: step(at), hash: hashAt(at) });
  }

  join(id: string, change: Partial<Of<MemberMessage, 'hello'>> = {}): this {
    return this.hello(id, change).ready(id);
  }

  of<Type extends CoordinatorEffect['type']>(type: Type): Of<CoordinatorEffect, Type>[] {
    return this.effects.filter((effect): effect is Of<CoordinatorEffect, Type> => effect.type === type);
  }

  sentTo(id: string): CoordinatorMessage[] {
    return this.of('send').filter((effect) => effect.to === id).map((effect) => effect.message);
  }

  row(id: string) {
    return coordinatorView(this.state).peers.find((each) => each.id === id);
  }

  /** Open assignments of a worker. */
  assigned(id: string) {
    return [...(this.state.work?.assignments.values() ?? [])].filter((each) => each.worker === id && each.phase === 'open');
  }

  microbatchesOf(id: string): number {
    return this.assigned(id).reduce((sum, each) => sum + each.microbatches.length, 0);
  }

  /** A contribution as an honest peer would send it that had no way to go. */
  contribute(id: string, assignment = this.assigned(id)[0]?.id ?? 'none', change: Partial<{ lossSum: number; weightSum: number; computeMs: number; step: number; term: number }> = {}): this {
    const count = this.state.work?.assignments.get(assignment)?.microbatches.length ?? 1;
    this.#blobs += 1;
    return this.send({
      type: 'blob',
      from: peer(id),
      ref: `ref-${this.#blobs}` as BlobRef,
      bytes: 100,
      header: {
        kind: 'contribution',
        term: term(change.term ?? this.state.config.term),
        step: step(change.step ?? this.state.step),
        assignment,
        lossSum: change.lossSum ?? 18 * count,
        weightSum: change.weightSum ?? 9 * count,
        computeMs: change.computeMs ?? this.nowMs - (this.state.work?.assignments.get(assignment)?.sentAtMs ?? this.nowMs),
        tokens: 10 * count,
      },
    });
  }

  ownResult(change: Partial<{ lossSum: number; failed: boolean }> = {}): this {
    const id = this.state.own.running ?? 'none';
    const count = this.state.work?.assignments.get(id)?.microbatches.length ?? 1;
    const sums = { lossSum: 18 * count, weightSum: 9 * count, computeMs: 5, tokens: 10, failed: false, ...change };
    return this.send({ type: 'ownResult', assignment: id, step: this.state.step, ...sums });
  }

  added(assignment: string): this {
    return this.send({ type: 'contributionAdded', assignment });
  }

  /** Everybody answers, each after so long. */
  answerAll(answerMs: Readonly<Record<string, number>>): this {
    const beganMs = this.nowMs;
    for (const [id, ms] of Object.entries(answerMs).sort(([, a], [, b]) => a - b)) {
      for (const { id: assignment } of this.assigned(id)) {
        this.nowMs = beganMs + ms;
        if (id === this.state.config.self) this.ownResult();
        else this.contribute(id, assignment);
        this.added(assignment);
      }
    }
    return this;
  }

  /** Everybody answers; the step is committed, and every member reports its update applied. */
  finishStep(answerMs: Readonly<Record<string, number>>): this {
    this.answerAll(answerMs).committed();
    const { effects } = this;
    for (const { id, holding } of this.state.peers.values()) if ((holding?.acknowledged ?? null) !== null) this.applied(id);
    this.effects = effects;
    return this;
  }

  /** This peer reports the current replica. */
  applied(id: string): this {
    return this.from(id, { type: 'applied', term: this.state.config.term, step: this.state.step, hash: hashAt(this.state.step) });
  }

  committed(change: Partial<StepMetrics> = {}): this {
    const at = this.state.step;
    const metrics = { gradNorm: 1, learningRate: 0.01, replicaHash: hashAt(at + 1), applied: true, updateBytes: 100, gradientBytes: 0, ...change };
    this.send({ type: 'committed', step: at, metrics });
    return this;
  }
}

export class MemberBench {
  state: MemberState;
  nowMs = 1000;
  effects: readonly MemberEffect[];
  #blobs = 0;

  constructor(change: Partial<MemberConfig> = {}) {
    const { state, effects } = createMember({ name: 'Bob', wantsToWatch: false, device: goodDevice, holderHash: holderOf('bob'), canSucceed: true, saved: null, seed: 1, ...change }, this.nowMs);
    this.state = state;
    this.effects = effects;
  }

  send(event: MemberEvent): this {
    const { state, effects } = memberStep(this.state, event, this.nowMs);
    this.state = state;
    this.effects = effects;
    return this;
  }

  pass(durationMs: number): readonly MemberEffect[] {
    const seen: MemberEffect[] = [];
    const endMs = this.nowMs + durationMs;
    while (this.nowMs < endMs) {
      this.nowMs = Math.min(this.nowMs + 100, endMs);
      seen.push(...this.send({ type: 'tick' }).effects);
    }
    this.effects = seen;
    return seen;
  }

  message(message: CoordinatorMessage): this {
    return this.send({ type: 'message', message });
  }

  blob(header: MachineBlob, bytes = 100): this {
    this.#blobs += 1;
    return this.send({ type: 'blob', header, ref: `ref-${this.#blobs}` as BlobRef, bytes });
  }

  of<Type extends MemberEffect['type']>(type: Type): Of<MemberEffect, Type>[] {
    return this.effects.filter((effect): effect is Of<MemberEffect, Type> => effect.type === type);
  }

  get sent(): MemberMessage[] {
    return this.of('send').map((effect) => effect.message);
  }

  get view() {
    return memberView(this.state);
  }

  found(coordinator = 'ada', of = 3): this {
    return this.send({ type: 'directory', lead: { coordinator: peer(coordinator), term: term(of), isHeld: true, hasSuccessor: false } });
  }

  connect(coordinator = 'ada', of = 3): this {
    this.found(coordinator, of);
    return this.send({ type: 'connected', coordinator: peer(coordinator) });
  }

  welcome(change: Partial<Of<CoordinatorMessage, 'welcome'>> = {}): this {
    return this.message({
      type: 'welcome',
      term: term(3),
      you: peer('bob'),
      step: step(5),
      steps: 100,
      phase: 'running',
      startedAtMs: 0,
      replica: 'coming',
      run: '{}',
      rules: noRules,
      historyPoints: 0,
      ...change,
    });
  }

  /** The history that the welcome announced arrives, and its bytes are read. */
  history(points: readonly HistoryPoint[], of = 3): this {
    this.blob({ kind: 'history', term: term(of), checksum: '0123abcd' });
    const [read] = this.of('readHistory');
    return read === undefined ? this : this.send({ type: 'historyRead', ref: read.ref, points });
  }

  /** Joined, with the replica of step 5. */
  join(): this {
    this.connect().welcome().blob(replicaOffer(term(3), step(5)));
    return this.send({ type: 'replicaLoaded', step: step(5), hash: hashAt(5) });
  }

  assignment(id: string, at = 5, microbatches: number[] = [0, 1]): this {
    return this.blob({ kind: 'assignment', term: term(3), step: step(at), assignment: id, microbatches });
  }

  computed(assignment: string, change: Partial<Of<MemberEvent, 'computed'>> = {}): this {
    const result = { assignment, step: step(5), lossSum: 4, weightSum: 2, computeMs: 5, tokens: 10, failed: false };
    return this.send({ type: 'computed', ...result, ...change });
  }
}
