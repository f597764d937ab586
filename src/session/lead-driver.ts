/**
 * Drives the coordinator's machine: carries its effects out on connections, trainer and store, and feeds what happens
 * back as events. Decides nothing about the room.
 */
import * as v from 'valibot';
import type { BatchSource, MicrobatchRows } from '../data/types.ts';
import { coordinatorStep, coordinatorView, createCoordinator } from '../room/coordinator.ts';
import type { CoordinatorConfig, CoordinatorEffect, CoordinatorEvent, CoordinatorView, MasterPart, RoomProblem, SuccessionPart } from '../room/machine.ts';
import { memberBlobSchema, memberMessageSchema } from '../room/messages.ts';
import type { CoordinatorBlob, CoordinatorMessage, MemberMessage, PeerDevice, PeerId, Step } from '../room/messages.ts';
import { orderOf } from '../room/rules.ts';
import type { SignedCommand } from '../room/rules.ts';
import type { RunStorage } from '../trainer/worker-api.ts';
import type { CommitResult, Problem, Trainer } from '../trainer/types.ts';
import type { Connection, ConnectionHandlers } from '../transport/types.ts';
import { BlobShelf } from './blobs.ts';
import { encodeHistory } from './history.ts';
import { Pace, rangesOf } from './inheritance.ts';
import type { SentCorpus } from './inheritance.ts';
import type { LeaseKeeper } from './lease.ts';
import { verifiedCommand } from './owner.ts';
import { explain, problemOf, storageProblemOf } from './problems.ts';
import { ReplicaOffers, hashesOf, maxOpenWants, pieceBytes, pieceCountOf } from './replica-copies.ts';
import { encodeRows } from './rows.ts';
import { evaluatedSums, heldOut } from './evaluation.ts';
import { updatePieceBytesOf } from './update-feed.ts';

export interface LeadOptions {
  readonly config: CoordinatorConfig;
  readonly room: string;
  /** Public key of the room's owner. */
  readonly owner: string | null;
  readonly trainer: Trainer;
  readonly storage: RunStorage;
  readonly source: BatchSource;
  /** What a successor is sent of it, and the size of each part. */
  readonly master: { readonly parts: readonly MasterPart[]; readonly bytes: number };
  /** No honest peer sends more at once. */
  readonly maxBlobBytes: number;
  /** What a successor draws the batches from. */
  readonly corpus: () => SentCorpus;
  readonly lease: Pick<LeaseKeeper, 'name'>;
  readonly nowMs: () => number;
  readonly changed: () => void;
  readonly problem: (problem: Problem | null) => void;
  readonly notice: (text: string) => void;
  readonly checkpointSaved: (step: number) => void;
  /** A command of this page's own was not carried out. */
  readonly declined: (answer: Extract<CoordinatorEffect, { type: 'declined' }>) => void;
  /** The successor is to lead now. */
  readonly handOver: () => void;
  /** The owner wants nobody to lead it any more. */
  readonly closeRoom: () => void;
}

interface EncodedUpdate {
  readonly bytes: ArrayBuffer;
  readonly gradient: ArrayBuffer | null;
  /** Of its pieces; null while the coordinator alone sends updates. */
  readonly hashes: ArrayBuffer | null;
}

/** Who has missed an older one fetches the weights. */
const keptUpdates = 2;

export class LeadDriver {
  readonly #options: LeadOptions;
  readonly #connections = new Map<PeerId, Connection>();
  readonly #blobs = new BlobShelf();
  readonly #offers = new ReplicaOffers();
  readonly #openWants = new WeakMap<Connection, number>();
  readonly #events: CoordinatorEvent[] = [];
  #state;
  /** Of the last steps: somebody may have missed one. */
  readonly #updates = new Map<Step, EncodedUpdate>();
  /** A step is committed, and will be sent as soon as its hashes are there. */
  #hashing: Promise<void> | null = null;
  #isDispatching = false;
  /** What is to be carried out behind an effect that waits for rows to be read; null while none does. */
  #behind: CoordinatorEffect[] | null = null;
  #closed = false;
  #checkpoint: Promise<void> = Promise.resolve();

