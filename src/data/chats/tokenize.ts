/**
 * Conversations and texts as tokens with loss weights (DESIGN §5: not shifted), and the same for a person to look at.
 *
 * The text between two special tokens is encoded as a whole, template's words and contents together, as Hugging Face's
 * `apply_chat_template` with their tokenizers does it; but what comes from the data is always text, also where it looks like a
 * special token. A token weighs what the character weighs that its first byte is of.
 */
import { DataError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer.ts';
import type { TokenDocument } from '../types.ts';
import type { Conversation, WeightedSpan } from './conversation.ts';
import { weightingOf } from './objective.ts';
import type { Objective, Role } from './objective.ts';
import { specialsIn } from './special-places.ts';
import type { SpecialPlace } from './special-places.ts';
import type { ChatTemplate, RenderedChat } from './template.ts';
import { chatWeights, textWeights } from './weights.ts';
import type { CharacterWeights } from './weights.ts';

export interface PlainText {
  readonly place: string;
  readonly text: string;
  /** The data's own weights. */
  readonly spans: readonly WeightedSpan[];
}

/** A token as a person sees it. */
export interface PreviewToken {
  readonly id: number;
  /** Empty where it ends within a character: the next one shows it. */
  readonly text: string;
  /** Whose words these are: `template` for what nobody says, `text` for what is no conversation. */
  readonly role: Role | 'template' | 'text';
  /** Of predicting it; 0 for the first, which nothing predicts. */
  readonly weight: number;
}

export interface PreviewRow {
  readonly place: string;
  readonly tokens: readonly PreviewToken[];
}

interface Encoded {
  readonly ids: Uint32Array<ArrayBuffer>;
  /** Where each token's first byte lies, in UTF-16 units of the text. */
  readonly starts: () => Uint32Array<ArrayBuffer>;
}

/** Throws `DataError` with the conversation's place. */
export function tokenizeConversation(conversation: Conversation, template: ChatTemplate, objective: Objective, tokenizer: Tokenizer): TokenDocument {
  const rendered = template.render(conversation);
  const encoded = encodeChat(rendered, tokenizer, conversation.place);
  return { ids: encoded.ids, weights: weightsOfTokens(encoded, chatWeights(rendered, conversation.messages, objective, conversation.place)) };
}

/** The end-of-text token, where the tokenizer has one, is the document's last, and counts as the text does. */
export function tokenizeText(text: PlainText, objective: Objective, tokenizer: Tokenizer): TokenDocument {
  const encoded = encodeText(text, tokenizer);
  const { ofText, delimiters } = weightingOf(objective);
  // A text may be a book: nothing is made of each of its characters that need not be.
  if (ofText === 1 && delimiters.length === 0 && text.spans.length === 0) return { ids: encoded.ids, weights: null };
  return { ids: encoded.ids, weights: weightsOfTokens(encoded, weightsOfText(text, objective, tokenizer)) };
}

/** Up to where the assistant is to speak next. */
export function promptTokens(conversation: Conversation, template: ChatTemplate, tokenizer: Tokenizer): Uint32Array<ArrayBuffer> {
  return encodeChat(template.prompt(conversation), tokenizer, conversation.place).ids;
}

export function previewConversation(conversation: Conversation, template: ChatTemplate, objective: Objective, tokenizer: Tokenizer): PreviewRow {
  const { place, messages } = conversation;
  const rendered = template.render(conversation);
  const encoded = encodeChat(rendered, tokenizer, place);
  const roleAt = (start: number): PreviewToken['role'] => {
    const range = rendered.said.find((said) => start >= said.start && start < said.end);
    return range === undefined ? 'template' : range.message === null ? 'assistant' : (messages[range.message]?.role ?? 'template');
  };
  return { place, tokens: previewOf(rendered.text, encoded, chatWeights(rendered, messages, objective, place), roleAt) };
}

export function previewText(text: PlainText, objective: Objective, tokenizer: Tokenizer): PreviewRow {
  const tokens = previewOf(text.text, encodeText(text, tokenizer), weightsOfText(text, objective, tokenizer), () => 'text');
  return { place: text.place, tokens };
}

function previewOf(text: string, { ids, starts }: Encoded, weights: CharacterWeights, roleAt: (start: number) => PreviewToken['role']): readonly PreviewToken[] {
  const begins = starts();
  return Array.from(ids, (id, index) => {
    const start = begins[index] ?? text.length;
    return { id, text: text.slice(start, begins[index + 1] ?? text.length), role: roleAt(start), weight: index === 0 ? 0 : (weights[start] ?? 0) };
  });
}

/** One more than the text has characters: what stands after it is the end-of-text token. */
function weightsOfText({ text, spans }: PlainText, objective: Objective, { endOfText }: Tokenizer): CharacterWeights {
  const weights = new Float32Array(text.length + (endOfText === null ? 0 : 1)).fill(weightingOf(objective).ofText);
  weights.set(textWeights(text, spans, objective));
  return weights;
}

/** Null where every token counts 1. */
function weightsOfTokens({ ids, starts }: Encoded, weights: CharacterWeights): Float32Array<ArrayBuffer> | null {
  if (weights.every((weight) => weight === 1)) return null;
  const [only] = weights;
  if (weights.every((weight) => weight === only)) return new Float32Array(ids.length).fill(only ?? 0);
  return Float32Array.from(starts(), (start) => weights[start] ?? 0);
}

function encodeText({ place, text }: PlainText, tokenizer: Tokenizer): Encoded {
  const { endOfText } = tokenizer;
  const end: SpecialPlace[] = endOfText === null ? [] : [{ start: text.length, end: text.length, id: endOfText }];
  return encodeAround(text, end, tokenizer, place);
}

function encodeChat({ text, contents }: RenderedChat, tokenizer: Tokenizer, place: string): Encoded {
  const specials: SpecialPlace[] = [];
  let from = 0;
  for (const { start, end } of [...contents, { start: text.length, end: text.length }]) {
    for (const special of specialsIn(text.slice(from, start), tokenizer)) {
      specials.push({ ...special, start: from + special.start, end: from + special.end });
    }
    from = end;
  }
  return encodeAround(text, specials, tokenizer, place);
}

/** What lies between special tokens, each stretch as a whole. */
function encodeAround(text: string, specials: readonly SpecialPlace[], tokenizer: Tokenizer, place: string): Encoded {
  const stretches: { readonly start: number; readonly text: string; readonly ids: Uint32Array }[] = [];
  let from = 0;
  for (const { start, end, id } of [...specials, { start: text.length, end: text.length, id: null }]) {
    if (start > from) stretches.push({ start: from, text: text.slice(from, start), ids: encodeStretch(text.slice(from, start), tokenizer, place) });
    if (id !== null) stretches.push({ start, text: text.slice(start, end), ids: Uint32Array.of(id) });
    from = end;
  }
  const ids = new Uint32Array(stretches.reduce((count, stretch) => count + stretch.ids.length, 0));
  let at = 0;
  for (const stretch of stretches) {
    ids.set(stretch.ids, at);
    at += stretch.ids.length;
  }
  return {
    ids,
    starts: () => {
      const starts = new Uint32Array(ids.length);
      let first = 0;
      for (const stretch of stretches) {
        if (stretch.ids.length === 1) starts[first] = stretch.start;
        else startsWithin(stretch.text, stretch.ids, tokenizer, place).forEach((start, index) => (starts[first + index] = stretch.start + start));
        first += stretch.ids.length;
      }
      return starts;
    },
  };
}

function encodeStretch(text: string, tokenizer: Tokenizer, place: string): Uint32Array {
  try {
    return tokenizer.encode(text);
  } catch (error) {
    throw new DataError(`${place}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** A token begins in the first character that those before it have not finished. */
function startsWithin(text: string, ids: Uint32Array, tokenizer: Tokenizer, place: string): readonly number[] {
  const decoder = tokenizer.streamDecoder();
  const starts: number[] = [];
  let finished = '';
  for (const id of ids) {
    starts.push(finished.length);
    finished += decoder.push(id);
  }
  finished += decoder.end();
  if (finished !== text) {
    throw new DataError(`${place}: this tokenizer changes text (${firstDifference(text, finished)}), so that its tokens can't be told apart by whose words they are; with the objective “everything” they need not be`);
  }
  return starts;
}

function firstDifference(text: string, decoded: string): string {
  let at = 0;
  while (at < text.length && text[at] === decoded[at]) at++;
  const from = Math.max(0, at - 10);
  return `${JSON.stringify(text.slice(from, at + 10))} becomes ${JSON.stringify(decoded.slice(from, at + 10))}`;
}
