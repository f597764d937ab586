/**
 * Drives a member's (or watcher's) machine: looks the room up, connects, feeds the trainer, sends contributions.
 * Decides nothing about the room.
 */
import * as v from 'valibot';
import { createMember, memberStep, memberView } from '../room/member.ts';
import type { MemberConfig, MemberEffect, MemberEvent, MemberView } from '../room/machine.ts';
import { coordinatorBlobSchema, coordinatorMessageSchema } from '../room/messages.ts';
import type { MemberBlob, PeerDevice, PeerId, Term } from '../room/messages.ts';
import type { Problem, Trainer } from '../trainer/types.ts';
import type { TransportCode } from '../transport/problems.ts';
import type { Connection, ConnectionHandlers, Endpoint } from '../transport/types.ts';
import { BlobShelf } from './blobs.ts';
import type { DirectoryClient } from './directory-client.ts';
import { HistoryError, decodeHistory } from './history.ts';
import { explain, problemOf } from './problems.ts';
import { decodeRows } from './rows.ts';
import { parseRun, precisionNotice, trainerSettings } from './run.ts';
import type { RunDescription } from './run.ts';

export interface MemberOptions {
  readonly config: MemberConfig;
  readonly directory: DirectoryClient;
  /** Resolves when signalling is up; asked for at every attempt to connect. */
  readonly endpoint: () => Promise<Endpoint>;
  /** null for a watcher: nothing is ever loaded or computed. */
  readonly trainer: Trainer | null;
  readonly nowMs: () => number;
  readonly changed: () => void;
  readonly problem: (problem: Problem | null) => void;
  readonly notice: (text: string) => void;
  readonly run: (run: RunDescription) => void;
}

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
      // A lease that was released or ran out names nobody who could be connected to.
      const isLed = lease !== null && lease.expiresInMs > 0;
      this.dispatch({
        type: 'directory',
        lead: isLed ? { coordinator: lease.coordinator as PeerId, term: lease.term as Term } : null,
      });
    } catch {
      this.dispatch({ type: 'directoryUnreachable' });
    }
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
        if (header.success) this.dispatch({ type: 'blob', header: header.output, ref: this.#blobs.put(bytes) });
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
      ({ precision }) => {
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
    if (!this.#trainer) return;
    const { step } = effect;
    const isReplica = effect.type === 'loadReplica';
    const loaded = isReplica ? this.#trainer.loadReplica(step, bytes) : this.#trainer.applyUpdate(step, bytes);
    loaded.then(
      (hash) => {
        this.dispatch(isReplica ? { type: 'replicaLoaded', step, hash } : { type: 'updateApplied', step, hash });
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
