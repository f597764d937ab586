/**
 * What a member keeps for the day it leads: the master state and corpus that its coordinator hands down, saved now and then.
 * When to follow, and when to lead, the machine says.
 */
import type { CheckpointFacts } from '../checkpoint/types.ts';
import type { LeadClaim, MemberEffect, MemberEvent, SuccessionPart, WarmReign } from '../room/machine.ts';
import type { MemberState } from '../room/member.ts';
import type { Step, Term } from '../room/messages.ts';
import type { Problem, Trainer } from '../trainer/types.ts';
import { InheritanceBuilder, decodeCorpus } from './inheritance.ts';
import type { ClaimOutcome } from './lease.ts';
import { storageProblemOf } from './problems.ts';
import type { RunDescription } from './run.ts';

/** Where it is kept, and how the lead is asked for. */
export interface Heir {
  /** Stores run and corpus; whoever follows may have to bring the room back from them. */
  keepRun(run: RunDescription, tokens: Uint32Array): Promise<void>;
  saveCheckpoint(facts: Omit<CheckpointFacts, 'room'>): Promise<void>;
  claim(claim: LeadClaim): Promise<ClaimOutcome>;
  /** `warm` null: from what this browser has saved. */
  leads(term: Term, warm: { readonly reign: WarmReign; readonly tokens: Uint32Array } | null): void;
}

export interface SuccessionOptions {
  readonly heir: Heir;
  readonly trainer: () => Trainer | null;
  readonly state: () => MemberState;
  readonly dispatch: (event: MemberEvent) => void;
  readonly problem: (problem: Problem) => void;
  readonly nowMs: () => number;
}

/** As often as a leader saves. */
const saveEveryMs = 15_000;

export class Succession {
  readonly #options: SuccessionOptions;
  #inheritance: InheritanceBuilder | null = null;
  /** What batches are drawn from. */
  #tokens: Uint32Array | null = null;
  #savedAtMs = 0;

  constructor(options: SuccessionOptions) {
    this.#options = options;
  }

  /** `flatBytes`: of the planned run's moments. */
  follow({ step, momentsBytes, corpusBytes }: Extract<MemberEffect, { type: 'follow' }>, flatBytes: number): void {
    const refuse = (error: unknown): void => {
      this.#inheritance = null;
      this.#completed(step, error);
    };
    try {
      this.#inheritance = new InheritanceBuilder({ momentsBytes, corpusBytes }, flatBytes);
    } catch (error) {
      refuse(error);
      return;
    }
    this.#options.trainer()?.beginFollowing().catch(refuse);
  }

  keepPiece(part: SuccessionPart, offset: number, bytes: ArrayBuffer): void {
    this.#inheritance?.put(part, offset, bytes);
  }

  async complete(step: Step, run: RunDescription | null): Promise<void> {
    const builder = this.#inheritance;
    const trainer = this.#options.trainer();
    this.#inheritance = null;
    if (builder === null || run === null || trainer === null) return;
    try {
      const { firstMoments, secondMoments, corpus } = builder.whole();
      const tokens = decodeCorpus(corpus, run.settings.model.vocab_size);
      await trainer.adoptMoments(step, firstMoments, secondMoments);
      await this.#options.heir.keepRun(run, tokens);
      this.#tokens = tokens;
    } catch (error) {
      this.#completed(step, error);
      return;
    }
    this.#options.dispatch({ type: 'successionCompleted', step, problem: null });
    this.save();
  }

  end(): void {
    this.#inheritance = null;
    this.#tokens = null;
  }

  lead(term: Term, reign: WarmReign | null): void {
    const tokens = this.#tokens;
    this.#options.heir.leads(term, reign === null || tokens === null ? null : { reign, tokens });
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
