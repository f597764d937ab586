/**
 * What the fuzzing of both machines shares: moves that fast-check draws and shrinks, what a hostile peer makes of a schema, and
 * the count of what got through. Each move carries a seed, so that a shorter sequence replays the rest as it was.
 */
import * as fc from 'fast-check';
import * as v from 'valibot';
import { mutated } from './mutate.ts';
import { Random } from './random.ts';
import { nameOf, namesIn, sample } from './samples.ts';
import type { Hints } from './samples.ts';

export interface Move {
  readonly seed: number;
  readonly afterMs: number;
  /** Sent as it is instead of what the seed would send. */
  readonly json: unknown;
}

const longestPauseMs = 40_000;

export const moves: fc.Arbitrary<readonly Move[]> = fc.array(
  fc.record({
    seed: fc.nat(2 ** 30),
    afterMs: fc.oneof({ weight: 30, arbitrary: fc.nat(500) }, { weight: 1, arbitrary: fc.nat(longestPauseMs) }),
    json: fc.oneof({ weight: 19, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) }),
  }),
  { minLength: 1, maxLength: 200, size: 'max' },
);

/** Everything tried on one schema: how much was sent, and how often each of its alternatives passed. */
export class Wire<Output> {
  sent = 0;
  readonly passed: Map<string, number>;
  readonly #schema: v.GenericSchema<unknown, Output>;

  constructor(schema: v.GenericSchema<unknown, Output>) {
    this.#schema = schema;
    this.passed = new Map(namesIn(schema).map((name) => [name, 0]));
  }

  /** What a peer sends, half of it as the schema wants it, as it arrives after JSON. Null when the schema turns it away. */
  receive(move: Move, random: Random, hints: Hints): Output | null {
    if (move.json !== undefined) return this.#parsed(move.json);
    const value = sample(this.#schema, random, hints);
    if (random.chance(0.5)) {
      let damaged = value;
      for (let rounds = 1 + random.below(3); rounds > 0; rounds -= 1) damaged = mutated(damaged, random);
      return this.#parsed(damaged);
    }
    const whole = this.#parsed(value);
    if (whole === null) throw new Error(`samples.ts drew what its schema refuses: ${JSON.stringify(value)}`);
    return whole;
  }

  #parsed(value: unknown): Output | null {
    this.sent += 1;
    const parsed = v.safeParse(this.#schema, JSON.parse(JSON.stringify(value)));
    if (!parsed.success) return null;
    const name = nameOf(this.#schema, parsed.output);
    this.passed.set(name, (this.passed.get(name) ?? 0) + 1);
    return parsed.output;
  }
}

export function expectTrue(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

/** For answers without a failure. */
export const neverFails = Object.assign(new Random(0), { chance: () => false, below: () => 0 });

/** Passes through JSON unchanged in meaning, and the other side takes it. */
export function expectSendable(schema: v.GenericSchema, message: unknown): void {
  const parsed = v.safeParse(schema, JSON.parse(JSON.stringify(message)));
  if (!parsed.success) throw new Error(`the other side would refuse ${JSON.stringify(message).slice(0, 500)}: ${v.summarize(parsed.issues)}`);
}
