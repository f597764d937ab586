/**
 * Drives a member's (or watcher's) machine: looks the room up, connects, feeds the trainer, sends contributions.
 * Decides nothing about the room.
 */
import * as v from 'valibot';
import { createMember, memberStep, memberView } from '../room/member.ts';
import type { CheckpointFacts } from '../checkpoint/types.ts';
import type { DirectoryLead, LeadClaim, MemberConfig, MemberEffect, MemberEvent, MemberView, WarmReign } from '../room/machine.ts';
import { coordinatorBlobSchema, coordinatorMessageSchema } from '../room/messages.ts';
import type { MemberBlob, PeerDevice, PeerId, Step, Term } from '../room/messages.ts';
import type { Problem, Trainer } from '../trainer/types.ts';
import type { TransportCode } from '../transport/problems.ts';
import type { Connection, ConnectionHandlers, Endpoint } from '../transport/types.ts';
import { BlobShelf } from './blobs.ts';
import type { DirectoryClient, Lease } from './directory-client.ts';
import { HistoryError, decodeHistory } from './history.ts';
import { InheritanceBuilder, decodeCorpus } from './inheritance.ts';
import type { ClaimOutcome } from './lease.ts';
import { explain, problemOf, storageProblemOf } from './problems.ts';
import { decodeRows } from './rows.ts';
import { parseRun, precisionNotice, trainerSettings } from './run.ts';
import type { RunDescription } from './run.ts';

/** What this page keeps for the day it leads. */
export interface Heir {
  /** Stores run and corpus; whoever follows may have to bring the room back from them. */
  keepRun(run: RunDescription, tokens: Uint32Array): Promise<void>;
  saveCheckpoint(facts: Omit<CheckpointFacts, 'room'>): Promise<void>;
  claim(claim: LeadClaim): Promise<ClaimOutcome>;
  /** `warm` null: from what this browser has saved. */
  leads(term: Term, warm: { readonly reign: WarmReign; readonly tokens: Uint32Array } | null): void;
}

export interface MemberOptions {
  readonly config: MemberConfig;
  readonly heir: Heir;
  /** Where others reach this page; null while signalling is down. */
  readonly ownId: () => string | null;
  readonly directory: DirectoryClient;
  /** Resolves when signalling is up; asked for at every attempt to connect. */
  readonly endpoint: () => Promise<Endpoint>;
  /** null for a watcher: nothing is ever loaded or computed. */
  readonly trainer: Trainer | null;
  readonly nowMs: () => number;
  readonly changed: () => void;
  readonly problem: (problem: Problem | null) => void;
  readonly notice: (text: string) => void;
  /** A command of this page's own was not carried out. */
  readonly declined: (answer: Extract<MemberEffect, { type: 'declined' }>) => void;
  readonly run: (run: RunDescription) => void;
}

/** As often as a leader saves. */
const saveEveryMs = 15_000;

const finalCodes: ReadonlySet<string> = new Set<TransportCode>(['wrong-key', 'version-mismatch']);

export class MemberDriver {
  readonly #options: MemberOptions;
  readonly #blobs = new BlobShelf();
  readonly #events: MemberEvent[] = [];
  #state;
  #trainer: Trainer | null;
  #connection: Connection | null = null;
  /** Grows with every attempt to connect, so that what comes of an older one is ignored. */
  #attempt = 0;
  #run: RunDescription | null = null;
  #runProblem: Problem | null = null;
  /** What the trainer was told to plan. */
  #planned: RunDescription | null = null;
  #isDispatching = false;
  #closed = false;
  #lastContribution: Promise<void> = Promise.resolve();
  /** Of the planned run's moments; null until it is planned. */
  #flatBytes: number | null = null;
  #inheritance: InheritanceBuilder | null = null;
  /** Of a successor: what batches are drawn from. */
  #tokens: Uint32Array | null = null;
  #savedAtMs = 0;

  constructor(options: MemberOptions) {
    this.#options = options;
    this.#trainer = options.trainer;
    const { state, effects } = createMember(options.config, options.nowMs());
    this.#state = state;
    for (const effect of effects) this.#carry(effect);
  }

