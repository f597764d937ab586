/**
 * Independent bookkeeping of a simulated room. It watches what trainers really do, not what messages claim, and fails the
 * simulation when a step is counted wrongly, replicas differ, or a loss is not that of the undisturbed run.
 */
import type { HistoryPoint } from '../../src/room/messages.ts';
import type { RoomRules } from '../../src/room/rules.ts';
import type { RoomLog } from './log.ts';

/** What a contribution really is: noted where its gradients were computed. */
export interface Truth {
  readonly step: number;
  readonly microbatches: readonly number[];
  /** Of the weights it was computed with. */
  readonly replicaHash: string;
  readonly by: string;
}

/**
 * How a reign begins. `warm`: by the successor that the directory named, which has everything that was announced. `cold`: by
 * somebody else, from what was saved or followed until then.
 */
export interface ReignFacts {
  readonly term: number;
  /** Of the leader that it followed. */
  readonly after: number;
  readonly step: number;
  readonly hash: string;
  readonly history: readonly HistoryPoint[];
  readonly rules: RoomRules;
  readonly kind: 'new' | 'warm' | 'cold';
}

interface Reign {
  readonly startStep: number;
  committed: number;
  sum: { readonly step: number; readonly counts: Map<number, string> } | null;
  readonly hashes: Map<number, string>;
}

export interface LedgerOptions {
  readonly microbatchesPerStep: number;
  readonly undisturbed: readonly number[];
  /** Whether somebody leads under this term now. */
  readonly reigns: (term: number) => boolean;
  /** Headers may have been damaged on the way: only micro-batches are counted, losses and replicas are not compared. */
  readonly countsOnly: boolean;
  /** How far a loss may be from the undisturbed run's: what a lossy codec drops depends on who computes. */
  readonly lossTolerance: number;
}

export class Ledger {
  /** Micro-batches counted, by who computed them, over all reigns. */
  readonly countedBy = new Map<string, number>();
  /** Replicas of members found equal to the coordinator's. */
  comparedReplicas = 0;
  /** Losses by step as last committed. */
  readonly losses = new Map<number, number>();
  /** Reigns of successors. */
  handOffs = 0;
  /** Steps that a cold reign began before. */
  stepsRewound = 0;
  readonly #announced: { readonly term: number; readonly hash: string }[] = [];
  readonly #everAnnounced = new Set<string>();
  #newestTerm = 0;
  /** Newest revision of the rules that no hand-off may lose. */
  #acknowledged = 0;
  readonly #log: RoomLog;
  readonly #options: LedgerOptions;
  readonly #reigns = new Map<number, Reign>();
  readonly #work = new WeakMap<ArrayBuffer, { readonly step: number; readonly microbatches: readonly number[] }>();
  readonly #contributions = new WeakMap<ArrayBuffer, Truth>();

  constructor(log: RoomLog, options: LedgerOptions) {
    this.#log = log;
    this.#options = options;
  }

  /** Steps announced, which is committed for everybody: each once and in order, whoever leads. */
  get announcedSteps(): number {
    return this.#announced.length;
  }

  /** The owner was told that this order, and all before it, are carried out. */
  acknowledged(revision: number): void {
    this.#acknowledged = Math.max(this.#acknowledged, revision);
  }

