/**
 * Random values that pass a schema, drawn from the schema itself: whatever message it allows is sent some time, and a new one
 * needs no words here. Bounds and their neighbours come often. Not every kind of schema is known, only those that are in use.
 */
import * as fc from 'fast-check';
import * as v from 'valibot';
import type { Random } from './random.ts';

/** Values that would mean something under this key just now. Those that the schema forbids are passed over. */
export type Hints = (key: string) => readonly unknown[];

/** What is read of a valibot schema; which of it is there depends on `type`. */
interface Shape {
  readonly type: string;
  readonly key?: string;
  readonly pipe?: readonly Shape[];
  readonly requirement?: unknown;
  readonly options?: readonly unknown[];
  readonly entries?: Readonly<Record<string, unknown>>;
  readonly wrapped?: unknown;
  readonly item?: unknown;
  readonly literal?: unknown;
}

const hintedShare = 0.9;
/** Strings and arrays as long as they may be come rarely: the longest have two million characters. */
const longestShare = 0.002;
const usualLength = 6;

/** What a variant's alternatives are called: the literals by which it tells them apart. */
export function namesIn(schema: unknown): readonly string[] {
  const { key = '', options = [] } = schema as Shape;
  return options.map((option) => String(((option as Shape).entries?.[key] as Shape | undefined)?.literal));
}

/** Which alternative a value that passes is. */
export function nameOf(schema: unknown, value: unknown): string {
  return String((value as Readonly<Record<string, unknown>>)[(schema as Shape).key ?? '']);
}

export function sample(schema: unknown, random: Random, hints: Hints): unknown {
  const shape = schema as Shape;
  switch (shape.type) {
    case 'variant':
    case 'union':
      return sample(random.pick(shape.options ?? []), random, hints);
    case 'object':
      return Object.fromEntries(
        Object.entries(shape.entries ?? {}).flatMap(([key, entry]) => {
          const value = hinted(key, entry, random, hints) ?? sample(entry, random, hints);
          return value === undefined ? [] : [[key, value]];
        }),
      );
    case 'literal':
      return shape.literal;
    case 'picklist':
      return random.pick(shape.options ?? []);
    case 'boolean':
      return random.chance(0.5);
    case 'null':
      return null;
    case 'nullable':
      return random.chance(0.3) ? null : sample(shape.wrapped, random, hints);
    case 'optional':
    case 'exact_optional':
      return random.chance(0.3) ? undefined : sample(shape.wrapped, random, hints);
    case 'array':
      return Array.from({ length: lengthOf(shape, random) }, () => sample(shape.item, random, hints));
    case 'number':
      return numberOf(shape, random);
    case 'string':
      return stringOf(shape, random);
    default:
      throw new Error(`test/room/samples.ts draws no value of a schema of type “${shape.type}” yet`);
  }
}

function hinted(key: string, entry: unknown, random: Random, hints: Hints): unknown {
  if (!random.chance(hintedShare)) return undefined;
  const fitting = hints(key).filter((value) => v.is(entry as v.GenericSchema, value));
  return fitting.length > 0 ? random.pick(fitting) : undefined;
}

/** A schema may be a pipe of another that is one. */
function requirements({ pipe = [] }: Shape): readonly Shape[] {
  return pipe.flatMap((each) => [each, ...requirements(each)]);
}

function limit(shape: Shape, type: string, otherwise: number): number {
  const limits = requirements(shape).filter((each) => each.type === type).map((each) => Number(each.requirement));
  return limits.length === 0 ? otherwise : type.startsWith('min') ? Math.max(...limits) : Math.min(...limits);
}

function lengthOf(shape: Shape, random: Random): number {
  const [least, most] = [limit(shape, 'min_length', 0), limit(shape, 'max_length', usualLength)];
  if (random.chance(longestShare)) return most;
  return Math.min(most, least + random.below(usualLength));
}

function numberOf(shape: Shape, random: Random): number {
  const [least, most] = [limit(shape, 'min_value', -Number.MAX_VALUE), limit(shape, 'max_value', Number.MAX_VALUE)];
  const isWhole = requirements(shape).some(({ type }) => type === 'integer');
  const within = (value: number): number => Math.min(most, Math.max(least, isWhole ? Math.round(value) : value));
  return random.pick([within(random.below(8)), within(random.between(-1, 100)), within(10 ** random.between(-300, 300)), within(-(10 ** random.between(-300, 300))), within(least + 1), within(most - 1), least, most]);
}

const alphabet = ['a', 'Z', '0', ' ', '"', '\\', 'ä', '\u0000', '\u202e', '😀', '\ud800', '<b>'];
const matching = new Map<string, readonly string[]>();

function stringOf(shape: Shape, random: Random): string {
  const regex = requirements(shape).find(({ type }) => type === 'regex')?.requirement;
  if (regex instanceof RegExp) {
    const known = matching.get(regex.source) ?? fc.sample(fc.stringMatching(regex), { numRuns: 50, seed: 1 });
    matching.set(regex.source, known);
    return random.pick(known);
  }
  const length = lengthOf(shape, random);
  let text = '';
  while (text.length < length) text += length > usualLength ? alphabet[text.length % alphabet.length] : random.pick(alphabet);
  return text.slice(0, length);
}
