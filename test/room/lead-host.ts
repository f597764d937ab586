/** The part of whoever leads a simulated room: carries the coordinator's effects out as the session does, in virtual time. */
import { coordinatorStep, coordinatorView, createCoordinator } from '../../src/room/coordinator.ts';
import { weightOf } from '../../src/data/batches.ts';
import type { CoordinatorState } from '../../src/room/coordinator.ts';
import type { CoordinatorConfig, CoordinatorEffect, CoordinatorEvent, WarmReign } from '../../src/room/machine.ts';
import { memberBlobSchema, memberMessageSchema } from '../../src/room/messages.ts';
import type { HistoryPoint, MemberMessage, PeerDevice, PeerId, Step, Term } from '../../src/room/messages.ts';
import { orderOf, ownerCommandSchema } from '../../src/room/rules.ts';
import type { OwnerCommand, RoomRules, SignedCommand } from '../../src/room/rules.ts';
import { encodeHistory } from '../../src/session/history.ts';
import { rangesOf } from '../../src/session/inheritance.ts';
import { roomCodecs } from '../../src/room/codec-choice.ts';
import { evaluatedSums, heldOut } from '../../src/session/evaluation.ts';
import { encodeRows } from '../../src/session/rows.ts';
import { hasLocalSteps, masterPartsOf } from '../../src/trainer/types.ts';
import * as v from 'valibot';
import { leaseMs } from '../../signaling/directory.ts';
import type { Command } from '../../signaling/directory.ts';
import type { CpuTrainer } from './cpu-trainer.ts';
import { holderHashOf } from './directory.ts';
import type { Truth } from './ledger.ts';
import type { End, Handlers } from './network.ts';
import { hashesOf, pieceAt, simulatedPieceBytes } from './replica-exchange.ts';
import { CheckedShelf } from './shelf.ts';
import type { Role, Tab } from './tab.ts';
import type { TinyRun } from './tiny-run.ts';
import type { World } from './world.ts';

export interface LeadOptions {
  readonly device: PeerDevice;
  readonly evalEvery: number;
  readonly relaysFrom: number | null;
  readonly checkpointEverySteps: number;
  /** Somebody else leads, or this peer can't any more. */
  readonly deposed: () => void;
  /** The successor is to lead. */
  readonly handedOver: () => void;
}

/** What a reign goes on from. */
export interface ReignStart {
  readonly term: Term;
  /** Of the leader whose state this is; 0 for a new room. */
  readonly after: number;
  readonly trainer: CpuTrainer;
  readonly step: Step;
  readonly hash: string;
  readonly history: readonly HistoryPoint[];
  readonly rules: RoomRules;
  readonly isPaused: boolean;
  /** As the reign before left it. */
  readonly sentAs: WarmReign['sentAs'];
  /** `new`: the room's first; `warm`: the successor's; `cold`: from what a browser had saved. */
  readonly kind: 'new' | 'warm' | 'cold';
  /** The directory that granted the lead had forgotten the room. */
  readonly wasForgotten: boolean;
}

/** Virtual times of the trainer's smaller calls. */
const gpuMs = { add: 2, commit: 6, copy: 4, evaluate: 20 };
const diskMs = 60;
const pieceBytes = 1_000;
const betweenPiecesMs = 5;
const hashMs = 2;
/** Too frequent to be worth a line of the timeline. */
const unnoted: ReadonlySet<string> = new Set(['ping', 'peers']);
const renewMs = 1_500;
/** Of the lease's length: less than it, by what clocks may differ. */
const reliedOnLeaseMs = 0.9 * leaseMs;
/** As the session's keeper of a lease. */
const distrustMs = 30_000;

/** Stands for the run's text: a simulated leader draws its batches from the run itself. */
export function corpusOf(run: TinyRun): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(run.source.draw(0, 0).inputIds);
}

export class LeadHost implements Role {
  readonly world: World;
  readonly machine: string;
  readonly term: Term;
  readonly #tab: Tab;
  readonly #options: LeadOptions;
  readonly #trainer: CpuTrainer;
  readonly #shelf: CheckedShelf;
  readonly #ends = new Map<PeerId, End>();
  readonly #events: CoordinatorEvent[] = [];
  #state: CoordinatorState;
  #isOver = false;
  #isDispatching = false;
  #announced: number;
  #held: Truth | null = null;
  readonly #copies = new Map<Step, ArrayBuffer>();
  /** Of the last two steps, as the session keeps them. */
  readonly #updates = new Map<Step, { readonly bytes: ArrayBuffer; readonly gradient: ArrayBuffer | null; readonly hashes: ArrayBuffer }>();
  #name: { readonly successorHash: string | null; isConfirmed: boolean } = { successorHash: null, isConfirmed: true };
  #isRenewing = false;
  #renewals = 1;
  #trustedFromMs = -Infinity;
  #heldUntilMs = 0;

