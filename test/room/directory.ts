/** The room directory of the signalling server, in memory: who leads, under which term, taken by compare-and-set. */
import type { Term, PeerId } from '../../src/room/messages.ts';

export interface Lead {
  readonly coordinator: PeerId;
  readonly term: Term;
}

export class SimulatedDirectory {
  #lead: Lead | null = null;
  #expiresAtMs = 0;

  /** Whoever knew the present term (0: none yet) takes the next one; nobody else can then. */
  take(coordinator: PeerId, knownTerm: number, untilMs: number): Term | null {
    if ((this.#lead?.term ?? 0) !== knownTerm) return null;
    const term = (knownTerm + 1) as Term;
    this.#lead = { coordinator, term };
    this.#expiresAtMs = untilMs;
    return term;
  }

  /** False when somebody else leads by now. */
  renew(term: Term, untilMs: number): boolean {
    if (this.#lead?.term !== term) return false;
    this.#expiresAtMs = untilMs;
    return true;
  }

  lookUp(nowMs: number): Lead | null {
    return nowMs < this.#expiresAtMs ? this.#lead : null;
  }

  get term(): number {
    return this.#lead?.term ?? 0;
  }
}
