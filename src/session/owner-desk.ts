/**
 * Where the owner's commands are issued: signed, sent to whoever leads, again and again until the room's rules say that it is
 * done or its leader that it can't be; one after another. Through hand-offs, too: a command that a leader took with it is sent to
 * the next one, and one that was carried out is never carried out twice.
 */
import * as v from 'valibot';
import type { PeerId } from '../room/messages.ts';
import { problems as roomProblems } from '../room/problems.ts';
import { orderOf, ownerCommandSchema } from '../room/rules.ts';
import type { OwnerCommand, RoomRules, SignedCommand } from '../room/rules.ts';
import type { Problem } from '../trainer/types.ts';
import { newKey } from './link.ts';
import type { RoomAddress } from './link.ts';
import { signCommand } from './owner.ts';
import type { OwnerKey } from './owner.ts';
import { explain, problem } from './problems.ts';
import type { OwnerControls, ScheduleSettings } from './types.ts';

/** Commands under the names that pages and scripts call them by. */
export function ownerControls(command: (command: OwnerCommand) => Promise<void> | undefined, scheduleNow: () => ScheduleSettings | null, visit: () => { readonly address: RoomAddress; readonly link: string } | null): OwnerControls {
  const order = async (given: OwnerCommand): Promise<void> => {
    const parsed = v.safeParse(ownerCommandSchema, given);
    if (!parsed.success) throw new OwnerError(problem('bad-settings', `${v.getDotPath(parsed.issues[0]) ?? 'It'} is not valid: ${parsed.issues[0].message}.`));
    const carriedOut = command(parsed.output);
    if (carriedOut === undefined) throw new OwnerError(explain(roomProblems.ownerOnly));
    await carriedOut;
  };
  return {
    rename: (title) => order({ kind: 'rename', title }),
    reschedule: (values) => order({ kind: 'schedule', ...withLowMinimum(values, scheduleNow()) }),
    remove: (peer) => order({ kind: 'remove', peer: peer as PeerId }),
    handOver: (peer) => order({ kind: 'handOver', peer: peer as PeerId }),
    async renewKey() {
      const before = visit();
      if (before === null) throw new OwnerError(explain(roomProblems.ownerOnly));
      await order({ kind: 'renewKey', key: newKey(), former: before.address.key });
      // A hand-off may have made another visit of it.
      return { link: (visit() ?? before).link };
    },
    close: () => order({ kind: 'close' }),
  };
}

/** A peak below the floor is a wish, not a mistake: the floor goes down with it. */
function withLowMinimum(values: Partial<ScheduleSettings>, now: ScheduleSettings | null): Partial<ScheduleSettings> {
  const { learningRate = now?.learningRate ?? Infinity, minLearningRate = now?.minLearningRate ?? 0 } = values;
  return minLearningRate > learningRate ? { ...values, minLearningRate: learningRate } : values;
}

const resendMs = 2_000;
/** A hand-off takes up to ten seconds; whoever waits longer should know that nothing is certain. */
const patienceMs = 30_000;
const maxAttempts = 5;

export interface OwnerDeskOptions {
  readonly room: string;
  readonly send: (signed: SignedCommand) => void;
  /** In force, as this page knows them. */
  readonly rules: () => RoomRules;
  readonly nowMs: () => number;
}

type Answer = { readonly kind: 'done' | 'outdated' | 'unanswered' } | { readonly kind: 'impossible'; readonly reason: string };

interface Pending {
  readonly signed: SignedCommand;
  readonly beganMs: number;
  sentMs: number;
  /** Another order came first; null where it is not known to. */
  overtakenMs: number | null;
  readonly answer: (answer: Answer) => void;
}

/** What the owner wanted was not done. */
export class OwnerError extends Error {
  override readonly name = 'OwnerError';
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.message);
    this.problem = problem;
  }
}

export class OwnerDesk {
  readonly #options: OwnerDeskOptions;
  #key: OwnerKey | null = null;
  #pending: Pending | null = null;
  #lastRevision = 0;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: OwnerDeskOptions) {
    this.#options = options;
  }

  /** This page is the owner's. */
  open(key: OwnerKey): void {
    this.#key = key;
  }

  /** Resolves when it is done and kept; rejects with an `OwnerError` that says why not. */
  async command(command: OwnerCommand): Promise<void> {
    const key = this.#key;
    if (key === null) throw new OwnerError(explain(roomProblems.ownerOnly));
    const carriedOut = this.#last.then(() => this.#carryOut(key, command));
    this.#last = carriedOut.catch(() => undefined); // Whoever asked for it is told.
    return carriedOut;
  }

  async #carryOut(key: OwnerKey, command: OwnerCommand): Promise<void> {
    const { room, rules } = this.#options;
    for (let attempt = 0; attempt < maxAttempts; attempt += 1) {
      this.#lastRevision = Math.max(this.#lastRevision, rules().revision) + 1;
      const signed = await signCommand(key, room, this.#lastRevision, command);
      const answer = await this.#ask(signed);
      if (answer.kind === 'done') return;
      if (answer.kind === 'impossible') throw new OwnerError(problem('not-done', answer.reason));
      if (answer.kind === 'unanswered') break;
    }
    throw new OwnerError(problem('not-done', 'The room has not answered: nobody leads it now, or its server is needed and can’t be reached. It may still be done later.'));
  }

  #ask(signed: SignedCommand): Promise<Answer> {
    return new Promise((resolve) => {
      const answer = (given: Answer): void => {
        this.#pending = null;
        resolve(given);
      };
      this.#pending = { signed, beganMs: this.#options.nowMs(), sentMs: -Infinity, overtakenMs: null, answer };
      this.tick();
    });
  }

  /** Call it often: what was not answered is sent again. */
  tick(): void {
    const { send, nowMs, rules } = this.#options;
    const pending = this.#pending;
    if (pending === null) return;
    const { revision, orders } = rules();
    if (orders.includes(orderOf(pending.signed))) return pending.answer({ kind: 'done' });
    // To be given again under a revision after that of the other order, as soon as this page has heard of it.
    const isOvertaken = revision >= pending.signed.revision || (pending.overtakenMs !== null && nowMs() - pending.overtakenMs >= resendMs);
    if (isOvertaken) return pending.answer({ kind: 'outdated' });
    if (nowMs() - pending.beganMs > patienceMs) return pending.answer({ kind: 'unanswered' });
    if (pending.overtakenMs !== null || nowMs() - pending.sentMs < resendMs) return;
    pending.sentMs = nowMs();
    send(pending.signed);
  }

  declined({ revision, code, reason }: { readonly revision: number; readonly code: 'outdated' | 'impossible'; readonly reason: string }): void {
    const pending = this.#pending;
    if (pending?.signed.revision !== revision) return;
    if (code === 'outdated') pending.overtakenMs ??= this.#options.nowMs();
    else pending.answer({ kind: code, reason });
  }

  /** This page is in the room no more. */
  close(): void {
    this.#key = null;
    this.#pending?.answer({ kind: 'unanswered' });
  }
}
