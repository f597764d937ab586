/**
 * Drives a member's (or watcher's) machine: looks the room up, connects, feeds the trainer, sends contributions.
 * Decides nothing about the room.
 */
import { createMember, memberStep, memberView } from '../room/member.ts';
import type { PieceCache } from '../checkpoint/piece-cache.ts';
import type { DirectoryLead, LeadClaim, MemberConfig, MemberEffect, MemberEvent, MemberView } from '../room/machine.ts';
import type { CoordinatorBlob, PeerDevice, PeerId, Step, Term } from '../room/messages.ts';
import type { Problem, Trainer } from '../trainer/types.ts';
import type { Connection, ConnectionHandlers, Endpoint } from '../transport/types.ts';
import { BlobShelf } from './blobs.ts';
import { CoordinatorLink } from './coordinator-link.ts';
import type { DirectoryClient, Lease } from './directory-client.ts';
import { Succession } from './heir.ts';
import type { Heir } from './heir.ts';
import { HistoryError, decodeHistory } from './history.ts';
import type { ClaimOutcome } from './lease.ts';
import { explain, problemOf } from './problems.ts';
import { decodeRows } from './rows.ts';
import { evaluatedSums } from './evaluation.ts';
import type { MicrobatchRows } from '../data/types.ts';
import { ReplicaExchange } from './replica-exchange.ts';
import { UpdateFeed, mostUpdatePieceBytes } from './update-feed.ts';
import type { FeedHandlers, FeedLine } from './update-feed.ts';
import { hexOfHash } from './replica-fetch.ts';
import { parseRun, precisionNotice, trainerSettings } from './run.ts';
import type { RunDescription } from './run.ts';

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
  /** What was fetched before. */
  readonly pieces: PieceCache;
  readonly nowMs: () => number;
  readonly changed: () => void;
  readonly problem: (problem: Problem | null) => void;
  readonly notice: (text: string) => void;
  /** A command of this page's own was not carried out. */
  readonly declined: (answer: Extract<MemberEffect, { type: 'declined' }>) => void;
  readonly run: (run: RunDescription) => void;
}

export class MemberDriver {
  readonly #options: MemberOptions;
  readonly #blobs = new BlobShelf();
  readonly #events: MemberEvent[] = [];
  #state;
  #trainer: Trainer | null;
  #run: RunDescription | null = null;
  #runProblem: Problem | null = null;
  /** What the trainer was told to plan. */
  #planned: RunDescription | null = null;
  #isDispatching = false;
  #closed = false;
  #lastContribution: Promise<void> = Promise.resolve();
  /** Of each part of the planned run's master state; null until it is planned. */
  #flatBytes: number | null = null;
  readonly #link: CoordinatorLink;
  readonly #replicas: ReplicaExchange;
  readonly #feed: UpdateFeed;
  readonly #succession: Succession;