  constructor(options: LeadOptions) {
    this.#options = options;
    const { state, effects } = createCoordinator(options.config, options.nowMs());
    this.#state = state;
    for (const effect of effects) this.#carryInTurn(effect);
  }

  get view(): CoordinatorView {
    return coordinatorView(this.#state);
  }

  get connections(): ReadonlyMap<PeerId, Connection> {
    return this.#connections;
  }

  dispatch(event: CoordinatorEvent): void {
    if (this.#closed) return;
    this.#events.push(event);
    if (this.#isDispatching) return; // An effect raised it: it comes after the effects of the event before.
    this.#isDispatching = true;
    try {
      for (let next = this.#events.shift(); next; next = this.#events.shift()) {
        const { state, effects } = coordinatorStep(this.#state, next, this.#options.nowMs());
        this.#state = state;
        for (const effect of effects) this.#carryInTurn(effect);
        if (next.type === 'tick') this.#offers.prune((copied) => this.#isFetched(copied));
      }
    } finally {
      this.#isDispatching = false;
    }
  }

  /** For `EndpointOptions.accept`: a peer whose key is proved. */
  accept(connection: Connection): ConnectionHandlers {
    const peer = connection.remoteId as PeerId;
    this.#connections.get(peer)?.close('replaced by a newer connection');
    this.#connections.set(peer, connection);
    // After the handlers are in place.
    queueMicrotask(() => {
      this.dispatch({ type: 'peerOpened', peer });
    });
    const isCurrent = (): boolean => this.#connections.get(peer) === connection;
    return {
      maxBlobBytes: this.#options.maxBlobBytes,
      control: (json) => {
        if (!isCurrent()) return;
        const message = v.safeParse(memberMessageSchema, json);
        if (message.success) this.#received(peer, message.output);
        else this.#reject(peer, 'sent a message that this page does not understand');
      },
      blob: (json, bytes) => {
        if (!isCurrent()) return;
        const header = v.safeParse(memberBlobSchema, json);
        if (!header.success) {
          this.#reject(peer, 'sent data that this page does not understand');
          return;
        }
        this.dispatch({
          type: 'blob',
          from: peer,
          header: header.output,
          ref: this.#blobs.put(bytes),
          bytes: bytes.byteLength,
        });
      },
      closed: (reason, isMalformed) => {
        if (!isCurrent()) return;
        if (isMalformed) {
          this.#reject(peer, `sent what cannot be read (${reason})`);
          return;
        }
        this.#connections.delete(peer);
        this.dispatch({ type: 'peerClosed', peer, reason });
      },
    };
  }

  #received(peer: PeerId, message: MemberMessage): void {
    this.dispatch({ type: 'message', from: peer, message });
    if (message.type === 'owner' && message.term === this.#options.config.term) void this.#order(peer, message);
  }

  /** This page is the owner's. */
  ownOrder(signed: SignedCommand): Promise<void> {
    return this.#order(this.#options.config.self, signed);
  }

  async #order(from: PeerId, signed: SignedCommand): Promise<void> {
    const { owner, room } = this.#options;
    const command = owner === null ? null : await verifiedCommand(owner, room, signed);
    if (command !== null) this.dispatch({ type: 'ownerCommand', from, order: orderOf(signed), revision: signed.revision, command });
    else this.#reject(from, 'gave an order that only the room’s owner can give');
  }

  /** Saves now, in its turn among the trainer's calls, and resolves when it is saved or was refused (and reported). */
  saveCheckpoint(): Promise<void> {
    return this.#save(this.view.step);
  }

  /** Ends this reign here without a word to the machine: everybody finds out by the closed connections. */
  async close(reason: string): Promise<void> {
    this.#closed = true;
    for (const connection of this.#connections.values()) connection.close(reason);
    this.#connections.clear();
    await this.#checkpoint;
  }

  #reject(peer: PeerId, did: string): void {
    const name = this.view.peers.find(({ id }) => id === peer)?.name ?? 'A peer';
    this.#options.notice(`${name} ${did} and was removed.`);
    this.#closePeer(peer, did);
    this.dispatch({ type: 'peerClosed', peer, reason: did });
  }

  #closePeer(peer: PeerId, reason: string): void {
    const connection = this.#connections.get(peer);
    this.#connections.delete(peer);
    connection?.close(reason);
  }

  /** One after another, since peers rely on the order of what they are sent, and the trainer on that of its calls. */
  #carryInTurn(effect: CoordinatorEffect): void {
    if (this.#behind !== null) {
      this.#behind.push(effect);
      return;
    }
    const isDone = this.#carry(effect);
    if (!(isDone instanceof Promise)) return;
    this.#behind = [];
    void isDone.then(() => {
      const behind = this.#behind ?? [];
      this.#behind = null;
      for (const next of behind) this.#carryInTurn(next);
    });
  }

  /** A promise where it takes a while; it never rejects. */
  #carry(effect: CoordinatorEffect): Promise<void> | void {
    const { trainer, source } = this.#options;
    switch (effect.type) {
      case 'send':
        this.#connections.get(effect.to)?.sendControl(effect.message);
        return;
      case 'assign':
        return this.#sendRows(effect);
      case 'sendHistory': {
        const { bytes, checksum } = encodeHistory(effect.history);
        this.#sendBlob(effect.to, { kind: 'history', term: this.#options.config.term, checksum }, bytes);
        return;
      }
      case 'offerReplica':
        this.#offerReplica(effect);
        return;
      case 'sendPiece':
        void this.#sendPiece(effect);
        return;
      case 'sendGradient':
        this.#sendGradient(effect);
        return;
      case 'sendUpdate':
        this.#sendUpdate(effect);
        return;
      case 'appoint':
        void this.#appoint(effect);
        return;
      case 'nameSuccessor':
        this.#options.lease.name(effect.holderHash);
        return;
      case 'beginStep':
        this.#trainerCall(trainer.beginStep(effect.step), () => undefined);
        return;
      case 'computeOwn':
        return this.#computeOwn(effect);
      case 'cancelOwn':
        trainer.cancel(effect.assignment);
        return;
      case 'addOwn':
        this.#add(effect.assignment, trainer.addOwnContribution(effect.assignment));
        return;
      case 'addBlob':
        this.#add(effect.assignment, trainer.addContribution(effect.step, this.#blobs.take(effect.ref)));
        return;
      case 'discardBlob':
        this.#blobs.discard(effect.ref);
        return;
      case 'commit':
        this.#commit(effect);
        return;
      case 'assignEvaluation':
        this.#sendBlob(effect.to, effect.header, encodeRows(heldOut(source, effect.header.microbatches)));
        return;
      case 'evaluateOwn':
        this.#evaluateOwn(effect);
        return;
      case 'keepBest':
        this.#keepBest(effect);
        return;
      case 'checkpoint':
        void this.#save(effect.step);
        return;
      case 'declined':
        this.#options.declined(effect);
        return;
      case 'handOver':
        this.#options.handOver();
        return;
      case 'closeRoom':
        this.#options.closeRoom();
        return;
      case 'closePeer':
        this.#closePeer(effect.peer, effect.reason);
        return;
      case 'changed':
        this.#options.changed();
        return;
      case 'problem':
        this.#options.problem(explain(effect.problem));
        if (effect.problem.code === 'non-finite') void this.#sayCause(effect.problem);
        return;
    }
  }

