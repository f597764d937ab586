/** Damages JSON as a broken or hostile peer might: one value replaced, removed or added somewhere inside. */
import type { Random } from './random.ts';

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

const oddValues: readonly Json[] = [
  null,
  true,
  false,
  0,
  -1,
  1,
  0.5,
  2,
  1e308,
  -1e308,
  Number.MAX_SAFE_INTEGER,
  2 ** 53,
  '',
  'x',
  '__proto__',
  'x'.repeat(5000),
  '\u0000\u202e\ud800',
  [],
  [[]],
  {},
  { type: 'hello' },
];

export function mutated(message: unknown, random: Random): unknown {
  return mutate(message as Json, random);
}

function mutate(value: Json, random: Random): Json {
  if (value === null || typeof value !== 'object' || random.chance(0.1)) return odd(value, random);
  if (Array.isArray(value)) {
    const items = [...(value as readonly Json[])];
    if (items.length === 0 || random.chance(0.2)) return [...items, random.pick(oddValues)];
    const at = random.below(items.length);
    if (random.chance(0.3)) return items.toSpliced(at, 1);
    return items.with(at, mutate(items[at] ?? null, random));
  }
  const entries = Object.entries(value as { readonly [key: string]: Json });
  const at = random.below(entries.length);
  const [key, inner] = entries[at] ?? ['extra', null];
  if (random.chance(0.15)) return Object.fromEntries(entries.toSpliced(at, 1));
  if (random.chance(0.1)) return { ...value, [`${key}2`]: random.pick(oddValues) };
  return { ...value, [key]: mutate(inner, random) };
}

function odd(value: Json, random: Random): Json {
  if (typeof value === 'number' && random.chance(0.6)) {
    return random.pick([value + 1, value - 1, -value, value * 2, value + 0.5, 0, value * 1e6]);
  }
  if (typeof value === 'string' && random.chance(0.4)) return random.pick([`${value}0`, value.slice(1), value.toUpperCase()]);
  return random.pick(oddValues);
}
