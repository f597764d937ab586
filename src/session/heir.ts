/**
 * What a member keeps for the day it leads: the master state and corpus that its coordinator hands down, saved now and then.
 * When to follow, and when to lead, the machine says.
 */
import type { PieceCorpus } from '../data/token-pieces.ts';
import type { CheckpointFacts } from '../checkpoint/types.ts';
import type { LeadClaim, MemberEffect, MemberEvent, WarmReign } from '../room/machine.ts';
import type { MemberState } from '../room/member.ts';
import type { Step, Term } from '../room/messages.ts';
import { masterPartsOf } from '../trainer/types.ts';
import type { Problem, Trainer } from '../trainer/types.ts';
import { InheritanceError, checkAnnounced, decodeCorpus } from './inheritance.ts';
import type { ClaimOutcome } from './lease.ts';
import { storageProblemOf } from './problems.ts';
import type { RunDescription } from './run.ts';

/** Where it is kept, and how the lead is asked for. */
export interface Heir {
  /** Stores run and corpus; whoever follows may have to bring the room back from them. */
  keepRun(run: RunDescription, corpus: PieceCorpus): Promise<void>;
  saveCheckpoint(facts: Omit<CheckpointFacts, 'room'>): Promise<void>;
  claim(claim: LeadClaim): Promise<ClaimOutcome>;
  /** `warm` null: from what this browser has saved. */
  leads(term: Term, warm: { readonly reign: WarmReign; readonly corpus: PieceCorpus } | null): void;
}

export interface SuccessionOptions {
  readonly heir: Heir;
  readonly trainer: () => Trainer | null;
  readonly state: () => MemberState;
  readonly dispatch: (event: MemberEvent) => void;
  readonly problem: (problem: Problem) => void;
  readonly nowMs: () => number;
}

/** What a successor is being sent. `written`: all of it that was handed to the trainer so far. */
interface Arriving {
  readonly step: Step;
  readonly corpus: Uint8Array<ArrayBuffer>;
  written: Promise<unknown>;
}

/** As often as a leader saves. */
const saveEveryMs = 15_000;

export class Succession {
  readonly #options: SuccessionOptions;
  /** Of the appointment that is in force; null without one. */
  #arriving: Arriving | null = null;
  /** What batches are drawn from. */
  #corpus: PieceCorpus | null = null;
  #savedAtMs = 0;

  constructor(options: SuccessionOptions) {
    this.#options = options;
  }

  /** `flatBytes`: of each part of the planned run's master state. */
  follow(announced: Extract<MemberEffect, { type: 'follow' }>, run: RunDescription | null, flatBytes: number): void {
    const { step, corpusBytes } = announced;
    this.#arriving = null;
    try {
      checkAnnounced(announced, { flatBytes, parts: masterPartsOf(run?.settings ?? {}) });
      const arriving: Arriving = { step, corpus: new Uint8Array(corpusBytes), written: Promise.resolve() };
      this.#arriving = arriving;
      this.#writes(arriving, this.#options.trainer()?.beginFollowing() ?? Promise.reject(new InheritanceError('there is no GPU')));
    } catch (error) {
      // A size that was announced may be more than there is memory for.
      this.#completed(step, error);
    }
  }

  keepPiece({ step, part, offset }: Extract<MemberEffect, { type: 'keepPiece' }>, bytes: ArrayBuffer): void {
    const arriving = this.#arriving;
    const trainer = this.#options.trainer();
    if (arriving === null || trainer === null) return;
    if (part === 'corpus') arriving.corpus.set(new Uint8Array(bytes), offset);
    else this.#writes(arriving, trainer.writeMaster(step, part, offset, bytes));
  }

  async complete(step: Step, run: RunDescription | null): Promise<void> {
    const arriving = this.#arriving;
    this.#arriving = null;
    if (arriving === null || run === null) return;
    try {
      const corpus = decodeCorpus(arriving.corpus.buffer, run.settings.model.vocab_size);
      await arriving.written;
      await this.#options.heir.keepRun(run, corpus);
      this.#corpus = corpus;
    } catch (error) {
      this.#completed(step, error);
      return;
    }
    this.#options.dispatch({ type: 'successionCompleted', step, problem: null });
    this.save();
  }

  /** What fails ends it at once, or is heard of by whoever completes it already. */
  #writes(arriving: Arriving, call: Promise<unknown>): void {
    arriving.written = Promise.all([arriving.written, call]);
    arriving.written.catch((error: unknown) => {
      if (this.#arriving !== arriving) return;
      this.#arriving = null;
      this.#completed(arriving.step, error);
    });
  }

  end(): void {
    this.#arriving = null;
    this.#corpus = null;
  }

  lead(term: Term, reign: WarmReign | null): void {
    const corpus = this.#corpus;
    this.#options.heir.leads(term, reign === null || corpus === null ? null : { reign, corpus });
  }

  /** After an update: saves, when it is time. */
  updated(): void {
    if (this.#options.nowMs() - this.#savedAtMs > saveEveryMs) this.save();
  }

  /** A successor saves too: when everybody has left, it can bring the room back. Weights may be a step ahead of what was announced. */
  save(): void {
    const { room, succession, replica } = this.#options.state();
    if (room === null || replica === null || succession?.stage !== 'warm') return;
    this.#savedAtMs = this.#options.nowMs();
    const known = new Map([...room.history, ...succession.points].map((point) => [point.step, point]));
    const history = [...known.values()].filter((point) => point.step < replica.step).sort((a, b) => a.step - b.step);
    const { term, startedAtMs } = room;
    const { step } = replica;
    const loss = history.at(-1)?.loss ?? null;
    this.#options.heir.saveCheckpoint({ term, step, savedAtMs: Date.now(), startedAtMs, loss, history: JSON.stringify(history) }).then(
      () => {
        this.#options.dispatch({ type: 'saved', saved: { step, term } });
      },
      (error: unknown) => {
        // By name, since it crossed the worker's border: a step was applied in between, whose checkpoint follows.
        if (!(error instanceof Error && error.name === 'RangeError')) this.#options.problem(storageProblemOf(error));
      },
    );
  }

  #completed(step: Step, error: unknown): void {
    this.#options.dispatch({ type: 'successionCompleted', step, problem: error instanceof Error ? error.message : String(error) });
  }
}