  /** Which op went wrong first, as far as this device computes it too. The step was not applied, so its weights are still here. */
  async #sayCause(of: RoomProblem): Promise<void> {
    const { trainer, source, problem } = this.#options;
    const { step } = this.#state;
    const indices = Array.from({ length: source.microbatchesPerStep }, (_, index) => index);
    const rows = await this.#rowsOf(step, indices);
    if (rows === null) return;
    const microbatches = rows.map((each, index) => ({ index, rows: each }));
    // It adds to what was said already: where it fails, a lost GPU for instance, that is said elsewhere.
    const cause = await trainer.explainNonFinite({ assignment: `why step ${step}`, step, microbatches }).catch(() => null);
    if (cause === null || this.#closed || this.#state.problem !== of) return;
    const explained = explain(of);
    problem({ ...explained, message: `${explained.message} What happened first: ${cause}.` });
  }

  #sendBlob(to: PeerId, header: CoordinatorBlob, bytes: ArrayBuffer): void {
    const connection = this.#connections.get(to);
    // A connection that closes mid-way reports it by itself, and the machine re-assigns.
    connection?.sendBlob(header, bytes).catch(() => undefined);
  }

  /** The announcement goes ahead of the updates that follow; the hashes take a moment longer. */
  #offerReplica({ to, step, sources }: Extract<CoordinatorEffect, { type: 'offerReplica' }>): void {
    const { trainer, config } = this.#options;
    const { term } = config;
    const read = async (): Promise<ArrayBuffer> => {
      const replica = await trainer.replica();
      if (replica.step !== step) throw new RangeError(`they were at step ${replica.step} instead of ${step}`);
      return replica.bytes;
    };
    this.#offers.copy(step, read).then(
      ({ bytes, hashes }) => {
        this.#sendBlob(to, { kind: 'replica', term, step, byteLength: bytes.byteLength, pieceBytes, sources: [...sources] }, new ArrayBuffer(0));
        void hashes.then((all) => {
          this.#sendBlob(to, { kind: 'pieceHashes', term, step }, all);
        });
      },
      (error: unknown) => {
        this.#report(error);
        this.#weightsNotSent(to, error instanceof Error ? error.message : String(error));
      },
    );
  }

  async #sendPiece({ to, step, piece }: Extract<CoordinatorEffect, { type: 'sendPiece' }>): Promise<void> {
    const { term } = this.#options.config;
    const connection = this.#connections.get(to);
    if (connection === undefined) return;
    const open = this.#openWants.get(connection) ?? 0;
    if (open >= maxOpenWants) {
      this.#reject(to, 'asked for more of the weights at once than any honest page does');
      return;
    }
    this.#openWants.set(connection, open + 1);
    const bytes = await this.#offers.piece(step, piece);
    if (bytes === null) connection.sendControl({ type: 'missing', term, step, piece } satisfies CoordinatorMessage);
    // A connection that closes mid-way reports it by itself.
    else await connection.sendBlob({ kind: 'replicaPiece', term, step, piece } satisfies CoordinatorBlob, bytes).catch(() => undefined);
    this.#openWants.set(connection, (this.#openWants.get(connection) ?? 1) - 1);
  }

  #isFetched(step: Step): boolean {
    const { peers } = this.#state;
    return [...peers.values()].some(({ holding }) => holding?.base === step && holding.acknowledged === null);
  }

  #sendGradient({ to, step, weightSum, point }: Extract<CoordinatorEffect, { type: 'sendGradient' }>): void {
    const gradient = this.#updates.get(step)?.gradient ?? null;
    if (gradient === null) this.dispatch({ type: 'notAppointed', peer: to, reason: `there is no gradient of step ${step}` });
    else this.#sendBlob(to, { kind: 'gradient', term: this.#options.config.term, step, weightSum, point }, gradient);
  }

  /**
   * Pieces go in order with the updates, each as it is then, a few at a time, so that updates and work find a gap between them.
   */
  async #appoint({ to, step: since, unannounced }: Extract<CoordinatorEffect, { type: 'appoint' }>): Promise<void> {
    const { trainer, config, master, nowMs } = this.#options;
    const connection = this.#connections.get(to);
    if (connection === undefined) return;
    const { term } = config;
    const isWanted = (): boolean => this.#state.successor?.peer === to && this.#state.successor.since === since;
    const send = (step: Step, part: SuccessionPart, offset: number, bytes: ArrayBuffer): Promise<void> => {
      const piece: CoordinatorBlob = { kind: 'piece', term, since, step, part, offset };
      return connection.sendBlob(piece, bytes);
    };
    try {
      const corpus = this.#options.corpus();
      const header: CoordinatorBlob = { kind: 'appointment', term, step: since, unannounced, masterBytes: master.bytes, masterParts: [...master.parts], corpusBytes: corpus.byteLength };
      await connection.sendBlob(header, new ArrayBuffer(0));
      let sent = 0;
      for await (const part of corpus.parts()) {
        for (const { offset, byteLength } of rangesOf(part.byteLength)) {
          if (!isWanted()) return;
          await send(since, 'corpus', sent + offset, part.slice(offset, offset + byteLength));
        }
        sent += part.byteLength;
      }
      const pace = new Pace(nowMs);
      for (const part of master.parts) {
        for (let start = 0; start < master.bytes; ) {
          // Somebody else may have been chosen meanwhile.
          if (!isWanted()) return;
          const read = await trainer.readMaster(part, start, Math.min(pace.bytesAtOnce, master.bytes - start));
          if (this.#hashing !== null) await this.#hashing;
          // Nothing may come between here and handing the pieces over: the next update goes behind them.
          const sent = [...rangesOf(read.bytes.byteLength)].map(({ offset, byteLength }) => send(read.step as Step, part, start + offset, read.bytes.slice(offset, offset + byteLength)));
          start += read.bytes.byteLength;
          await pace.measured(Promise.all(sent));
        }
      }
    } catch (error) {
      // A connection that closed says so itself.
      if (this.#connections.get(to) === connection) {
        this.dispatch({ type: 'notAppointed', peer: to, reason: error instanceof Error ? error.message : String(error) });
      }
    }
  }

  #sendUpdate({ whole, forward, fed, step }: Extract<CoordinatorEffect, { type: 'sendUpdate' }>): void {
    const { term } = this.#options.config;
    const update = this.#updates.get(step);
    if (update === undefined) {
      for (const peer of [...whole, ...forward, ...fed]) this.#weightsNotSent(peer, `there is no update of step ${step}`);
      return;
    }
    const { bytes, hashes } = update;
    // Where no hashes were made, nobody was fed yet when the step was committed.
    for (const peer of hashes === null ? [...forward, ...fed, ...whole] : whole) this.#sendBlob(peer, { kind: 'update', term, step }, bytes);
    if (hashes === null) return;
    const bytesPerPiece = updatePieceBytesOf(bytes.byteLength);
    for (const peer of [...forward, ...fed]) {
      this.#sendBlob(peer, { kind: 'updateHashes', term, step, byteLength: bytes.byteLength, pieceBytes: bytesPerPiece, isFed: fed.includes(peer) }, hashes);
    }
    for (let piece = 0; piece < pieceCountOf(bytes.byteLength, bytesPerPiece); piece += 1) {
      const its = bytes.slice(piece * bytesPerPiece, (piece + 1) * bytesPerPiece);
      for (const peer of forward) this.#sendBlob(peer, { kind: 'updatePiece', term, step, piece }, its);
    }
  }

  #weightsNotSent(peer: PeerId, reason: string): void {
    this.dispatch({ type: 'weightsNotSent', peer, reason });
  }

  /** Null where they can't be read, which is reported, and when this reign is over. */
  async #rowsOf(step: number, microbatches: readonly number[]): Promise<readonly MicrobatchRows[] | null> {
    const { source } = this.#options;
    try {
      const rows = await Promise.all(microbatches.map(async (index) => source.draw(step, index)));
      return this.#closed ? null : rows;
    } catch (error) {
      this.#report(error);
      return null;
    }
  }

  /** A peer that gets no rows is overdue after a while, and its work goes to somebody else. */
  async #sendRows({ to, header }: Extract<CoordinatorEffect, { type: 'assign' }>): Promise<void> {
    const rows = await this.#rowsOf(header.step, header.microbatches);
    if (rows !== null) this.#sendBlob(to, header, encodeRows(rows));
  }

  async #computeOwn({ assignment, step, microbatches, changes }: Extract<CoordinatorEffect, { type: 'computeOwn' }>): Promise<void> {
    const { trainer } = this.#options;
    const failed = { type: 'ownResult', assignment, step, lossSum: 0, weightSum: 0, computeMs: 0, tokens: 0, failed: true } as const;
    const rows = await this.#rowsOf(step, microbatches);
    if (rows === null) {
      this.dispatch(failed);
      return;
    }
    const job = { assignment, step, changes, microbatches: rows.map((each, at) => ({ index: microbatches[at] ?? 0, rows: each })) };
    trainer.computeGradients(job).then(
      ({ cancelled, lossSum, weightSum, computeMs, tokens }) => {
        if (cancelled) {
          this.dispatch(failed);
          return;
        }
        this.dispatch({ type: 'ownResult', assignment, step, lossSum, weightSum, computeMs, tokens, failed: false });
      },
      (error: unknown) => {
        this.#report(error);
        this.dispatch(failed);
      },
    );
  }

  #evaluateOwn({ assignment, microbatches }: Extract<CoordinatorEffect, { type: 'evaluateOwn' }>): void {
    const { trainer, source } = this.#options;
    const rows = heldOut(source, microbatches);
    evaluatedSums(trainer, rows).then(
      (sums) => {
        this.dispatch({ type: 'evaluatedOwn', assignment, ...sums, failed: false });
      },
      (error: unknown) => {
        this.#report(error);
        this.dispatch({ type: 'evaluatedOwn', assignment, lossSum: 0, weightSum: 0, failed: true });
      },
    );
  }

  /** Losing it costs no training: what can't be saved is reported like a checkpoint. */
  #keepBest({ step, loss }: Extract<CoordinatorEffect, { type: 'keepBest' }>): void {
    const { room, storage, problem } = this.#options;
    storage.keepBest({ room, step: step + 1, loss, savedAtMs: Date.now() }).catch((error: unknown) => {
      problem(storageProblemOf(error));
    });
  }

  #add(assignment: string, added: Promise<void>): void {
    added.then(
      () => {
        this.dispatch({ type: 'contributionAdded', assignment });
      },
      (error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        this.dispatch({ type: 'contributionRejected', assignment, reason });
      },
    );
  }

  #commit({ step, weightSum, encodeUpdate, encodeGradient, changes, codec }: Extract<CoordinatorEffect, { type: 'commit' }>): void {
    const done = (result: CommitResult, hashes: ArrayBuffer | null): void => {
      const { gradNorm, learningRate, replicaHash, applied, update, gradient } = result;
      if (update !== null) this.#updates.set(step, { bytes: update, gradient, hashes });
      for (const old of this.#updates.keys()) if (old <= step - keptUpdates) this.#updates.delete(old);
      const bytes = { updateBytes: update?.byteLength ?? 0, gradientBytes: gradient?.byteLength ?? 0 };
      this.dispatch({ type: 'committed', step, metrics: { gradNorm, learningRate, replicaHash, applied, ...bytes } });
    };
    this.#trainerCall(this.#options.trainer.commit(step, weightSum, { encodeUpdate, encodeGradient, changes, ...(codec !== null && { codec }) }), (result) => {
      const { update } = result;
      if (update === null || !this.#isForwarded()) {
        done(result, null);
        return;
      }
      const hashed = hashesOf(update, updatePieceBytesOf(update.byteLength)).then((hashes) => {
        this.#hashing = null;
        done(result, hashes);
      });
      this.#hashing = hashed;
      this.#trainerCall(hashed, () => undefined);
    });
  }

  #isForwarded(): boolean {
    return [...this.#state.peers.values()].some(({ feed }) => feed?.isOpen === true);
  }

  #save(step: Step): Promise<void> {
    const { config, room, storage, checkpointSaved, problem } = this.#options;
    const history = this.view.history.filter((point) => point.step < step);
    const saved = storage
      .saveCheckpoint({
        room,
        term: config.term,
        step,
        savedAtMs: Date.now(),
        startedAtMs: config.startedAtMs,
        loss: history.at(-1)?.loss ?? null,
        history: JSON.stringify(history),
      })
      .then(
        () => {
          checkpointSaved(step);
        },
        (error: unknown) => {
          // By name, since it crossed the worker's border: a step was committed in between, whose checkpoint follows.
          if (!(error instanceof Error && error.name === 'RangeError')) problem(storageProblemOf(error));
        },
      );
    this.#checkpoint = saved;
    return saved;
  }

  /** For calls without which the step can't go on; a lost GPU is reported by `whenLost`, the session starts a new reign. */
  #trainerCall<T>(call: Promise<T>, done: (result: T) => void): void {
    call.then(done).catch((error: unknown) => {
      this.#report(error);
    });
  }

  #report(error: unknown): void {
    if (this.#closed) return;
    this.#options.problem(problemOf(error));
  }

  /** Sent to everybody who has no replica to sample from; the machine keeps no text. */
  sampled(step: Step, text: string): void {
    this.dispatch({ type: 'sampled', step, text });
  }

  ownDevice(device: PeerDevice): void {
    this.dispatch({ type: 'ownDevice', device });
  }
}
