/** A member's part in a simulated room: carries the member's effects out as the session does, in virtual time. */
import { createMember, memberStep, memberView } from '../../src/room/member.ts';
import type { MemberState } from '../../src/room/member.ts';
import type { DirectoryLead, LeadClaim, MemberConfig, MemberEffect, MemberEvent, WarmReign } from '../../src/room/machine.ts';
import { coordinatorBlobSchema, coordinatorMessageSchema } from '../../src/room/messages.ts';
import type { CoordinatorBlob, MemberBlob, PeerDevice, PeerId, Step, Term } from '../../src/room/messages.ts';
import type { SignedCommand } from '../../src/room/rules.ts';
import { decodeHistory, HistoryError } from '../../src/session/history.ts';
import { evaluatedSums } from '../../src/session/evaluation.ts';
import { decodeRows, RowsError } from '../../src/session/rows.ts';
import { UpdateFeed } from '../../src/session/update-feed.ts';
import type { FeedHandlers, FeedLine } from '../../src/session/update-feed.ts';
import * as v from 'valibot';
import type { Command, Lease } from '../../signaling/directory.ts';
import { CpuTrainer } from './cpu-trainer.ts';
import { holderHashOf } from './directory.ts';
import { corpusOf } from './lead-host.ts';
import type { Truth } from './ledger.ts';
import type { End, Handlers } from './network.ts';
import { CheckedShelf } from './shelf.ts';
import { SimulatedExchange, hashOf } from './replica-exchange.ts';
import type { Role, Tab } from './tab.ts';
import type { World } from './world.ts';

/** What a dishonest peer sends instead of its contribution: any number of blobs. */
export type Lie = (header: MemberBlob, bytes: ArrayBuffer) => readonly { readonly header: MemberBlob; readonly bytes: ArrayBuffer }[];

/** Wrong bytes, none, or the right ones with delay. */
export type Misrelay = 'garbage' | 'silence' | 'late';

export interface MemberOptions {
  readonly device: PeerDevice;
  readonly wantsToWatch: boolean;
  readonly canSucceed: boolean;
  /** It has just given the lead away. */
  readonly yields: boolean;
  readonly lie: Lie | null;
  /** This peer leads from now on; `trainer` null: from what its computer has saved. */
  readonly leads: (granted: { readonly term: Term; readonly wasForgotten: boolean }, warm: { readonly reign: WarmReign; readonly trainer: CpuTrainer } | null) => void;
}

/** Of a micro-batch's time, what its forward pass takes. */
const forwardShare = 1 / 3;
const gpuMs = { load: 5, take: 3, write: 1, adopt: 10, save: 4 };
/** Nearly as long as is waited. */
const lateRelayMs = 2_500;
const diskMs = 60;
/** Steps between two saves of a successor's master state. */
const saveEverySteps = 4;

export class MemberHost implements Role {
  readonly world: World;
  readonly machine: string;
  readonly #tab: Tab;
  readonly #options: MemberOptions;
  readonly #shelf: CheckedShelf;
  readonly #replicas: SimulatedExchange;
  readonly #feed: UpdateFeed;
  /** What it makes of the updates that it forwards, for a while. */
  #misrelays: Misrelay | null = null;
  readonly #events: MemberEvent[] = [];
  #trainer: CpuTrainer | null = null;
  #state: MemberState;
  #isOver = false;
  #isDispatching = false;
  #attempt = 0;
  #end: End | null = null;
  #held: Truth | null = null;
  /** By the directory, when this peer asked for the lead last. */
  #wasForgotten = false;
  /** Of the appointment that is in force. */
  #arriving: { readonly corpus: Uint8Array<ArrayBuffer>; problem: string | null } | null = null;

