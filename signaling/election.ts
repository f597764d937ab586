/**
 * Who may lead a room after its lease has ended, among those that its last leader did not name: the one with the newest
 * saved step. Each claim is an offer of the step that its page could go on from. Knows the offers and the time it is
 * told, nothing of terms, tokens or leases; those are the directory's.
 */

/** How long offers of older steps are collected before the best of them may lead. */
export const electionWindowMs = 3000;
/** How long the best one has to ask again before the next best may. */
export const turnMs = 3000;
/** The weakest offer is dropped when there would be more. */
export const maxOffers = 8;

/**
 * How long after a lease's end the first of the others may lead. `current`: its step is at least the one the last leader
 * reported, so nothing is lost, and it only lets the named successor go first. `older`: steps would be lost. A lease that
 * was released has nobody behind it; one that ran out may belong to a leader that is cut off and still training.
 */
export const headStartsMs = {
  ranOut: { current: { unnamed: 0, named: 10_000 }, older: { unnamed: 60_000, named: 60_000 } },
  released: { current: { unnamed: 0, named: 4000 }, older: { unnamed: 4000, named: 10_000 } },
} as const;

/** What a room is left with when its lease has ended. */
export interface Vacancy {
  readonly endedMs: number;
  readonly end: keyof typeof headStartsMs;
  readonly successor: 'named' | 'unnamed';
  /** The step its last leader reported. */
  readonly step: number;
}

export interface Offer {
  /** Who offers: the hash of its holder's secret. */
  readonly by: Buffer;
  readonly step: number;
}

export class Election {
  /** Of older steps only, best first; of equal ones the first to come. */
  readonly #offers: Offer[] = [];
  /** The window's end, then the end of each turn that nobody took. */
  #turnStartsMs = 0;

  /** 0: this one may lead now. Otherwise how long it should wait before it asks again. */
  claim(offer: Offer, vacancy: Vacancy, nowMs: number): number {
    const age = offer.step >= vacancy.step ? 'current' : 'older';
    const opensMs = vacancy.endedMs + headStartsMs[vacancy.end][age][vacancy.successor];
    if (age === 'current') return Math.max(0, opensMs - nowMs);
    while (this.#offers.length > 0 && nowMs >= this.#turnStartsMs + turnMs) {
      this.#offers.shift();
      this.#turnStartsMs += turnMs;
    }
    if (this.#offers.length === 0) this.#turnStartsMs = Math.max(opensMs, nowMs) + electionWindowMs;
    const place = this.#enter(offer);
    if (nowMs < this.#turnStartsMs) return this.#turnStartsMs - nowMs;
    return place === 0 ? 0 : this.#turnStartsMs + place * turnMs - nowMs;
  }

  /** How many offers come before this one. Asking again keeps a place, with another step it is a new offer. */
  #enter(offer: Offer): number {
    const before = this.#offers.findIndex(({ by }) => by.equals(offer.by));
    if (before !== -1) {
      if (this.#offers[before]?.step === offer.step) return before;
      this.#offers.splice(before, 1);
    }
    const weaker = this.#offers.findIndex(({ step }) => step < offer.step);
    const place = weaker === -1 ? this.#offers.length : weaker;
    this.#offers.splice(place, 0, offer);
    this.#offers.length = Math.min(this.#offers.length, maxOffers);
    return place;
  }
}
