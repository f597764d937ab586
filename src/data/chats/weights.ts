/**
 * An objective laid over a text: what each of its characters weighs. Which token a character belongs to is `tokenize.ts`'s affair.
 */
import type { Message, WeightedSpan } from './conversation.ts';
import { weightingOf } from './objective.ts';
import type { Delimiter, Objective } from './objective.ts';
import type { RenderedChat } from './template.ts';
import { DataError } from '../errors.ts';

/** By UTF-16 unit of the text. */
export type CharacterWeights = Float32Array<ArrayBuffer>;

/**
 * Throws `DataError` where the data weighs characters of a message that the template has changed.
 */
export function chatWeights({ text, contents, said }: RenderedChat, messages: readonly Message[], objective: Objective, place: string): CharacterWeights {
  const { elsewhere, ofRole, delimiters } = weightingOf(objective);
  const weights = new Float32Array(text.length).fill(elsewhere);
  for (const { start, end, message: index } of said) {
    const { role, weight: factor } = (index === null ? undefined : messages[index]) ?? { role: 'assistant' as const, weight: 1 };
    weights.fill(ofRole[role] * factor, start, end);
    if (role === 'assistant') fillDelimited(weights, text, start, end, delimiters, factor);
  }
  messages.forEach(({ content, spans }, index) => {
    if (spans.length === 0) return;
    const range = contents.find(({ message, contentStart }) => message === index && contentStart !== null);
    const isWhole = range !== undefined && range.end - range.start >= content.trim().length;
    if (!isWhole) throw new DataError(`${place}: messages[${index}] has spans, and the template does not write its content as it is, so that they can't be found`);
    fillSpans(weights, content, spans, range.start - (range.contentStart ?? 0), [range.start, range.end]);
  });
  return weights;
}

export function textWeights(text: string, spans: readonly WeightedSpan[], objective: Objective): CharacterWeights {
  const { ofText, delimiters } = weightingOf(objective);
  const weights = new Float32Array(text.length).fill(ofText);
  fillDelimited(weights, text, 0, text.length, delimiters, 1);
  fillSpans(weights, text, spans, 0, [0, text.length]);
  return weights;
}

/** The first delimiter to open counts until it closes: they don't nest. */
function fillDelimited(weights: CharacterWeights, text: string, start: number, end: number, delimiters: readonly Delimiter[], factor: number): void {
  const inside = text.slice(start, end);
  for (let from = 0; from < inside.length; ) {
    const opened = delimiters
      .map((delimiter) => ({ ...delimiter, at: inside.indexOf(delimiter.open, from) }))
      .filter(({ at }) => at >= 0)
      .sort((one, other) => one.at - other.at)[0];
    if (opened === undefined) return;
    const closes = inside.indexOf(opened.close, opened.at + opened.open.length);
    const to = closes < 0 ? inside.length : closes + opened.close.length;
    weights.fill(opened.weight * factor, start + opened.at, start + to);
    from = to;
  }
}

function fillSpans(weights: CharacterWeights, content: string, spans: readonly WeightedSpan[], shift: number, [from, to]: readonly [number, number]): void {
  if (spans.length === 0) return;
  const unitAt = [0];
  for (const character of content) unitAt.push((unitAt.at(-1) ?? 0) + character.length);
  const clamped = (point: number): number => Math.min(to, Math.max(from, shift + (unitAt[point] ?? content.length)));
  for (const { start, end, weight } of spans) weights.fill(weight, clamped(start), clamped(end));
}