  get view(): MemberView {
    return memberView(this.#state);
  }

  /** The one to the coordinator, under the id that it has in the table of peers: it may be reached under a newer one. */
  get connections(): ReadonlyMap<PeerId, Connection> {
    const connection = this.#connection;
    if (connection === null) return new Map();
    const row = this.view.peers.find(({ role }) => role === 'coordinator');
    return new Map([[row?.id ?? (connection.remoteId as PeerId), connection]]);
  }

  dispatch(event: MemberEvent): void {
    if (this.#closed) return;
    this.#events.push(event);
    if (this.#isDispatching) return; // An effect raised it: it comes after the effects of the event before.
    this.#isDispatching = true;
    try {
      for (let next = this.#events.shift(); next; next = this.#events.shift()) {
        const { state, effects } = memberStep(this.#state, next, this.#options.nowMs());
        this.#state = state;
        for (const effect of effects) this.#carry(effect);
      }
    } finally {
      this.#isDispatching = false;
    }
  }

  /** After the GPU was lost and opened again (or not): `trainer` replaces the old one, and needs the plan and a replica. */
  replaceTrainer(trainer: Trainer, device: PeerDevice): void {
    this.#trainer = trainer;
    if (this.#run) this.#plan(this.#run);
    this.dispatch({ type: 'device', device });
  }

  /** Hands unfinished work back and says goodbye; resolves when that was handed to the connection. */
  async leave(): Promise<void> {
    this.dispatch({ type: 'command', command: 'leave' });
    await this.#lastContribution;
    this.close('left');
  }

  close(reason: string): void {
    this.#closed = true;
    this.#connection?.close(reason);
    this.#connection = null;
  }

  #carry(effect: MemberEffect): void {
    switch (effect.type) {
      case 'lookUp':
        void this.#lookUp();
        return;
      case 'connect':
        void this.#connect(effect.coordinator);
        return;
      case 'disconnect':
        this.#attempt++;
        this.#connection?.close('disconnected');
        this.#connection = null;
        return;
      case 'send':
        this.#connection?.sendControl(effect.message);
        return;
      case 'describe':
        this.#describe(effect.run);
        return;
      case 'prepare':
        this.#prepare();
        return;
      case 'readHistory':
        this.#readHistory(effect);
        return;
      case 'follow':
        this.#follow(effect);
        return;
      case 'keepPiece':
        this.#inheritance?.put(effect.part, effect.offset, this.#blobs.take(effect.ref));
        return;
      case 'completeSuccession':
        void this.#completeSuccession(effect.step);
        return;
      case 'endSuccession':
        this.#inheritance = null;
        this.#tokens = null;
        return;
      case 'takeOver':
        void this.#takeOver(effect.claim);
        return;
      case 'lead':
        this.#options.heir.leads(effect.term, effect.reign === null || this.#tokens === null ? null : { reign: effect.reign, tokens: this.#tokens });
        return;
      case 'loadReplica':
      case 'applyUpdate':
        this.#load(effect);
        return;
      case 'compute':
        this.#compute(effect);
        return;
      case 'cancel':
        this.#trainer?.cancel(effect.assignment);
        return;
      case 'sendContribution':
        this.#sendContribution(effect.header);
        return;
      case 'discardBlob':
        this.#blobs.discard(effect.ref);
        return;
      case 'save':
        this.#saveAsSuccessor();
        return;
      case 'declined':
        this.#options.declined(effect);
        return;
      case 'changed':
        this.#options.changed();
        return;
      case 'problem':
        this.#options.problem(effect.problem === null ? null : explain(effect.problem));
        return;
    }
  }

  async #lookUp(): Promise<void> {
    try {
      const lease = await this.#options.directory.lookUp();
      this.dispatch({ type: 'directory', lead: lease === null ? null : this.#leadOf(lease) });
    } catch {
      this.dispatch({ type: 'directoryUnreachable' });
    }
  }

  /** A lease that was released or ran out names nobody who could be connected to; neither does this page's own, of which it was not told. */
  #leadOf({ coordinator, term, expiresInMs, successor }: Lease): DirectoryLead {
    const isHeld = expiresInMs > 0 && coordinator !== this.#options.ownId();
    return { coordinator: coordinator as PeerId, term: term as Term, isHeld, hasSuccessor: successor };
  }

  async #takeOver(claim: LeadClaim): Promise<void> {
    const outcome = await this.#options.heir.claim(claim).catch((error: unknown): ClaimOutcome => {
      this.#options.problem(problemOf(error));
      return { kind: 'unreachable' };
    });
    switch (outcome.kind) {
      case 'led':
        this.dispatch({ type: 'leadTaken', term: outcome.term as Term });
        return;
      case 'led-by-other':
        this.dispatch({ type: 'leadRefused', lead: this.#leadOf(outcome.lease) });
        return;
      case 'wait':
      case 'forgotten':
        this.dispatch({ type: 'leadRefused', lead: null });
        return;
      case 'unreachable':
        this.dispatch({ type: 'directoryUnreachable' });
        return;
    }
  }

  #follow({ step, momentsBytes, corpusBytes }: Extract<MemberEffect, { type: 'follow' }>): void {
    const refuse = (error: unknown): void => {
      this.#inheritance = null;
      this.dispatch({ type: 'successionCompleted', step, problem: error instanceof Error ? error.message : String(error) });
    };
    try {
      this.#inheritance = new InheritanceBuilder({ momentsBytes, corpusBytes }, this.#flatBytes ?? 0);
    } catch (error) {
      refuse(error);
      return;
    }
    this.#trainer?.beginFollowing().catch(refuse);
  }

  async #completeSuccession(step: Step): Promise<void> {
    const builder = this.#inheritance;
    const run = this.#run;
    this.#inheritance = null;
    if (builder === null || run === null || this.#trainer === null) return;
    try {
      const { firstMoments, secondMoments, corpus } = builder.whole();
      const tokens = decodeCorpus(corpus, run.settings.model.vocab_size);
      await this.#trainer.adoptMoments(step, firstMoments, secondMoments);
      await this.#options.heir.keepRun(run, tokens);
      this.#tokens = tokens;
      this.dispatch({ type: 'successionCompleted', step, problem: null });
      this.#saveAsSuccessor();
    } catch (error) {
      this.dispatch({ type: 'successionCompleted', step, problem: error instanceof Error ? error.message : String(error) });
    }
  }

  /** A successor saves too: when everybody has left, it can bring the room back. Weights may be a step ahead of what was announced. */
  #saveAsSuccessor(): void {
    const { room, succession, replica } = this.#state;
    if (room === null || replica === null || succession?.stage !== 'warm') return;
    const nowMs = this.#options.nowMs();
    this.#savedAtMs = nowMs;
    const known = new Map([...room.history, ...succession.points].map((point) => [point.step, point]));
    const history = [...known.values()].filter((point) => point.step < replica.step).sort((a, b) => a.step - b.step);
    const { term, startedAtMs } = room;
    const { step } = replica;
    const loss = history.at(-1)?.loss ?? null;
    this.#options.heir.saveCheckpoint({ term, step, savedAtMs: Date.now(), startedAtMs, loss, history: JSON.stringify(history) }).then(
      () => {
        this.dispatch({ type: 'saved', saved: { step, term } });
      },
      (error: unknown) => {
        // By name, since it crossed the worker's border: a step was applied in between, whose checkpoint follows.
        if (!(error instanceof Error && error.name === 'RangeError')) this.#options.problem(storageProblemOf(error));
      },
    );
  }