  constructor(tab: Tab, options: LeadOptions, start: ReignStart) {
    this.#tab = tab;
    this.#options = options;
    this.world = tab.world;
    this.machine = tab.name;
    this.term = start.term;
    this.#trainer = start.trainer;
    this.#announced = start.history.length;
    const { world } = this;
    const { run } = world;
    this.#shelf = new CheckedShelf(world.log, tab.name);
    const config: CoordinatorConfig = {
      self: tab.address as PeerId,
      holderHash: holderHashOf(tab.computer.holder),
      name: tab.name,
      term: start.term,
      run: JSON.stringify(run.settings),
      steps: run.settings.steps,
      microbatchesPerStep: run.source.microbatchesPerStep,
      sentAs: start.sentAs,
      hasLocalSteps: hasLocalSteps(run.settings),
      codecs: roomCodecs(run.settings.codec ?? 'fp32', run.settings.localSteps ?? 1),
      tokensPerMicrobatch: run.tokensPerMicrobatch,
      weightOfMicrobatch: (step, microbatch) => run.source.weightOfMicrobatch(step, microbatch),
      selfDevice: options.device,
      sharesReplica: true,
      relaysFrom: options.relaysFrom,
      evalEvery: options.evalEvery,
      validationWeights: run.source.validation.map(weightOf),
      patience: 0,
      checkpointEveryMs: 60_000,
      checkpointEverySteps: options.checkpointEverySteps,
      startStep: start.step,
      startHash: start.hash,
      history: start.history,
      rules: start.rules,
      startedAtMs: 0,
      startPaused: start.isPaused,
      hasHeirs: start.kind !== 'new',
      leaseUntilMs: 0,
    };
    world.log.note(this.machine, `leads under term ${start.term} from step ${start.step} (${start.kind})`);
    world.ledger.reignBegan(start);
    const { state, effects } = createCoordinator(config, tab.nowMs());
    this.#state = state;
    this.#carryAll(effects);
    if (start.wasForgotten) this.#trustedFromMs = tab.nowMs() + distrustMs;
    this.#renew();
    this.#renewLater();
  }

  get isOpen(): boolean {
    return this.#tab.isOpen && !this.#isOver;
  }

  get gpu() {
    return this.#tab.gpu;
  }

  freeze(durationMs: number): void {
    this.#tab.freeze(durationMs);
  }

  end(): void {
    this.#isOver = true;
    for (const end of this.#ends.values()) end.close();
    this.#ends.clear();
  }

  /** Gives the lease back: whoever follows need not wait for it to run out. */
  release(): void {
    const command: Command = { type: 'release', holder: this.#tab.computer.holder, term: this.term, step: this.view.step };
    this.world.directory.apply(this.machine, command, () => undefined);
  }

  #enter(action: () => void): void {
    this.#tab.enter(() => {
      if (!this.#isOver) action();
    });
  }

  get state(): CoordinatorState {
    return this.#state;
  }