  constructor(tab: Tab, options: MemberOptions) {
    this.#tab = tab;
    this.world = tab.world;
    this.machine = tab.name;
    this.#options = options;
    this.#shelf = new CheckedShelf(this.world.log, tab.name);
    this.#replicas = new SimulatedExchange({
      tab,
      enter: (action) => {
        this.#enter(action);
      },
      askCoordinator: (want) => this.#end?.sendControl(want),
      fetched: (step, bytes) => {
        this.#loadReplica(step, this.world.tampering.replica?.(bytes) ?? bytes);
      },
      failed: (step) => {
        this.dispatch({ type: 'replicaFailed', step, reason: 'it could not be fetched' });
      },
      subscribed: (end, message) => {
        const line = this.#lineOf(end);
        this.world.log.note(this.machine, `forwards to ${end.remote}`);
        this.#feed.subscribed(line, message);
        return () => {
          this.#feed.left(line);
        };
      },
    });
    this.#feed = new UpdateFeed({
      term: () => (this.#end === null ? null : (this.#state.room?.term ?? null)),
      connect: (peer, handlers, opened) => {
        this.#connectFeed(peer, handlers, opened);
      },
      hash: (bytes, done) => {
        done(this.world.tampering.hash?.(bytes) ?? hashOf(bytes));
      },
      deliver: (header, bytes) => {
        this.dispatch({ type: 'blob', header, ref: this.#shelf.put(bytes), bytes: bytes.byteLength });
      },
      tell: (message) => {
        this.world.log.note(this.machine, `sends ${JSON.stringify(message)}`);
        this.#end?.sendControl(message);
      },
      distrust: () => {
        this.#distrust();
      },
      nowMs: () => tab.nowMs(),
    });
    const { disk, holder } = tab.computer;
    const config: MemberConfig = {
      name: tab.name,
      wantsToWatch: options.wantsToWatch,
      device: options.device,
      holderHash: holderHashOf(holder),
      canSucceed: options.canSucceed && !options.wantsToWatch,
      saved: disk === null || options.yields ? null : { step: disk.step as Step, term: disk.term as Term },
      seed: tab.random.below(2 ** 31),
    };
    this.world.log.note(this.machine, `is a member as ${tab.address}${disk === null ? '' : `, with step ${disk.step} saved`}`);
    const { state, effects } = createMember(config, tab.nowMs());
    this.#state = state;
    this.#carryAll(effects);
  }

  get isOpen(): boolean {
    return this.#tab.isOpen && !this.#isOver;
  }

  get gpu() {
    return this.#tab.gpu;
  }

  get isWarm(): boolean {
    return this.isOpen && this.#state.succession?.stage === 'warm';
  }

  freeze(durationMs: number): void {
    this.#tab.freeze(durationMs);
  }

  /** This tab is the owner's. */
  order(signed: SignedCommand): void {
    this.#enter(() => {
      this.dispatch({ type: 'ownerCommand', signed });
    });
  }

  accept(end: End): Handlers {
    return this.#replicas.accept(end);
  }

  end(): void {
    this.#isOver = true;
    this.#feed.abort();
    this.#replicas.close();
    this.#end?.close();
    this.#end = null;
  }

  #enter(action: () => void): void {
    this.#tab.enter(() => {
      if (!this.#isOver) action();
    });
  }

  get state(): MemberState {
    return this.#state;
  }

  get view() {
    return memberView(this.#state);
  }

  get unusedBlobs(): number {
    const { blobs, assignments, earlyHistory, succession } = this.#state;
    const kept = (earlyHistory === null ? 0 : 1) + (succession?.gradient == null ? 0 : 1);
    return this.#shelf.size - blobs.length - assignments.length - kept;
  }

  tick(): void {
    this.#replicas.tick();
    this.#feed.tick();
    this.dispatch({ type: 'tick' });
  }

  dispatch(event: MemberEvent): void {
    if (this.#isOver) return;
    this.#events.push(...(this.world.tampering.memberEvents?.(event) ?? [event]));
    if (this.#isDispatching) return;
    this.#isDispatching = true;
    for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
      const { state, effects } = memberStep(this.#state, next, this.#tab.nowMs());
      this.#state = state;
      this.#carryAll(effects);
    }
    this.#isDispatching = false;
  }

  /** The GPU is lost now, and opened again after some time. */
  loseGpu(downMs: number): void {
    if (!this.isOpen) return;
    this.gpu.lose();
    this.#trainer = null;
    const problem = { code: 'gpu-lost', message: 'The GPU was lost.' };
    this.#enter(() => {
      this.dispatch({ type: 'device', device: { ...this.#options.device, problem } });
    });
    this.world.clock.after(downMs, () => {
      this.#enter(() => {
        this.dispatch({ type: 'device', device: this.#options.device });
      });
    });
  }

  #carryAll(effects: readonly MemberEffect[]): void {
    for (const effect of this.world.tampering.memberEffects?.(effects) ?? effects) this.#carry(effect);
  }

  #carry(effect: MemberEffect): void {
    const { log } = this.world;
    switch (effect.type) {
      case 'lookUp':
        return this.#lookUp();
      case 'connect':
        log.note(this.machine, `connects to ${effect.coordinator}`);
        return this.#connect(effect.coordinator);
      case 'disconnect':
        log.note(this.machine, 'disconnects');
        this.#attempt += 1;
        this.#end?.close();
        this.#end = null;
        this.#feed.abort();
        this.#replicas.abort();
        return;
      case 'send':
        if (effect.message.type !== 'pong') log.note(this.machine, `sends ${JSON.stringify(effect.message).slice(0, 140)}`);
        this.#end?.sendControl(effect.message);
        return;
      case 'describe':
        return;
      case 'prepare':
        this.#trainer = new CpuTrainer(this.world.run.settings, this.world.run.memo);
        return;
      case 'readHistory':
        return this.#readHistory(effect);
      case 'follow':
        log.note(this.machine, `follows from step ${effect.step}`);
        return this.#follow(effect);
      case 'keepPiece':
        return this.#keepPiece(effect);
      case 'completeSuccession':
        return this.#completeSuccession(effect.step);
      case 'endSuccession':
        log.note(this.machine, 'follows no more');
        this.#arriving = null;
        return;
      case 'takeOver':
        return this.#takeOver(effect.claim);
      case 'lead': {
        const { reign, term } = effect;
        const trainer = this.#trainer;
        this.#options.leads({ term, wasForgotten: this.#wasForgotten }, reign === null || trainer === null ? null : { reign, trainer });
        return;
      }
      case 'loadReplica':
        log.note(this.machine, `fetches the replica at ${effect.step}, from [${effect.offer.sources.join()}] too`);
        return this.#replicas.fetch(effect.offer);
      case 'shareReplica':
        return this.#shareReplica(effect.step);
      case 'applyUpdate':
        return this.#applyUpdate(effect);
      case 'compute':
        return this.#compute(effect);
      case 'evaluate':
        return this.#evaluate(effect);
      case 'cancel':
        this.gpu.cancel(effect.assignment);
        return;
      case 'sendContribution':
        return this.#sendContribution(effect);
      case 'discardBlob':
        log.note(this.machine, `discards ${effect.ref}: ${effect.reason}`);
        this.#shelf.take(effect.ref);
        return;
      case 'problem':
        log.note(this.machine, `problem ${effect.problem?.code ?? 'none'}`);
        return;
      case 'save':
        return this.#save();
      case 'declined':
        this.world.declined.add(effect.revision);
        log.note(this.machine, `hears that its command ${effect.revision} is declined: ${effect.reason}`);
        return;
      case 'changed':
        if (this.view.wasWelcomed) this.#tab.computer.rules = this.view.rules;
        return;
    }
  }

  #lookUp(): void {
    this.world.directory.lookUp(this.machine, (lease) => {
      this.#enter(() => {
        if (lease === undefined) this.dispatch({ type: 'directoryUnreachable' });
        else this.dispatch({ type: 'directory', lead: this.#leadOf(lease) });
      });
    });
  }

  #leadOf(lease: Lease | null): DirectoryLead | null {
    if (lease === null) return null;
    const { coordinator, term, expiresInMs, successor } = lease;
    const isHeld = expiresInMs > 0 && coordinator !== this.#tab.address;
    return { coordinator: coordinator as PeerId, term: term as Term, isHeld, hasSuccessor: successor };
  }

  #takeOver({ term, step, isForgotten, isWarm }: LeadClaim): void {
    this.#wasForgotten = isForgotten;
    const { holder } = this.#tab.computer;
    const coordinator = this.#tab.address;
    this.world.log.note(this.machine, `wants to lead from step ${step} ${isForgotten ? `a forgotten room under` : 'after'} term ${term}`);
    const command: Command = isForgotten
      ? { type: 'create', coordinator, holder, term, step, isReclaim: false }
      : { type: 'takeOver', coordinator, holder, expectedTerm: term, step, isWarm };
    this.world.directory.apply(this.machine, command, (outcome) => {
      this.#enter(() => {
        if (outcome === undefined) this.dispatch({ type: 'directoryUnreachable' });
        else if (outcome.ok) this.dispatch({ type: 'leadTaken', term: outcome.lease.term as Term });
        else {
          this.world.log.note(this.machine, `may not lead: ${outcome.refusal}`);
          this.dispatch({ type: 'leadRefused', lead: this.#leadOf(outcome.lease) });
        }
      });
    });
  }

  #follow({ step, corpusBytes }: Extract<MemberEffect, { type: 'follow' }>): void {
    const arriving = { corpus: new Uint8Array(corpusBytes), problem: null as string | null };
    this.#arriving = arriving;
    const asked = this.#trainer;
    this.gpu.submit('follow', gpuMs.take, async () => {
      const from = await this.#stillThere(asked)?.beginFollowing();
      if (from !== undefined && from !== step) this.world.log.fail(`${this.machine} follows from step ${from} instead of ${step}`);
    });
  }

  #keepPiece({ step, part, offset, ref }: Extract<MemberEffect, { type: 'keepPiece' }>): void {
    const arriving = this.#arriving;
    const bytes = this.#shelf.take(ref);
    if (arriving === null) return;
    if (part === 'corpus') {
      arriving.corpus.set(new Uint8Array(bytes), offset);
      return;
    }
    const asked = this.#trainer;
    this.gpu.submit('write', gpuMs.write, async () => {
      await this.#stillThere(asked)?.writeMaster(step, part, offset, bytes).catch((error: unknown) => {
        this.#refused(error);
        arriving.problem = 'the trainer refused it';
      });
    });
  }

  #completeSuccession(step: Step): void {
    const arriving = this.#arriving;
    this.#arriving = null;
    const asked = this.#trainer;
    this.gpu.submit('complete', gpuMs.adopt, async () => {
      const isThere = this.#stillThere(asked) !== null && arriving !== null;
      if (isThere && !sameBytes(arriving.corpus, corpusOf(this.world.run))) this.world.ledger.damaged(`the corpus that ${this.machine} got`);
      const problem = isThere ? arriving.problem : 'the GPU was lost';
      if (problem === null) this.#save();
      this.#enter(() => {
        this.dispatch({ type: 'successionCompleted', step, problem });
      });
    });
  }

  /** A successor saves too, so that it can bring the room back after everybody has left. */
  #save(): void {
    const { world } = this;
    const { term, history } = this.view;
    const asked = this.#trainer;
    this.gpu.submit('save', gpuMs.save, async () => {
      if (!this.isWarm && this.#state.succession?.stage !== 'completing') return;
      // It may follow no more by the time it is this job's turn.
      const state = await this.#stillThere(asked)?.masterState().catch((error: unknown) => this.#ifOutOfStep(error));
      if (state === undefined || state === null) return;
      // The announcements may be behind the weights.
      const { points } = this.#state.succession ?? { points: [] };
      const known = [...history, ...points.filter((point) => point.step >= history.length)].filter((point) => point.step < state.step);
      if (known.length !== state.step) return;
      world.clock.after(diskMs, () => {
        if (!this.#tab.isOpen) return;
        world.log.note(this.machine, `saved step ${state.step} as successor`);
        const facts = { room: 'room', term, step: state.step, savedAtMs: world.clock.nowMs, startedAtMs: 0, loss: null };
        this.#tab.computer.disk = { ...facts, history: JSON.stringify(known), state };
        this.#enter(() => {
          this.dispatch({ type: 'saved', saved: { step: state.step as Step, term } });
        });
      });
    });
  }

  #readHistory(effect: Extract<MemberEffect, { type: 'readHistory' }>): void {
    const bytes = this.#shelf.take(effect.ref);
    let points;
    try {
      points = decodeHistory(bytes, effect);
    } catch (error) {
      if (!(error instanceof HistoryError)) throw error;
      return this.#distrust();
    }
    this.dispatch({ type: 'historyRead', ref: effect.ref, points });
  }

  #distrust(): void {
    this.#attempt += 1;
    this.#end?.close();
    this.#end = null;
    this.#feed.abort();
    this.dispatch({ type: 'disconnected', reason: 'what it sent is not valid' });
    this.#replicas.abort();
  }

  #connect(coordinator: PeerId): void {
    this.#attempt += 1;
    const attempt = this.#attempt;
    const whileCurrent = (action: () => void): void => {
      this.#enter(() => {
        if (attempt === this.#attempt) action();
      });
    };
    const handlers: Handlers = {
      control: (json) => {
        whileCurrent(() => {
          const message = v.safeParse(coordinatorMessageSchema, json);
          if (!message.success) return this.#distrust();
          if (message.output.type === 'missing') this.#replicas.missing(message.output);
          if (message.output.type === 'feed' && message.output.term === this.#state.room?.term) this.#feed.feed(message.output.from);
          this.dispatch({ type: 'message', message: message.output });
        });
      },
      blob: (json, bytes) => {
        whileCurrent(() => {
          const header = v.safeParse(coordinatorBlobSchema, json);
          if (header.success) this.#blobArrived(header.output, bytes);
          else this.#distrust();
        });
      },
      closed: (reason) => {
        whileCurrent(() => {
          this.#end = null;
          this.#feed.abort();
          this.dispatch({ type: 'disconnected', reason });
          this.#replicas.abort();
        });
      },
    };
    this.world.network.connect({ machine: this.machine, address: this.#tab.address }, coordinator, handlers, (end) => {
      if (!this.isOpen || attempt !== this.#attempt) return end?.close();
      whileCurrent(() => {
        this.#end = end;
        if (end !== null) this.dispatch({ type: 'connected', coordinator });
        else this.dispatch({ type: 'connectFailed', problem: { code: 'connection-failed', message: 'ICE failed.' } });
      });
    });
  }

  #blobArrived(header: CoordinatorBlob, bytes: ArrayBuffer): void {
    if (header.kind === 'pieceHashes') return this.#replicas.hashesArrived(header, bytes);
    if (header.kind === 'replicaPiece') return this.#replicas.pieceArrived(header, bytes);
    this.#feed.arrived(header, bytes);
  }

  #connectFeed(peer: PeerId, handlers: FeedHandlers, opened: (line: FeedLine | null) => void): void {
    const entered: Handlers = {
      control: (json) => {
        this.#enter(() => handlers.control(json));
      },
      blob: (json, bytes) => {
        this.#enter(() => handlers.blob(json, bytes));
      },
      closed: () => {
        this.#enter(() => handlers.closed());
      },
    };
    this.world.network.connect({ machine: this.machine, address: this.#tab.address }, peer, entered, (end) => {
      if (!this.isOpen) return end?.close();
      this.#enter(() => opened(end === null ? null : this.#lineOf(end)));
    });
  }

  #lineOf(end: End): FeedLine {
    return {
      control: (message) => end.sendControl(message),
      piece: (header, bytes) => {
        if (this.#misrelays === 'garbage') end.sendBlob(header, Uint8Array.from(new Uint8Array(bytes), (byte) => byte ^ 0xff).buffer);
        else if (this.#misrelays === 'late') this.world.clock.after(lateRelayMs, () => end.sendBlob(header, bytes));
        else if (this.#misrelays === null) end.sendBlob(header, bytes);
      },
      close: () => end.close(),
    };
  }

  misrelay(how: Misrelay, durationMs: number): void {
    this.#misrelays = how;
    this.world.clock.after(durationMs, () => {
      this.#misrelays = null;
    });
  }

  #shareReplica(step: Step): void {
    const asked = this.#trainer;
    const { term } = this.view;
    this.gpu.submit('share', gpuMs.take, async () => {
      const replica = await this.#stillThere(asked)?.replica();
      if (replica?.step === step) this.#replicas.share(term, step, replica.bytes);
    });
  }

  #loadReplica(step: Step, bytes: ArrayBuffer): void {
    const { term } = this.view;
    this.#load(step, (trainer) => trainer.loadReplica(step, bytes), (hash) => {
      this.world.ledger.replicaHeld(this.machine, term, step, hash);
      return { type: 'replicaLoaded', step, hash };
    });
  }

  #applyUpdate({ step, ref, followed }: Extract<MemberEffect, { type: 'applyUpdate' }>): void {
    const { term } = this.view;
    const bytes = this.#shelf.take(ref);
    const gradient = followed === null ? undefined : { gradient: this.#shelf.take(followed.ref), weightSum: followed.weightSum, learningRate: followed.learningRate };
    this.#load(step, (trainer) => trainer.applyUpdate(step, bytes, gradient), (hash) => {
      this.world.ledger.replicaHeld(this.machine, term, step + 1, hash);
      return { type: 'updateApplied', step, hash };
    });
  }

  #load(step: Step, load: (trainer: CpuTrainer) => Promise<string>, loaded: (hash: string) => MemberEvent): void {
    const asked = this.#trainer;
    this.gpu.submit('load', gpuMs.load, async () => {
      // A lost GPU refuses everything, also before its loss is reported.
      const trainer = this.#stillThere(asked);
      const hash = trainer === null ? null : await load(trainer).catch((error: unknown) => this.#refused(error));
      if (hash === null) {
        return this.#enter(() => {
          this.dispatch({ type: 'replicaFailed', step, reason: 'the trainer refused it' });
        });
      }
      const event = loaded(hash);
      this.#enter(() => {
        this.dispatch(event);
      });
      if (event.type === 'updateApplied' && this.isWarm && (step + 1) % saveEverySteps === 0) this.#save();
    });
  }

  #compute({ assignment, step, microbatches, changes, ref }: Extract<MemberEffect, { type: 'compute' }>): void {
    const { ledger } = this.world;
    const bytes = this.#shelf.take(ref);
    const result = { type: 'computed', assignment, step, computeMs: microbatches.length * this.gpu.msPerMicrobatch, tokens: 1 } as const;
    const asked = this.#trainer;
    this.gpu.submit(assignment, microbatches.length * this.gpu.msPerMicrobatch, async (isCancelled) => {
      const job = isCancelled ? null : this.#decode(bytes, microbatches);
      const trainer = this.#stillThere(asked);
      if (job === null || trainer === null) {
        return this.#enter(() => {
          this.dispatch({ ...result, lossSum: 0, weightSum: 0, failed: true });
        });
      }
      const computed = trainer.computeGradients({ assignment, step, changes, microbatches: job });
      const sums = await computed.catch((error: unknown) => this.#refused(error));
      if (sums === null) {
        return this.#enter(() => {
          this.dispatch({ ...result, lossSum: 0, weightSum: 0, failed: true });
        });
      }
      const { lossSum, weightSum } = sums;
      const work = ledger.workIn(bytes);
      this.#held = work === null ? null : { ...work, replicaHash: trainer.hash, by: this.machine };
      this.#enter(() => {
        this.dispatch({ ...result, lossSum, weightSum, failed: false });
      });
    });
  }

  /** A call made before the GPU was lost is not answered by the one opened after it. */
  #stillThere(asked: CpuTrainer | null): CpuTrainer | null {
    return asked === this.#trainer ? asked : null;
  }

  #ifOutOfStep(error: unknown): null {
    if (error instanceof RangeError) return null;
    throw error;
  }

  /** An honest network never makes the trainer refuse anything. */
  #refused(error: unknown): null {
    if (this.world.network.faults.corrupt === 0) throw error;
    return null;
  }

  #evaluate({ assignment, microbatches, ref }: Extract<MemberEffect, { type: 'evaluate' }>): void {
    const bytes = this.#shelf.take(ref);
    const asked = this.#trainer;
    const indices = Array.from({ length: microbatches }, (_, index) => index);
    this.gpu.submit(assignment, microbatches * this.gpu.msPerMicrobatch * forwardShare, async (isCancelled) => {
      const rows = isCancelled ? null : this.#decode(bytes, indices);
      const trainer = this.#stillThere(asked);
      const sums = rows === null || trainer === null ? null : await evaluatedSums(trainer, rows.map((each) => each.rows));
      this.#enter(() => {
        this.dispatch({ type: 'evaluated', assignment, ...(sums ?? { lossSum: 0, weightSum: 0 }), failed: sums === null });
      });
    });
  }

  #decode(bytes: ArrayBuffer, microbatches: readonly number[]) {
    const { settings } = this.world.run;
    const expected = {
      microbatches: microbatches.length,
      rows: settings.rowsPerMicrobatch,
      contextLength: settings.contextLength,
      vocabularySize: settings.model.vocab_size,
      keepDocumentsApart: settings.keepDocumentsApart ?? false,
    };
    try {
      return decodeRows(bytes, expected).map((rows, at) => ({ index: microbatches[at] ?? 0, rows }));
    } catch (error) {
      if (error instanceof RowsError) return null;
      throw error;
    }
  }

  #sendContribution({ header, codec }: Extract<MemberEffect, { type: 'sendContribution' }>): void {
    const end = this.#end;
    const truth = this.#held;
    const asked = this.#trainer;
    this.gpu.submit('take', gpuMs.take, async () => {
      const trainer = this.#stillThere(asked);
      if (trainer === null || end === null) return;
      const bytes = await trainer.takeContribution(header.assignment, codec ?? undefined);
      if (truth !== null) this.world.ledger.contributionEncoded(bytes, truth);
      for (const sent of this.#options.lie?.(header, bytes) ?? [{ header, bytes }]) end.sendBlob(sent.header, sent.bytes);
    });
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((value, at) => value === b[at]);
}
