/**
 * A room's owner and rules as this page has to do with them, for as long as it is in that room, whoever leads: orders are given
 * here, and what the owner has decided is saved beside the run.
 */
import type { CoordinatorEffect, RoomView } from '../room/machine.ts';
import { noRules, stepsOf } from '../room/rules.ts';
import type { OwnerCommand, RoomKeys, SignedCommand } from '../room/rules.ts';
import type { RunStorage } from '../trainer/worker-api.ts';
import { OwnerDesk } from './owner-desk.ts';
import { ownerOf } from './owner.ts';
import type { RunDescription } from './run.ts';
import type { StateStore } from './state.ts';

export interface OwnershipOptions {
  readonly room: string;
  readonly store: StateStore;
  readonly storage: () => RunStorage;
  /** To whoever leads, which may be this page. */
  readonly send: (signed: SignedCommand) => void;
  /** The owner has renewed the room's key. */
  readonly useKeys: (keys: RoomKeys) => void;
  readonly nowMs: () => number;
}

export class Ownership {
  readonly room: string;
  readonly #options: OwnershipOptions;
  readonly #desk: OwnerDesk;
  /** As this page has last heard them. */
  #rules = noRules;
  /** What the owner was told is done. */
  #inForce = noRules;

  constructor(options: OwnershipOptions) {
    this.room = options.room;
    this.#options = options;
    const { room, send, nowMs } = options;
    this.#desk = new OwnerDesk({ room, send, nowMs, rules: () => this.#inForce });
    options.store.update({ isOwner: false });
  }

  /** The run says who the owner is: perhaps this browser. */
  async learn({ owner }: RunDescription): Promise<void> {
    const key = await ownerOf(this.room);
    if (key === null || key.publicKey !== owner) return;
    this.#desk.open(key);
    this.#options.store.update({ isOwner: true });
  }

  command(command: OwnerCommand): Promise<void> {
    return this.#desk.command(command);
  }

  declined(answer: Extract<CoordinatorEffect, { type: 'declined' }>): void {
    this.#desk.declined(answer);
  }

  tick(): void {
    this.#desk.tick();
  }

  /** What whoever leads says of the rules: saved, in case that this browser has to bring the room back. */
  observe({ rules, areRulesInForce }: Pick<RoomView, 'rules' | 'areRulesInForce'>): void {
    if (areRulesInForce && rules !== this.#inForce) {
      this.#inForce = rules;
      this.#desk.tick();
    }
    if (rules === this.#rules) return;
    this.#rules = rules;
    const { storage, store, useKeys } = this.#options;
    const { settings } = store.state;
    const { keys } = rules;
    if (keys !== null) useKeys(keys);
    const key = keys === null ? {} : { key: keys.current };
    const title = rules.title === null ? {} : { title: rules.title };
    // For the list of saved runs.
    const steps = settings === null ? {} : { steps: stepsOf(rules, settings.steps) };
    storage()
      .changeRun(this.room, { ...key, ...title, ...steps, rules: JSON.stringify(rules) })
      // Where nothing can be stored, saving the run itself has said so.
      .catch(() => undefined);
  }

  /** This page leaves the room: what the owner still waits for here will not be heard of. */
  close(): void {
    this.#desk.close();
  }
}