  constructor(options: MemberOptions) {
    this.#options = options;
    this.#trainer = options.trainer;
    this.#replicas = new ReplicaExchange({
      cache: options.pieces,
      askCoordinator: (want) => {
        this.#link.send(want);
      },
      connect: async (peer, handlers) => (await options.endpoint()).connect(peer, handlers),
      nowMs: options.nowMs,
      fetched: (step, bytes) => {
        this.#loadReplica(step, bytes);
      },
      failed: (step, reason) => {
        this.dispatch({ type: 'replicaFailed', step, reason });
      },
      subscribed: (connection, message) => {
        const line = lineOf(connection);
        this.#feed.subscribed(line, message);
        return () => {
          this.#feed.left(line);
        };
      },
    });
    this.#feed = new UpdateFeed({
      term: () => (this.#link.connection === null ? null : (this.#state.room?.term ?? null)),
      connect: (peer, handlers, opened) => {
        void this.#connectFeed(peer, handlers, opened);
      },
      hash: (bytes, done) => {
        void hexOfHash(bytes).then(done);
      },
      deliver: (header, bytes) => {
        this.dispatch({ type: 'blob', header, ref: this.#blobs.put(bytes), bytes: bytes.byteLength });
      },
      tell: (message) => {
        this.#link.send(message);
      },
      distrust: () => {
        this.#link.distrust('an update');
      },
      nowMs: options.nowMs,
    });
    this.#link = new CoordinatorLink({
      endpoint: options.endpoint,
      message: (message) => {
        if (message.type === 'missing') this.#replicas.missing(message);
        if (message.type === 'feed' && message.term === this.#state.room?.term) this.#feed.feed(message.from);
        this.dispatch({ type: 'message', message });
      },
      blob: (header, bytes) => {
        this.#blobArrived(header, bytes);
      },
      connected: (coordinator) => {
        this.dispatch({ type: 'connected', coordinator });
      },
      failed: (problem, isFinal) => {
        this.dispatch({ type: 'connectFailed', problem, isFinal });
      },
      lost: (reason, distrusted) => {
        if (distrusted !== null) options.notice(`The coordinator sent ${distrusted} that this page does not understand; connecting again.`);
        this.#feed.abort();
        this.dispatch({ type: 'disconnected', reason });
        this.#replicas.abort();
      },
    });
    this.#succession = new Succession({
      heir: options.heir,
      trainer: () => this.#trainer,
      state: () => this.#state,
      dispatch: (event) => {
        this.dispatch(event);
      },
      problem: options.problem,
      nowMs: options.nowMs,
    });
    const { state, effects } = createMember(options.config, options.nowMs());
    this.#state = state;
    for (const effect of effects) this.#carry(effect);
  }

  get view(): MemberView {
    return memberView(this.#state);
  }

  /** The one to the coordinator, under the id that it has in the table of peers: it may be reached under a newer one. */
  get connections(): ReadonlyMap<PeerId, Connection> {
    const { connection } = this.#link;
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
        if (next.type === 'tick') {
          this.#replicas.tick();
          this.#feed.tick();
        }
      }
    } finally {
      this.#isDispatching = false;
    }
  }

  /** After the GPU was lost and opened again (or not): `trainer` replaces the old one, and needs the plan and a replica. */
  replaceTrainer(trainer: Trainer, device: PeerDevice): void {
    this.#trainer = trainer;
    this.#replicas.abort();
    if (this.#run) this.#plan(this.#run);
    this.dispatch({ type: 'device', device });
  }

  /** For `EndpointOptions.accept`: a peer whose key is proved; it may fetch copies that are kept here, or have updates forwarded. */
  accept(connection: Connection): ConnectionHandlers {
    return this.#replicas.accept(connection);
  }

  /** Hands unfinished work back and says goodbye; resolves when that was handed to the connection. */
  async leave(): Promise<void> {
    this.dispatch({ type: 'command', command: 'leave' });
    await this.#lastContribution;
    this.close('left');
  }

  close(reason: string): void {
    this.#closed = true;
    this.#feed.abort();
    this.#replicas.close();
    this.#link.close(reason);
  }

  #carry(effect: MemberEffect): void {
    switch (effect.type) {
      case 'lookUp':
        void this.#lookUp();
        return;
      case 'connect':
        void this.#link.connect(effect.coordinator);
        return;
      case 'disconnect':
        this.#link.close('disconnected');
        this.#feed.abort();
        this.#replicas.abort();
        return;
      case 'send':
        this.#link.send(effect.message);
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
        this.#succession.follow(effect, this.#run, this.#flatBytes ?? 0);
        return;
      case 'keepPiece':
        this.#succession.keepPiece(effect, this.#blobs.take(effect.ref));
        return;
      case 'completeSuccession':
        void this.#succession.complete(effect.step, this.#run);
        return;
      case 'endSuccession':
        this.#succession.end();
        return;
      case 'takeOver':
        void this.#takeOver(effect.claim);
        return;
      case 'lead':
        this.#succession.lead(effect.term, effect.reign);
        return;
      case 'loadReplica':
        this.#replicas.fetch(effect);
        return;
      case 'shareReplica':
        this.#shareReplica(effect.step);
        return;
      case 'applyUpdate':
        this.#applyUpdate(effect);
        return;
      case 'compute':
        this.#compute(effect);
        return;
      case 'evaluate':
        this.#evaluate(effect);
        return;
      case 'cancel':
        this.#trainer?.cancel(effect.assignment);
        return;
      case 'sendContribution':
        this.#sendContribution(effect);
        return;
      case 'discardBlob':
        this.#blobs.discard(effect.ref);
        return;
      case 'save':
        this.#succession.save();
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

  #readHistory(effect: Extract<MemberEffect, { type: 'readHistory' }>): void {
    const bytes = this.#blobs.take(effect.ref);
    let points;
    try {
      points = decodeHistory(bytes, effect);
    } catch (error) {
      if (!(error instanceof HistoryError)) throw error;
      this.#link.distrust('a history');
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

  #blobArrived(header: CoordinatorBlob, bytes: ArrayBuffer): void {
    switch (header.kind) {
      case 'pieceHashes':
        this.#replicas.hashesArrived(header, bytes);
        return;
      case 'replicaPiece':
        this.#replicas.pieceArrived(header, bytes);
        return;
      default:
        this.#feed.arrived(header, bytes);
    }
  }

  async #connectFeed(peer: PeerId, handlers: FeedHandlers, opened: (line: FeedLine | null) => void): Promise<void> {
    try {
      const endpoint = await this.#options.endpoint();
      opened(lineOf(await endpoint.connect(peer, { maxBlobBytes: mostUpdatePieceBytes, ...handlers })));
    } catch {
      opened(null); // The coordinator is asked for what does not come.
    }
  }

  #shareReplica(step: Step): void {
    const copy = this.#trainer?.replica().then(
      (replica) => (replica.step === step ? replica.bytes : null),
      () => null, // Whoever asks for it hears that it is not here.
    );
    if (copy !== undefined) this.#replicas.share(this.view.term, step, copy);
  }

  #loadReplica(step: Step, bytes: ArrayBuffer): void {
    this.#trainer?.loadReplica(step, bytes).then(
      (hash) => {
        this.dispatch({ type: 'replicaLoaded', step, hash });
      },
      (error: unknown) => {
        this.dispatch({ type: 'replicaFailed', step, reason: error instanceof Error ? error.message : String(error) });
      },
    );
  }

  #applyUpdate({ step, ref, followed: by }: Extract<MemberEffect, { type: 'applyUpdate' }>): void {
    const bytes = this.#blobs.take(ref);
    const followed = by === null ? undefined : { gradient: this.#blobs.take(by.ref), weightSum: by.weightSum, learningRate: by.learningRate };
    this.#trainer?.applyUpdate(step, bytes, followed).then(
      (hash) => {
        this.dispatch({ type: 'updateApplied', step, hash });
        this.#succession.updated();
      },
      (error: unknown) => {
        this.dispatch({ type: 'replicaFailed', step, reason: error instanceof Error ? error.message : String(error) });
      },
    );
  }

  #compute({ assignment, step, microbatches, changes, ref }: Extract<MemberEffect, { type: 'compute' }>): void {
    const bytes = this.#blobs.take(ref);
    const failed = { type: 'computed', assignment, step, lossSum: 0, weightSum: 0, computeMs: 0, tokens: 0, failed: true } as const;
    const decoded = this.#rowsIn(bytes, microbatches.length);
    if (!this.#trainer || decoded === null) {
      this.dispatch(failed);
      return;
    }
    const job = { assignment, step, changes, microbatches: decoded.map((rows, at) => ({ index: microbatches[at] ?? 0, rows })) };
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

  #evaluate({ assignment, microbatches, ref }: Extract<MemberEffect, { type: 'evaluate' }>): void {
    const failed = { type: 'evaluated', assignment, lossSum: 0, weightSum: 0, failed: true } as const;
    const rows = this.#rowsIn(this.#blobs.take(ref), microbatches);
    if (!this.#trainer || rows === null) {
      this.dispatch(failed);
      return;
    }
    evaluatedSums(this.#trainer, rows).then(
      (sums) => {
        this.dispatch({ type: 'evaluated', assignment, ...sums, failed: false });
      },
      (error: unknown) => {
        this.#options.problem(problemOf(error));
        this.dispatch(failed);
      },
    );
  }

  /** Null, and a word about it, when the bytes are not such micro-batches of this run. */
  #rowsIn(bytes: ArrayBuffer, microbatches: number): MicrobatchRows[] | null {
    if (!this.#run) return null;
    const { rowsPerMicrobatch: rows, contextLength, model, keepDocumentsApart } = this.#run.settings;
    try {
      return decodeRows(bytes, { microbatches, rows, contextLength, vocabularySize: model.vocab_size, keepDocumentsApart });
    } catch (error) {
      this.#options.notice(`Work from the coordinator was not valid: ${error instanceof Error ? error.message : String(error)}.`);
      return null;
    }
  }

  #sendContribution({ header, codec }: Extract<MemberEffect, { type: 'sendContribution' }>): void {
    const { trainer, connection } = { trainer: this.#trainer, connection: this.#link.connection };
    if (!trainer || !connection) return;
    this.#lastContribution = trainer
      .takeContribution(header.assignment, codec ?? undefined)
      .then((bytes) => connection.sendBlob(header, bytes))
      // A lost GPU is reported by `whenLost`, a lost connection by itself; the coordinator re-assigns either way.
      .catch(() => undefined);
  }
}

function lineOf(connection: Connection): FeedLine {
  return {
    control: (message) => {
      connection.sendControl(message);
    },
    piece: (header, bytes) => {
      connection.sendBlob(header, bytes).catch(() => undefined); // It is gone, and says so itself.
    },
    close: (reason) => {
      connection.close(reason);
    },
  };
}
