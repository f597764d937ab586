/**
 * The room's owner in a simulation: gives one order after another from wherever its tab is at the moment, again and again until
 * the rules say that it is done or it is declined. Nothing is signed here: that is the session's, and has tests of its own.
 */
import { orderOf } from '../../src/room/rules.ts';
import type { OwnerCommand, SignedCommand } from '../../src/room/rules.ts';
import { LeadHost } from './lead-host.ts';
import type { Simulation } from './simulator.ts';

const lookMs = 200;
const resendMs = 1_000;
const patienceMs = 15_000;

interface Order {
  readonly command: OwnerCommand;
  readonly signed: SignedCommand;
  readonly givenAtMs: number;
  sentAtMs: number;
}

export class Orders {
  readonly #room: Simulation;
  readonly #owner: string;
  readonly #waiting: OwnerCommand[] = [];
  #pending: Order | null = null;
  #lastRevision = 0;
  /** Carried out, as the owner was told. */
  done = 0;

  constructor(room: Simulation, owner: string) {
    this.#room = room;
    this.#owner = owner;
    this.#lookLater();
  }

  give(command: OwnerCommand): void {
    this.#waiting.push(command);
  }

  /** Nothing is on its way. */
  get isIdle(): boolean {
    return this.#pending === null && this.#waiting.length === 0;
  }

  #lookLater(): void {
    this.#room.world.clock.after(lookMs, () => {
      this.#look();
      this.#lookLater();
    });
  }

  #look(): void {
    const { world } = this.#room;
    const host = this.#room.host(this.#owner);
    if (host === null) return;
    const { rules, areRulesInForce } = host.view;
    const { nowMs } = world.clock;
    const pending = this.#pending;
    if (pending !== null && areRulesInForce && rules.orders.includes(orderOf(pending.signed))) {
      world.log.note('OWNER', `is told that order ${pending.signed.revision} is carried out`);
      world.ledger.acknowledged(pending.signed.revision);
      this.done += 1;
      this.#pending = null;
    } else if (pending !== null && (world.declined.has(pending.signed.revision) || nowMs - pending.givenAtMs > patienceMs)) {
      this.#pending = null;
    }
    const [command] = this.#waiting;
    if (this.#pending === null && command !== undefined) {
      this.#waiting.shift();
      this.#lastRevision = Math.max(this.#lastRevision, rules.revision) + 1;
      const signature = String(this.#lastRevision).padStart(16, '0').padEnd(86, 'x');
      const signed = { revision: this.#lastRevision, command: JSON.stringify(command), signature };
      this.#pending = { command, signed, givenAtMs: nowMs, sentAtMs: -Infinity };
    }
    if (this.#pending !== null && nowMs - this.#pending.sentAtMs >= resendMs) this.#send(this.#pending);
  }

  #send(order: Order): void {
    const host = this.#room.host(this.#owner);
    const { signed, command } = order;
    order.sentAtMs = this.#room.world.clock.nowMs;
    this.#room.world.log.note('OWNER', `orders ${signed.revision}: ${signed.command}`);
    if (host instanceof LeadHost) host.order(signed, command);
    else host?.order(signed);
  }
}