  get view() {
    return coordinatorView(this.#state);
  }

  get unusedBlobs(): number {
    return this.#shelf.size;
  }

  tick(): void {
    this.dispatch({ type: 'tick' });
  }

  dispatch(event: CoordinatorEvent): void {
    if (this.#isOver) return;
    this.#events.push(...(this.world.tampering.coordinatorEvents?.(event) ?? [event]));
    if (this.#isDispatching) return;
    this.#isDispatching = true;
    for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
      const { state, effects } = coordinatorStep(this.#state, next, this.#tab.nowMs());
      this.#state = state;
      this.#checkWork();
      this.#noteAnnounced();
      this.#carryAll(effects);
    }
    this.#isDispatching = false;
  }

  #noteAnnounced(): void {
    const { history } = this.#state;
    for (; this.#announced < history.length; this.#announced += 1) {
      const point = history[this.#announced];
      if (point !== undefined) this.world.ledger.announced(this.term, point);
    }
  }

  /** Every micro-batch is in exactly one place. */
  #checkWork(): void {
    const { work } = this.#state;
    if (work === null) return;
    const waiting = [...work.pool, ...[...work.assignments.values()].filter(({ repeats }) => repeats === null).flatMap((assignment) => assignment.microbatches)];
    const isWhole = new Set(waiting).size === waiting.length && waiting.length === work.missing;
    if (!isWhole) this.world.log.fail(`step ${work.step} misses ${work.missing} micro-batches and knows of [${waiting.join()}]`);
  }

  /** The owner's page leads. */
  order(signed: SignedCommand, command: OwnerCommand): void {
    this.#enter(() => {
      this.dispatch({ type: 'ownerCommand', from: this.#tab.address as PeerId, order: orderOf(signed), revision: signed.revision, command });
    });
  }

  #ordered(from: PeerId, { term, revision, command, signature }: Extract<MemberMessage, { type: 'owner' }>): void {
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), ownerCommandSchema), command);
    if (term === this.term && parsed.success) this.dispatch({ type: 'ownerCommand', from, order: orderOf({ revision, command, signature }), revision, command: parsed.output });
  }

  accept(end: End): Handlers {
    const peer = end.remote as PeerId;
    this.#enter(() => {
      this.#ends.get(peer)?.close();
      this.#ends.set(peer, end);
      this.dispatch({ type: 'peerOpened', peer });
    });
    const whileCurrent = (action: () => void): void => {
      this.#enter(() => {
        if (this.#ends.get(peer) === end) action();
      });
    };
    const distrust = (): void => {
      end.close();
      this.#ends.delete(peer);
      this.dispatch({ type: 'peerClosed', peer, reason: 'what it sent is not valid' });
    };
    return {
      control: (json) => {
        whileCurrent(() => {
          const message = v.safeParse(memberMessageSchema, json);
          if (!message.success) return distrust();
          this.dispatch({ type: 'message', from: peer, message: message.output });
          if (message.output.type === 'owner') this.#ordered(peer, message.output);
        });
      },
      blob: (json, bytes) => {
        whileCurrent(() => {
          const header = v.safeParse(memberBlobSchema, json);
          if (!header.success) return distrust();
          this.dispatch({ type: 'blob', from: peer, header: header.output, ref: this.#shelf.put(bytes), bytes: bytes.byteLength });
        });
      },
      closed: (reason) => {
        whileCurrent(() => {
          this.#ends.delete(peer);
          this.dispatch({ type: 'peerClosed', peer, reason });
        });
      },
    };
  }

  #carryAll(effects: readonly CoordinatorEffect[]): void {
    for (const effect of this.world.tampering.coordinatorEffects?.(effects) ?? effects) this.#carry(effect);
  }

  #carry(effect: CoordinatorEffect): void {
    const { log, run } = this.world;
    switch (effect.type) {
      case 'send':
        if (!unnoted.has(effect.message.type)) log.note(this.machine, `→ ${effect.to} ${describe(effect.message)}`);
        this.#ends.get(effect.to)?.sendControl(effect.message);
        return;
      case 'assign': {
        const { step, microbatches, assignment } = effect.header;
        log.note(this.machine, `→ ${effect.to} assignment ${assignment} [${microbatches.join()}]`);
        const bytes = encodeRows(microbatches.map((index) => run.source.draw(step, index)));
        this.world.ledger.workSent(bytes, step, microbatches);
        this.#ends.get(effect.to)?.sendBlob(effect.header, bytes);
        return;
      }
      case 'sendHistory': {
        const { bytes, checksum } = encodeHistory(effect.history);
        log.note(this.machine, `→ ${effect.to} history of ${effect.history.length} points`);
        this.#ends.get(effect.to)?.sendBlob({ kind: 'history', term: this.term, checksum }, bytes);
        return;
      }
      case 'offerReplica':
        log.note(this.machine, `→ ${effect.to} replica at ${effect.step}`);
        return this.#offerReplica(effect);
      case 'sendPiece': {
        const { to, step, piece } = effect;
        const copy = this.#copies.get(step);
        if (copy === undefined) this.#ends.get(to)?.sendControl({ type: 'missing', term: this.term, step, piece });
        else this.#ends.get(to)?.sendBlob({ kind: 'replicaPiece', term: this.term, step, piece }, pieceAt(copy, piece));
        return;
      }
      case 'sendUpdate':
        return this.#sendUpdate(effect);
      case 'sendGradient': {
        const { to, step, weightSum, point } = effect;
        const gradient = this.#updates.get(step)?.gradient ?? null;
        if (gradient === null) return log.fail(`the gradient of step ${step} is to be sent but was not encoded`);
        this.#ends.get(to)?.sendBlob({ kind: 'gradient', term: this.term, step, weightSum, point }, gradient);
        return;
      }
      case 'appoint':
        log.note(this.machine, `appoints ${effect.to} at step ${effect.step}`);
        return this.#appoint(effect);
      case 'nameSuccessor':
        log.note(this.machine, `asks the directory to name ${effect.holderHash ?? 'nobody'}`);
        this.#name = { successorHash: effect.holderHash, isConfirmed: false };
        return this.#renew();
      case 'beginStep':
        return this.#gpuJob('begin', 0, async () => {
          this.world.ledger.stepBegan(this.term, effect.step);
          await this.#trainer.beginStep(effect.step);
        });
      case 'computeOwn':
        log.note(this.machine, `computes ${effect.assignment} [${effect.microbatches.join()}]`);
        return this.#computeOwn(effect);
      case 'cancelOwn':
        this.gpu.cancel(effect.assignment);
        return;
      case 'addOwn':
        return this.#add(effect.assignment, async () => {
          await this.#trainer.addOwnContribution(effect.assignment);
          this.world.ledger.added(this.term, effect.step, this.#held);
        });
      case 'addBlob': {
        const bytes = this.#shelf.take(effect.ref);
        return this.#add(effect.assignment, async () => {
          await this.#trainer.addContribution(effect.step, bytes);
          this.world.ledger.added(this.term, effect.step, this.world.ledger.contributionIn(bytes));
        });
      }
      case 'discardBlob':
        log.note(this.machine, `discards ${effect.ref}: ${effect.reason}`);
        this.#shelf.take(effect.ref);
        return;
      case 'commit':
        return this.#commit(effect);
      case 'evaluateOwn':
        return this.#gpuJob('evaluate', gpuMs.evaluate, async () => {
          const { assignment, microbatches } = effect;
          const sums = await evaluatedSums(this.#trainer, heldOut(run.source, microbatches));
          this.#enter(() => {
            this.dispatch({ type: 'evaluatedOwn', assignment, ...sums, failed: false });
          });
        });
      case 'assignEvaluation':
        this.#ends.get(effect.to)?.sendBlob(effect.header, encodeRows(heldOut(run.source, effect.header.microbatches)));
        return;
      case 'keepBest':
        log.note(this.machine, `keeps the weights after step ${effect.step}: validation loss ${effect.loss.toFixed(4)}`);
        return;
      case 'checkpoint':
        return this.#checkpoint(effect.step, effect.reason);
      case 'closePeer':
        log.note(this.machine, `closes ${effect.peer}: ${effect.reason}`);
        this.#ends.get(effect.peer)?.close();
        this.#ends.delete(effect.peer);
        return;
      case 'problem':
        log.note(this.machine, `problem ${effect.problem.code}`);
        return;
      case 'declined':
        this.world.declined.add(effect.revision);
        log.note(this.machine, `declines the owner’s command ${effect.revision}: ${effect.reason}`);
        return;
      case 'handOver':
        log.note(this.machine, 'hands the lead over');
        this.release();
        return this.#options.handedOver();
      case 'closeRoom':
        log.note(this.machine, 'the owner closes the room');
        return;
      case 'changed':
        this.#tab.computer.rules = this.view.rules;
        return;
    }
  }

  #gpuJob(label: string, durationMs: number, action: () => Promise<void>): void {
    this.gpu.submit(label, durationMs, action);
  }

  #offerReplica({ to, step, sources }: Extract<CoordinatorEffect, { type: 'offerReplica' }>): void {
    const { term } = this;
    this.#gpuJob('replica', gpuMs.copy, async () => {
      const { step: at, bytes } = await this.#trainer.replica();
      if (at !== step) this.world.log.fail(`a replica at ${step} was asked for when it is at ${at}`);
      this.#copies.set(step, bytes);
      const { byteLength } = bytes;
      const offer = { kind: 'replica', term, step, byteLength, pieceBytes: simulatedPieceBytes(byteLength), sources: [...sources] };
      this.#ends.get(to)?.sendBlob(offer, new ArrayBuffer(0));
      this.world.clock.after(hashMs, () => {
        if (!this.#isOver) this.#ends.get(to)?.sendBlob({ kind: 'pieceHashes', term, step }, hashesOf(bytes));
      });
    });
  }

  #sendUpdate({ whole, forward, fed, step }: Extract<CoordinatorEffect, { type: 'sendUpdate' }>): void {
    const { term } = this;
    const update = this.#updates.get(step);
    if (update === undefined) {
      // Somebody misses one that is kept no more.
      if (step === this.#state.step - 1) this.world.log.fail(`update ${step} is to be sent but was not encoded`);
      for (const peer of whole) this.dispatch({ type: 'weightsNotSent', peer, reason: 'it is kept no more' });
      return;
    }
    const { bytes, hashes } = update;
    if (forward.length > 0) this.world.log.note(this.machine, `→ ${forward.join()} update ${step} to forward, to ${fed.join()}`);
    for (const peer of whole) this.#ends.get(peer)?.sendBlob({ kind: 'update', term, step }, bytes);
    const pieceBytes = simulatedPieceBytes(bytes.byteLength, this.world.piecesPerUpdate);
    for (const peer of [...forward, ...fed]) {
      this.#ends.get(peer)?.sendBlob({ kind: 'updateHashes', term, step, byteLength: bytes.byteLength, pieceBytes, isFed: fed.includes(peer) }, hashes);
    }
    for (let piece = 0; piece * pieceBytes < bytes.byteLength; piece += 1) {
      for (const peer of forward) this.#ends.get(peer)?.sendBlob({ kind: 'updatePiece', term, step, piece }, pieceAt(bytes, piece, pieceBytes));
    }
  }

  #computeOwn({ assignment, step, microbatches, changes }: Extract<CoordinatorEffect, { type: 'computeOwn' }>): void {
    const result = { type: 'ownResult', assignment, step, computeMs: microbatches.length * this.gpu.msPerMicrobatch, tokens: 1 } as const;
    this.gpu.submit(assignment, microbatches.length * this.gpu.msPerMicrobatch, async (isCancelled) => {
      if (isCancelled) {
        return this.#enter(() => {
          this.dispatch({ ...result, lossSum: 0, weightSum: 0, failed: true });
        });
      }
      const jobs = microbatches.map((index) => ({ index, rows: this.world.run.source.draw(step, index) }));
      const { lossSum, weightSum } = await this.#trainer.computeGradients({ assignment, step, changes, microbatches: jobs });
      this.#held = { step, microbatches, replicaHash: this.#trainer.hash, by: this.machine };
      this.#enter(() => {
        this.dispatch({ ...result, lossSum, weightSum, failed: false });
      });
    });
  }

  #add(assignment: string, add: () => Promise<void>): void {
    this.#gpuJob('add', gpuMs.add, async () => {
      try {
        await add();
      } catch (error) {
        if (!(error instanceof Error) || error.name !== 'CodecError') throw error;
        return this.#enter(() => {
          this.dispatch({ type: 'contributionRejected', assignment, reason: error.message });
        });
      }
      this.#enter(() => {
        this.dispatch({ type: 'contributionAdded', assignment });
      });
    });
  }

  #commit({ step, lossSum, weightSum, encodeUpdate, encodeGradient, changes, codec }: Extract<CoordinatorEffect, { type: 'commit' }>): void {
    this.#gpuJob('commit', gpuMs.commit, async () => {
      const result = await this.#trainer.commit(step, weightSum, { encodeUpdate, encodeGradient, changes, ...(codec !== null && { codec }) });
      const { rules } = this.#state;
      const expected = rules.changes.length === 0 ? undefined : await this.world.changedRun.lossAt(step, rules.changes);
      const { gradNorm, learningRate, replicaHash, applied, update, gradient } = result;
      this.world.log.note(this.machine, `commits step ${step}, loss ${(lossSum / weightSum).toFixed(4)}`);
      if (applied) this.world.ledger.committed(this.term, step, lossSum / weightSum, replicaHash, expected);
      if (update !== null) this.#updates.set(step, { bytes: update, gradient, hashes: hashesOf(update, simulatedPieceBytes(update.byteLength, this.world.piecesPerUpdate)) });
      this.#updates.delete((step - 2) as Step);
      const updateBytes = update?.byteLength ?? 0;
      const metrics = { gradNorm, learningRate, replicaHash, applied, updateBytes, gradientBytes: gradient?.byteLength ?? 0 };
      this.#enter(() => {
        this.dispatch({ type: 'committed', step, metrics });
      });
    });
  }

  #checkpoint(step: Step, reason: string): void {
    const { world, term } = this;
    const history = JSON.stringify(this.#state.history.filter((point) => point.step < step));
    this.#gpuJob('save', gpuMs.copy, async () => {
      const state = await this.#trainer.masterState();
      if (state.step !== step) world.log.fail(`a checkpoint of step ${step} was asked for when the weights are at ${state.step}`);
      world.clock.after(diskMs, () => {
        if (!this.isOpen) return;
        world.log.note(this.machine, `saved step ${step} (${reason})`);
        this.#tab.computer.disk = { room: 'room', term, step, savedAtMs: world.clock.nowMs, startedAtMs: 0, loss: null, history, state };
      });
    });
  }

  #appoint({ to, step: since, unannounced }: Extract<CoordinatorEffect, { type: 'appoint' }>): void {
    const { run } = this.world;
    const end = this.#ends.get(to);
    const corpus = corpusOf(run);
    const masterParts = masterPartsOf(run.settings);
    const masterBytes = this.#trainer.masterBytes;
    end?.sendBlob({ kind: 'appointment', term: this.term, step: since, unannounced, masterBytes, masterParts: [...masterParts], corpusBytes: corpus.byteLength }, new ArrayBuffer(0));
    const isWanted = (): boolean => this.#state.successor?.peer === to && this.#state.successor.since === since;
    const pieces = [
      ...[...rangesOf(corpus.byteLength, pieceBytes)].map((range) => ({ part: 'corpus' as const, ...range })),
      ...masterParts.flatMap((part) => [...rangesOf(masterBytes, pieceBytes)].map((range) => ({ part, ...range }))),
    ];
    const sendNext = (): void => {
      const [next, ...rest] = pieces.splice(0);
      if (next === undefined || !isWanted()) return;
      // Committed, and not sent yet: the worker's answers come in their order.
      const isAhead = this.#trainer.step !== this.#state.step;
      pieces.push(...(isAhead ? [next] : []), ...rest);
      if (!isAhead) {
        const { part, offset, byteLength } = next;
        const bytes = part === 'corpus' ? corpus.buffer.slice(offset, offset + byteLength) : this.#trainer.masterNow(part, offset, byteLength).bytes;
        end?.sendBlob({ kind: 'piece', term: this.term, since, step: this.#state.step, part, offset }, bytes);
      }
      later();
    };
    const later = (): void => {
      this.world.clock.after(betweenPiecesMs, () => {
        this.#enter(sendNext);
      });
    };
    later();
  }

  #renewLater(): void {
    this.world.clock.after(renewMs, () => {
      if (!this.isOpen) return;
      this.#enter(() => {
        this.#renew();
      });
      this.#renewLater();
    });
  }

  #renew(): void {
    if (this.#isRenewing) return;
    this.#isRenewing = true;
    const wish = this.#name;
    const { directory, log } = this.world;
    const { holder } = this.#tab.computer;
    const coordinator = this.#tab.address;
    const { term, machine } = this;
    const { step } = this.view;
    const sentMs = this.#tab.nowMs();
    directory.apply(machine, { type: 'renew', coordinator, holder, term, step, successorHash: wish.successorHash, sequence: this.#renewals++ }, (outcome) => {
      this.#enter(() => {
        this.#isRenewing = false;
        if (outcome === undefined) return;
        if (outcome.ok && sentMs < this.#trustedFromMs) return;
        if (outcome.ok) {
          this.#heldUntilMs = sentMs + reliedOnLeaseMs;
          this.dispatch({ type: 'lease', untilMs: this.#heldUntilMs });
          if (!wish.isConfirmed) {
            wish.isConfirmed = true;
            this.dispatch({ type: 'successorNamed', holderHash: wish.successorHash });
          }
          if (!this.#name.isConfirmed) this.#renew();
          return;
        }
        if (outcome.refusal === 'not-found' || (outcome.lease !== null && outcome.lease.term < term)) {
          log.note(machine, 'claims its room again');
          const untrustedMs = this.#tab.nowMs() < this.#heldUntilMs ? leaseMs : distrustMs;
          return directory.apply(machine, { type: 'create', coordinator, holder, term, step, isReclaim: true }, () => {
            this.#enter(() => {
              this.#trustedFromMs = this.#tab.nowMs() + untrustedMs;
              this.#name = { ...this.#name, isConfirmed: false };
              this.#renew();
            });
          });
        }
        if (outcome.refusal === 'overtaken') return;
        log.note(machine, `is deposed: ${outcome.refusal}`);
        this.#options.deposed();
      });
    });
  }
}

function describe(message: { readonly type: string }): string {
  const { type, ...rest } = message;
  const text = JSON.stringify(rest);
  return `${type} ${text.length > 120 ? `${text.slice(0, 120)}…` : text}`;
}
