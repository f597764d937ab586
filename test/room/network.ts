/**
 * A seeded, hostile network between named machines. Each connection has two ordered channels each way, control and blobs,
 * which overtake each other; messages are delayed, delivered twice or mutated, held back by partitions (also one-way), and
 * connections drop. Messages cross as JSON, as in production.
 */
import type { VirtualClock } from './clock.ts';
import { mutated } from './mutate.ts';
import type { Random } from './random.ts';

export interface NetworkFaults {
  readonly leastDelayMs: number;
  readonly mostDelayMs: number;
  readonly bytesPerMs: number;
  /** Chances per message. */
  readonly duplicate: number;
  readonly corrupt: number;
}

export const calmNetwork: NetworkFaults = { leastDelayMs: 2, mostDelayMs: 20, bytesPerMs: 2000, duplicate: 0, corrupt: 0 };

export interface Handlers {
  control(json: unknown): void;
  blob(header: unknown, bytes: ArrayBuffer): void;
  closed(reason: string): void;
}

/** One end of a connection, as its owner uses it. */
export interface End {
  readonly remote: string;
  sendControl(message: unknown): void;
  sendBlob(header: unknown, bytes: ArrayBuffer): void;
  /** Ends it from this side: nothing is delivered here any more. */
  close(): void;
}

/** A machine with an address that can be reached: `machine` is what partitions name, `address` changes with every load. */
export interface Station {
  readonly machine: string;
  readonly address: string;
  accept(end: End): Handlers;
}

/** What each machine can send, and receive, shared by all of its connections. Control messages don't wait for it. */
export interface Capacity {
  readonly bytesPerMs: number;
  /** What a blob is taken to weigh. */
  readonly weigh: (header: unknown, bytes: number) => number;
}

const handshakeRoundTrips = 3;
const unreachableAfterMs = 6_000;
const garbledShare = 0.2;
const leastDuplicateDelayMs = 1;
const mostDuplicateDelayMs = 400;
/** After this long without a path the transport itself gives a connection up. */
const leastIceTimeoutMs = 7_000;
const mostIceTimeoutMs = 14_000;

interface Delivery {
  readonly atMs: number;
  readonly deliver: () => void;
}

/** One channel in one direction: arrivals keep their order, and wait while the path is blocked. */
interface Pipe {
  readonly from: string;
  readonly to: string;
  lastArrivalMs: number;
  readonly held: Delivery[];
}

interface Side {
  readonly machine: string;
  readonly address: string;
  handlers: Handlers | null;
  isOpen: boolean;
}

interface Link {
  readonly sides: readonly [Side, Side];
  readonly pipes: readonly Pipe[];
  readonly iceTimeoutMs: number;
}

export class SimulatedNetwork {
  faults: NetworkFaults = calmNetwork;
  /** Null: only each connection has a rate. */
  capacity: Capacity | null = null;
  readonly #sendsUntilMs = new Map<string, number>();
  readonly #receivesUntilMs = new Map<string, number>();
  readonly #clock: VirtualClock;
  readonly #random: Random;
  readonly #stations = new Map<string, Station>();
  readonly #blocked = new Map<string, number>();
  readonly #garbled = new Set<string>();
  #links: Link[] = [];

  constructor(clock: VirtualClock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  listen(station: Station): void {
    this.#stations.set(station.address, station);
  }

  /** The machine is gone. Its peers hear of it at once, or only when the transport gives up, or not at all. */
  vanish(address: string, isNoticed: boolean): void {
    this.#stations.delete(address);
    for (const link of [...this.#links]) {
      const at = link.sides.findIndex((side) => side.address === address);
      if (at < 0) continue;
      const [self, other] = at === 0 ? link.sides : [link.sides[1], link.sides[0]];
      self.isOpen = false;
      const delayMs = isNoticed ? this.#delay() : this.#random.between(leastIceTimeoutMs, mostIceTimeoutMs);
      this.#clock.after(delayMs, () => {
        this.#end(link, other, 'the other side is gone');
      });
    }
  }

