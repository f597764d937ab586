/** Where in a template's words its special tokens stand. Only for what a template has written: people's text has none. */
import type { Tokenizer } from '../tokenizer.ts';

export interface SpecialPlace {
  /** In UTF-16 units. */
  readonly start: number;
  readonly end: number;
  readonly id: number;
}

/** Templates write the same few stretches again and again. */
const mostKept = 1000;
const known = new WeakMap<Tokenizer, Map<string, readonly SpecialPlace[]>>();

export function specialsIn(text: string, tokenizer: Tokenizer): readonly SpecialPlace[] {
  if (text === '') return [];
  const places = known.get(tokenizer) ?? new Map<string, readonly SpecialPlace[]>();
  known.set(tokenizer, places);
  const before = places.get(text);
  if (before !== undefined) return before;
  if (places.size >= mostKept) places.clear();
  const found = find(text, tokenizer);
  places.set(text, found);
  return found;
}

/** By the ids that the whole text gets: which of them are special, and then where each of those stands after the one before. */
function find(text: string, tokenizer: Tokenizer): readonly SpecialPlace[] {
  const found: SpecialPlace[] = [];
  let from = 0;
  for (const id of tokenizer.encodeMarked(text)) {
    const name = tokenizer.decode([id]);
    if (tokenizer.specialId(name) !== id) continue;
    const start = text.indexOf(name, from);
    if (start < 0) continue;
    found.push({ start, end: start + name.length, id });
    from = start + name.length;
  }
  return found;
}
