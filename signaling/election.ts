/**
 * Who may lead a room after its lease has ended, among those that can't go on from memory: the one with the newest saved
 * step. Each claim is an offer of the step that its page could go on from. Knows the offers and the time it is told, nothing
 * of terms, tokens or leases; those are the directory's.
 */

/** How long offers are collected before the best of them may lead. */
export const electionWindowMs = 3000;
/** Whoever has not asked again for so long is gone: pages ask at least every 7 s. */
export const silentOfferMs = 9000;
/** The weakest offer is dropped when there would be more. */
export const maxOffers = 8;

/**
 * How long after a lease's end the first of them may lead. `current`: its step is at least the one the last leader reported;
 * it only lets the named successor go first. `older`: steps would be lost. A lease that was released has nobody behind it;
 * one that ran out may belong to a leader that is cut off and still training.
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
  /** Best first; of equal ones the first to come. */
  #offers: { readonly by: Buffer; readonly step: number; askedMs: number }[] = [];
  #beganMs = 0;

  /** 0: this one may lead now. Otherwise how long it should wait before it asks again. */
  claim(offer: Offer, vacancy: Vacancy, nowMs: number): number {
    this.#offers = this.#offers.filter(({ askedMs }) => nowMs - askedMs < silentOfferMs);
    if (this.#offers.length === 0) this.#beganMs = nowMs;
    this.#enter(offer, nowMs);
    const age = offer.step >= vacancy.step ? 'current' : 'older';
    const opensMs = Math.max(vacancy.endedMs + headStartsMs[vacancy.end][age][vacancy.successor], this.#beganMs + electionWindowMs);
    if (nowMs < opensMs) return opensMs - nowMs;
    const [best] = this.#offers;
    return best === undefined || best.by.equals(offer.by) ? 0 : best.askedMs + silentOfferMs - nowMs;
  }

  /** Asking again keeps a place; with another step it is a new offer. */
  #enter({ by, step }: Offer, askedMs: number): void {
    const before = this.#offers.findIndex((other) => other.by.equals(by));
    const known = this.#offers[before];
    if (known?.step === step) {
      known.askedMs = askedMs;
      return;
    }
    if (known !== undefined) this.#offers.splice(before, 1);
    const weaker = this.#offers.findIndex((other) => other.step < step);
    this.#offers.splice(weaker === -1 ? this.#offers.length : weaker, 0, { by, step, askedMs });
    this.#offers.length = Math.min(this.#offers.length, maxOffers);
  }
}