  async #connect(coordinator: PeerId): Promise<void> {
    const attempt = ++this.#attempt;
    const isCurrent = (): boolean => attempt === this.#attempt && !this.#closed;
    const handlers: ConnectionHandlers = {
      control: (json) => {
        if (!isCurrent()) return;
        const message = v.safeParse(coordinatorMessageSchema, json);
        if (message.success) this.dispatch({ type: 'message', message: message.output });
        else this.#distrust('a message');
      },
      blob: (json, bytes) => {
        if (!isCurrent()) return;
        const header = v.safeParse(coordinatorBlobSchema, json);
        if (header.success) this.dispatch({ type: 'blob', header: header.output, ref: this.#blobs.put(bytes), bytes: bytes.byteLength });
        else this.#distrust('data');
      },
      closed: (reason) => {
        if (!isCurrent()) return;
        this.#connection = null;
        this.dispatch({ type: 'disconnected', reason });
      },
    };
    try {
      const endpoint = await this.#options.endpoint();
      const connection = await endpoint.connect(coordinator, handlers);
      if (!isCurrent()) {
        connection.close('not needed any more');
        return;
      }
      this.#connection = connection;
      this.dispatch({ type: 'connected', coordinator });
    } catch (error) {
      if (!isCurrent()) return;
      const problem = problemOf(error);
      this.dispatch({ type: 'connectFailed', problem, isFinal: finalCodes.has(problem.code) });
    }
  }

  #distrust(what: string): void {
    this.#options.notice(`The coordinator sent ${what} that this page does not understand; connecting again.`);
    this.#attempt++;
    this.#connection?.close('sent something that could not be understood');
    this.#connection = null;
    this.dispatch({ type: 'disconnected', reason: `${what} could not be understood` });
  }