  /** Blocks what `from` sends to `to` for some time. Blocks may overlap. */
  block(from: string, to: string, durationMs: number): void {
    const key = `${from}→${to}`;
    this.#blocked.set(key, (this.#blocked.get(key) ?? 0) + 1);
    this.#clock.after(durationMs, () => {
      const left = (this.#blocked.get(key) ?? 1) - 1;
      this.#blocked.set(key, left);
      if (left === 0) this.#release(from, to);
    });
    for (const link of this.#links) {
      if (!link.sides.some((side) => side.machine === from) || !link.sides.some((side) => side.machine === to)) continue;
      if (durationMs <= link.iceTimeoutMs) continue;
      this.#clock.after(link.iceTimeoutMs, () => {
        for (const side of link.sides) this.#end(link, side, 'ICE failed');
      });
    }
  }

  /** Some of what this machine sends arrives as nothing that anybody understands, for some time. */
  garble(machine: string, durationMs: number): void {
    this.#garbled.add(machine);
    this.#clock.after(durationMs, () => {
      this.#garbled.delete(machine);
    });
  }

  /** Every connection between the two ends now, both sides seeing it. */
  drop(machine: string, other: string): void {
    for (const link of [...this.#links]) {
      const machines = link.sides.map((side) => side.machine);
      if (!machines.includes(machine) || !machines.includes(other)) continue;
      for (const side of link.sides) {
        this.#clock.after(this.#delay(), () => {
          this.#end(link, side, 'the connection dropped');
        });
      }
    }
  }

  /** Opens a connection; `done` gets null when nobody can be reached. */
  connect(from: { readonly machine: string; readonly address: string }, to: string, handlers: Handlers, done: (end: End | null) => void): void {
    const machineOf = () => this.#stations.get(to)?.machine ?? null;
    this.#clock.after(handshakeRoundTrips * this.#delay(), () => {
      const machine = machineOf();
      if (machine === null || this.#isBlocked(from.machine, machine) || this.#isBlocked(machine, from.machine)) {
        this.#clock.after(unreachableAfterMs, () => {
          done(null);
        });
        return;
      }
      const station = this.#stations.get(to) as Station;
      const caller: Side = { ...from, handlers, isOpen: true };
      const callee: Side = { machine, address: to, handlers: null, isOpen: true };
      const pipe = (a: string, b: string): Pipe => ({ from: a, to: b, lastArrivalMs: 0, held: [] });
      const [out, outBlobs] = [pipe(from.machine, machine), pipe(from.machine, machine)];
      const [back, backBlobs] = [pipe(machine, from.machine), pipe(machine, from.machine)];
      const link: Link = {
        sides: [caller, callee],
        pipes: [out, outBlobs, back, backBlobs],
        iceTimeoutMs: this.#random.between(leastIceTimeoutMs, mostIceTimeoutMs),
      };
      this.#links.push(link);
      callee.handlers = station.accept(this.#endOf(link, callee, caller, back, backBlobs));
      done(this.#endOf(link, caller, callee, out, outBlobs));
    });
  }

  #endOf(link: Link, self: Side, other: Side, control: Pipe, blobs: Pipe): End {
    return {
      remote: other.address,
      sendControl: (message) => {
        if (!self.isOpen) return;
        const json = JSON.stringify(message);
        const readyMs = this.#clock.nowMs + json.length / this.faults.bytesPerMs;
        this.#send(control, readyMs, other, () => other.handlers?.control(this.#received(json, self.machine)));
      },
      sendBlob: (header, bytes) => {
        if (!self.isOpen) return;
        const json = JSON.stringify(header);
        const readyMs = this.#transferred(blobs, header, bytes.byteLength);
        this.#send(blobs, readyMs, other, () => other.handlers?.blob(this.#received(json, self.machine), bytes));
      },
      close: () => {
        if (!self.isOpen) return;
        self.isOpen = false;
        const isCut = this.#isBlocked(self.machine, other.machine);
        this.#clock.after(isCut ? link.iceTimeoutMs : this.#delay(), () => {
          this.#end(link, other, 'closed by the other side');
        });
      },
    };
  }

  #received(json: string, from: string): unknown {
    if (this.#garbled.has(from) && this.#random.chance(garbledShare)) return { type: 'garbled', kind: 'garbled' };
    const message: unknown = JSON.parse(json);
    return this.#random.chance(this.faults.corrupt) ? mutated(message, this.#random) : message;
  }

  /** When the last of so many bytes is through, one blob after another. */
  #transferred({ from, to }: Pipe, header: unknown, bytes: number): number {
    const { nowMs } = this.#clock;
    if (this.capacity === null) return nowMs + bytes / this.faults.bytesPerMs;
    const { bytesPerMs, weigh } = this.capacity;
    const durationMs = weigh(header, bytes) / bytesPerMs;
    const sentMs = Math.max(nowMs, this.#sendsUntilMs.get(from) ?? 0) + durationMs;
    const receivedMs = Math.max(sentMs, (this.#receivesUntilMs.get(to) ?? 0) + durationMs);
    this.#sendsUntilMs.set(from, sentMs);
    this.#receivesUntilMs.set(to, receivedMs);
    return receivedMs;
  }

  /** `readyMs`: when it would be there if the way took no time. */
  #send(pipe: Pipe, readyMs: number, to: Side, deliver: () => void): void {
    const arriveIfOpen = (): void => {
      if (to.isOpen) deliver();
    };
    pipe.lastArrivalMs = Math.max(pipe.lastArrivalMs, readyMs + this.#delay());
    const delivery = { atMs: pipe.lastArrivalMs, deliver: arriveIfOpen };
    this.#clock.after(pipe.lastArrivalMs - this.#clock.nowMs, () => {
      if (pipe.held.length > 0 || this.#isBlocked(pipe.from, pipe.to)) pipe.held.push(delivery);
      else delivery.deliver();
    });
    if (this.#random.chance(this.faults.duplicate)) {
      const laterMs = this.#random.between(leastDuplicateDelayMs, mostDuplicateDelayMs);
      this.#clock.after(pipe.lastArrivalMs - this.#clock.nowMs + laterMs, () => {
        if (!this.#isBlocked(pipe.from, pipe.to)) arriveIfOpen();
      });
    }
  }

  #release(from: string, to: string): void {
    for (const link of this.#links) {
      for (const pipe of link.pipes) {
        if (pipe.from !== from || pipe.to !== to) continue;
        for (const delivery of pipe.held.splice(0)) delivery.deliver();
      }
    }
  }

  #end(link: Link, side: Side, reason: string): void {
    if (side.isOpen) {
      side.isOpen = false;
      side.handlers?.closed(reason);
    }
    if (link.sides.every((each) => !each.isOpen)) this.#links = this.#links.filter((each) => each !== link);
  }

  #isBlocked(from: string, to: string): boolean {
    return (this.#blocked.get(`${from}→${to}`) ?? 0) > 0;
  }

  #delay(): number {
    return this.#random.between(this.faults.leastDelayMs, this.faults.mostDelayMs);
  }
}