  reignBegan({ term, after, step, hash, history, rules, kind: way }: ReignFacts): void {
    // The successor of somebody who was followed by another already has no more than what was saved.
    const kind = way === 'warm' && after !== this.#newestTerm ? 'cold' : way;
    if (this.#reigns.has(term)) this.#log.fail(`two coordinators reign under term ${term}`);
    if (history.length !== step) this.#log.fail(`the reign of term ${term} begins at step ${step} with a history of ${history.length}`);
    this.#reigns.set(term, { startStep: step, committed: step, sum: null, hashes: new Map([[step, hash]]) });
    // Whoever was long in coming, and is deposed already, has begun nothing.
    if (term < this.#newestTerm) return;
    this.#newestTerm = term;
    if (kind === 'warm') this.handOffs += 1;
    if (kind === 'warm' && step < this.#announced.length) {
      this.#log.fail(`the successor leads from step ${step}, and ${this.#announced.length} steps were announced`);
    }
    if (kind === 'warm' && rules.revision < this.#acknowledged) {
      this.#log.fail(`the successor leads with the rules of revision ${rules.revision}, and the owner was told that ${this.#acknowledged} is carried out`);
    }
    if (kind === 'cold') this.#acknowledged = Math.min(this.#acknowledged, rules.revision);
    if (kind === 'cold') this.#rewind(this.#commonSteps(history));
    for (const point of history.slice(this.#announced.length)) this.announced(term, point);
    const last = this.#announced[step - 1];
    if (last !== undefined && !this.#options.countsOnly && last.hash !== hash) this.#log.fail(`term ${term} begins with other weights than step ${step} had`);
  }

  /** Something that was sent is not what arrived, though nobody damages messages here. */
  damaged(what: string): void {
    if (!this.#options.countsOnly) this.#log.fail(`${what} is damaged`);
  }

  /** How many of the steps announced are this history's too. */
  #commonSteps(history: readonly HistoryPoint[]): number {
    const differs = this.#announced.findIndex(({ hash }, step) => history[step]?.replicaHash !== hash);
    return differs === -1 ? this.#announced.length : differs;
  }

  #rewind(steps: number): void {
    this.stepsRewound += this.#announced.length - steps;
    this.#announced.length = steps;
  }

  /** Whoever leads under this term has told everybody that the step is done. */
  announced(term: number, { step, replicaHash = '' }: HistoryPoint): void {
    // Whoever was frozen may say late what its successor, which has that step, has said meanwhile.
    const what = `${step} ${replicaHash}`;
    const isRepeated = this.#everAnnounced.has(what) && (step < this.#announced.length || this.#options.reigns(this.#newestTerm));
    if (term < this.#newestTerm && isRepeated) return;
    this.#everAnnounced.add(what);
    if (term < this.#newestTerm) {
      if (this.#options.reigns(this.#newestTerm)) this.#log.fail(`step ${step} is announced under term ${term}, and term ${this.#newestTerm} reigns`);
      // The newer leader is gone, and the directory has forgotten it: the older one goes on from what it has.
      this.#newestTerm = term;
      this.#rewind(Math.min(step, this.#announced.length));
    }
    if (step !== this.#announced.length) this.#log.fail(`step ${step} is announced after ${this.#announced.length} steps`);
    this.#announced.push({ term, hash: replicaHash });
  }

  workSent(bytes: ArrayBuffer, step: number, microbatches: readonly number[]): void {
    this.#work.set(bytes, { step, microbatches });
  }

  /** Which micro-batches these rows are; null for bytes that no coordinator sent. */
  workIn(bytes: ArrayBuffer): { readonly step: number; readonly microbatches: readonly number[] } | null {
    return this.#work.get(bytes) ?? null;
  }

  contributionEncoded(bytes: ArrayBuffer, truth: Truth): void {
    this.#contributions.set(bytes, truth);
  }

  contributionIn(bytes: ArrayBuffer): Truth | null {
    return this.#contributions.get(bytes) ?? null;
  }

  stepBegan(term: number, step: number): void {
    const reign = this.#reign(term);
    if (step !== reign.committed) this.#log.fail(`term ${term} begins step ${step} after ${reign.committed} committed ones`);
    reign.sum = { step, counts: new Map() };
  }

  /** The trainer added these gradients to the step's sum. */
  added(term: number, step: number, truth: Truth | null): void {
    const reign = this.#reign(term);
    if (truth === null) return this.#log.fail(`bytes that nobody computed were added to step ${step}`);
    const { sum } = reign;
    if (sum === null || sum.step !== step) return this.#log.fail(`an addition to step ${step}, which is not being summed`);
    if (truth.step !== step) this.#log.fail(`gradients of step ${truth.step} were added to step ${step}`);
    const isOfOtherWeights = truth.replicaHash !== reign.hashes.get(step);
    if (isOfOtherWeights && !this.#options.countsOnly) this.#log.fail(`gradients of other weights were added to step ${step}`);
    for (const microbatch of truth.microbatches) {
      const before = sum.counts.get(microbatch);
      if (before !== undefined) this.#log.fail(`micro-batch ${microbatch} of step ${step} counted twice, by ${before} and ${truth.by}`);
      sum.counts.set(microbatch, truth.by);
      this.countedBy.set(truth.by, (this.countedBy.get(truth.by) ?? 0) + 1);
    }
  }

  /** `expected`: the loss of a run whose schedule was changed in the same way; default: of the run as it began. */
  committed(term: number, step: number, loss: number, hash: string, expected = this.#options.undisturbed[step]): void {
    const reign = this.#reign(term);
    const { microbatchesPerStep, countsOnly, lossTolerance } = this.#options;
    if (step !== reign.committed) this.#log.fail(`term ${term} commits step ${step} after ${reign.committed} committed ones`);
    if (reign.sum?.step !== step) return this.#log.fail(`step ${step} is committed without a sum`);
    for (let microbatch = 0; microbatch < microbatchesPerStep; microbatch += 1) {
      if (!reign.sum.counts.has(microbatch)) this.#log.fail(`micro-batch ${microbatch} of step ${step} was lost`);
    }
    if (expected === undefined) return this.#log.fail(`step ${step} is past the end of the run`);
    if (!countsOnly && !(Math.abs(loss - expected) <= lossTolerance * Math.abs(expected))) {
      this.#log.fail(`the loss of step ${step} is ${loss}, and ${expected} undisturbed`);
    }
    reign.sum = null;
    reign.committed = step + 1;
    reign.hashes.set(step + 1, hash);
    this.losses.set(step, loss);
  }

  /** A member holds this replica, under a term that it believes in. */
  replicaHeld(by: string, term: number, step: number, hash: string): void {
    const expected = this.#reigns.get(term)?.hashes.get(step);
    if (expected === undefined || this.#options.countsOnly) return;
    if (expected !== hash) this.#log.fail(`the replica of ${by} at step ${step} differs from the coordinator’s`);
    this.comparedReplicas += 1;
  }

  #reign(term: number): Reign {
    const reign = this.#reigns.get(term);
    if (reign === undefined) throw new RangeError(`term ${term} never began`);
    return reign;
  }
}