  #readHistory(effect: Extract<MemberEffect, { type: 'readHistory' }>): void {
    const bytes = this.#blobs.take(effect.ref);
    let points;
    try {
      points = decodeHistory(bytes, effect);
    } catch (error) {
      if (!(error instanceof HistoryError)) throw error;
      this.#distrust('a history');
      return;
    }
    this.dispatch({ type: 'historyRead', ref: effect.ref, points });
  }

  #describe(serialized: string): void {
    this.#runProblem = null;
    try {
      this.#run = parseRun(serialized);
      this.#options.run(this.#run);
    } catch (error) {
      this.#run = null;
      this.#runProblem = problemOf(error);
      this.#options.problem(this.#runProblem);
    }
  }

  #prepare(): void {
    if (this.#runProblem) this.#stopComputing(this.#runProblem);
    else if (this.#run && this.#run !== this.#planned) this.#plan(this.#run);
  }

  #plan(run: RunDescription): void {
    this.#planned = run;
    this.#trainer?.prepare(trainerSettings(run)).then(
      ({ precision, flatElements }) => {
        this.#flatBytes = flatElements * Float32Array.BYTES_PER_ELEMENT;
        const differs = precisionNotice(run.settings.precision, precision);
        if (differs !== null) this.#options.notice(differs);
      },
      (error: unknown) => {
        this.#stopComputing(problemOf(error));
      },
    );
  }

  #stopComputing(reason: Problem): void {
    this.#options.problem(reason);
    const { code, message } = reason;
    this.dispatch({ type: 'device', device: { ...this.#options.config.device, problem: { code, message } } });
  }

  #load(effect: Extract<MemberEffect, { type: 'loadReplica' | 'applyUpdate' }>): void {
    const bytes = this.#blobs.take(effect.ref);
    const isReplica = effect.type === 'loadReplica';
    const followed = isReplica || effect.followed === null ? undefined : { gradient: this.#blobs.take(effect.followed.ref), weightSum: effect.followed.weightSum };
    if (!this.#trainer) return;
    const { step } = effect;
    const loaded = isReplica ? this.#trainer.loadReplica(step, bytes) : this.#trainer.applyUpdate(step, bytes, followed);
    loaded.then(
      (hash) => {
        this.dispatch(isReplica ? { type: 'replicaLoaded', step, hash } : { type: 'updateApplied', step, hash });
        if (this.#options.nowMs() - this.#savedAtMs > saveEveryMs) this.#saveAsSuccessor();
      },
      (error: unknown) => {
        this.dispatch({ type: 'replicaFailed', step, reason: error instanceof Error ? error.message : String(error) });
      },
    );
  }

  #compute({ assignment, step, microbatches, ref }: Extract<MemberEffect, { type: 'compute' }>): void {
    const bytes = this.#blobs.take(ref);
    const failed = { type: 'computed', assignment, step, lossSum: 0, weightSum: 0, computeMs: 0, tokens: 0, failed: true } as const;
    if (!this.#trainer || !this.#run) {
      this.dispatch(failed);
      return;
    }
    const { rowsPerMicrobatch: rows, contextLength, model } = this.#run.settings;
    let job;
    try {
      const decoded = decodeRows(bytes, {
        microbatches: microbatches.length,
        rows,
        contextLength,
        vocabularySize: model.vocab_size,
      });
      job = { assignment, step, microbatches: decoded.map((each, at) => ({ index: microbatches[at] ?? 0, rows: each })) };
    } catch (error) {
      this.#options.notice(`Work from the coordinator was not valid: ${error instanceof Error ? error.message : String(error)}.`);
      this.dispatch(failed);
      return;
    }
    this.#trainer.computeGradients(job).then(
      ({ cancelled, lossSum, weightSum, computeMs, tokens }) => {
        if (cancelled) {
          this.dispatch(failed);
          return;
        }
        this.dispatch({ type: 'computed', assignment, step, lossSum, weightSum, computeMs, tokens, failed: false });
      },
      (error: unknown) => {
        this.#options.problem(problemOf(error));
        this.dispatch(failed);
      },
    );
  }

  #sendContribution(header: MemberBlob): void {
    const { trainer, connection } = { trainer: this.#trainer, connection: this.#connection };
    if (!trainer || !connection) return;
    this.#lastContribution = trainer
      .takeContribution(header.assignment)
      .then((bytes) => connection.sendBlob(header, bytes))
      // A lost GPU is reported by `whenLost`, a lost connection by itself; the coordinator re-assigns either way.
      .catch(() => undefined);
  }
}
