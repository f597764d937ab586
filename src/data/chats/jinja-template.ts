/**
 * A model's own chat template, in Jinja (@huggingface/jinja, loaded when this file is: import it when it is needed), and whose each
 * stretch of what it writes is.
 *
 * A template may trim contents, take thoughts out of them, or leave old ones away, so what it wrote can't be searched for them.
 * Instead it writes everything twice: as it is, and with every character of message k in the place of one private character that
 * stands for k (white space, quotes and the words that the template itself looks for are left, so that it does the same). Where both
 * have the same length and agree on all that is not marked, the marks say exactly what came from whom. Where they don't, that is
 * an error: nothing is guessed.
 */
import { Template } from '@huggingface/jinja';
import { DataError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer.ts';
import { message as plainMessage } from './conversation.ts';
import type { Conversation, Message } from './conversation.ts';
import { specialsIn } from './special-places.ts';
import type { ChatTemplate, ContentRange, MessageRange, RenderedChat, SpecialTexts } from './template.ts';

/** Unicode's private use area, a character for each message. */
const firstMark = 0xe000;
const mostMessages = 6000;
/** Around what a template says the assistant generates. */
const [generationStart, generationEnd] = ['\uf8fe', '\uf8ff'];
const markPattern = /[\ue000-\uf76f]/;

/** What is left as it is in content, beside white space: a template's `tojson` writes quotes and control characters otherwise. */
const keptCharacters = String.raw`[\s"\\\u0000-\u001f]`;

interface Marked {
  readonly text: string;
  /** As long as `text`. */
  readonly marks: string;
  /** Ranges of `{% generation %}`; null where the template has none. */
  readonly generated: readonly { readonly start: number; readonly end: number }[] | null;
}

/** Throws `DataError` when the template can't be read, or can't render one question and one answer. `where`: which file it is from. */
export function jinjaTemplate(source: string, specialTexts: SpecialTexts, tokenizer: Tokenizer, where: string): ChatTemplate {
  return new JinjaTemplate(source, specialTexts, tokenizer, where);
}

class JinjaTemplate implements ChatTemplate {
  readonly name: string;
  readonly turnEnd: string | null;
  readonly #template: Template;
  readonly #hasGeneration: boolean;
  readonly #specialTexts: SpecialTexts;
  /** Matches what is kept when content is marked. */
  readonly #kept: RegExp;
  /** Texts that a template compares whole values with. */
  readonly #words: ReadonlySet<string>;
  /** What the template writes for the assistant to go on from. */
  readonly #opening: string;

  constructor(source: string, specialTexts: SpecialTexts, tokenizer: Tokenizer, where: string) {
    this.name = `the chat template of ${where}`;
    this.#specialTexts = specialTexts;
    this.#hasGeneration = /{%-?\s*generation\s*-?%}/.test(source);
    // As long as the tags that they stand for as far as white space around them goes.
    const withMarks = source
      .replaceAll(/{%(-?)\s*generation\s*(-?)%}/g, `{%$1 if true %}{{ '${generationStart}' }}{% endif $2%}`)
      .replaceAll(/{%(-?)\s*endgeneration\s*(-?)%}/g, `{%$1 if true %}{{ '${generationEnd}' }}{% endif $2%}`);
    try {
      this.#template = new Template(withMarks);
    } catch (error) {
      throw new DataError(`${where}: the chat template can't be read: ${messageOf(error)}`);
    }
    const literals = [...source.matchAll(/'([^'\\\n]+)'|"([^"\\\n]+)"/g)].map(([, single, double]) => single ?? double ?? '');
    this.#words = new Set(literals);
    // A special token's text must never stay: whoever writes it into a message would have written the token.
    const searched = literals.filter((literal) => /[^\w\s]/.test(literal) && literal.length > 1 && specialsIn(literal, tokenizer).length === 0);
    const longestFirst = [...new Set(searched)].sort((one, other) => other.length - one.length);
    this.#kept = new RegExp([...longestFirst.map(escaped), keptCharacters].join('|'), 'g');

    const question = { place: 'one question and one answer', messages: [plainMessage('user', 'x')], tools: null };
    const [before, opened] = [this.#marked(question, false).text, this.#marked(question, true).text];
    this.#opening = opened.startsWith(before) ? opened.slice(before.length) : '';
    const { text, marks } = this.#marked({ ...question, messages: [...question.messages, plainMessage('assistant', 'y')] }, false);
    const afterAnswer = text.slice(marks.lastIndexOf(markOf(1)) + 1);
    const end = specialsIn(afterAnswer, tokenizer)[0];
    this.turnEnd = end === undefined ? null : afterAnswer.slice(end.start, end.end);
  }

  render(conversation: Conversation): RenderedChat {
    return this.#rendered(conversation, this.#marked(conversation, false));
  }

  prompt(conversation: Conversation): RenderedChat {
    return this.#rendered(conversation, this.#marked(conversation, true));
  }

  #rendered({ messages }: Conversation, { text, marks, generated }: Marked): RenderedChat {
    const contents = this.#contents(messages, marks);
    return { text, contents, said: this.#said(messages, text, contents, generated) };
  }

  /** Message by message: its content as it stands, if it is there, and whatever else is marked. */
  #contents(messages: readonly Message[], marks: string): readonly ContentRange[] {
    const found: ContentRange[] = [];
    messages.forEach(({ content }, message) => {
      const marked = this.#mark(content, message);
      const mark = markOf(message);
      const forms = [marked, marked.trim(), marked.trimEnd(), marked.trimStart()];
      const form = marked.includes(mark) ? forms.find((candidate) => marks.includes(candidate)) : undefined;
      const start = form === undefined ? -1 : marks.indexOf(form);
      const end = start + (form?.length ?? 0);
      if (form !== undefined) found.push({ start, end, message, contentStart: marked.indexOf(form) });
      for (const { index, 0: run } of marks.matchAll(new RegExp(`${mark}(?:[\\s"\\\\]*${mark})*`, 'g'))) {
        if (index < start || index >= end) found.push({ start: index, end: index + run.length, message, contentStart: null });
      }
    });
    return found.sort((one, other) => one.start - other.start);
  }

  #said(messages: readonly Message[], text: string, contents: readonly ContentRange[], generated: Marked['generated']): readonly MessageRange[] {
    const turns = messages.flatMap((_, message) => {
      const own = contents.filter((range) => range.message === message);
      const [first, last] = [own[0], own.at(-1)];
      return first === undefined || last === undefined ? [] : [{ message, start: first.start, end: last.end }];
    });
    const said = turns.map(({ message, start, end }, at) => {
      const before = turns[at - 1]?.end ?? 0;
      const after = turns[at + 1]?.start ?? text.length;
      const opens = this.#opening === '' ? -1 : text.slice(before, start).lastIndexOf(this.#opening);
      const isAnswer = messages[message]?.role === 'assistant';
      const ends = this.turnEnd === null ? -1 : text.slice(end, after).indexOf(this.turnEnd);
      return {
        message,
        start: isAnswer && opens >= 0 ? before + opens + this.#opening.length : start,
        end: ends < 0 ? end : end + ends + (this.turnEnd?.length ?? 0),
      };
    });
    if (generated === null) return said;
    // The template itself says what the assistant generates.
    const answers = generated.map(({ start, end }) => ({ start, end, message: turns.find((turn) => turn.start >= start && turn.end <= end)?.message ?? null }));
    return [...said.filter(({ message }) => messages[message]?.role !== 'assistant'), ...answers].sort((one, other) => one.start - other.start);
  }

  #marked({ place, messages, tools }: Conversation, opensAnswer: boolean): Marked {
    if (messages.length > mostMessages) throw new DataError(`${place}: ${messages.length} messages are more than ${mostMessages}`);
    const plain = this.#write(place, messages.map(asTemplatesSee), tools, opensAnswer);
    const marked = this.#write(
      place,
      messages.map((message, index) => asTemplatesSee({ ...message, content: this.#mark(message.content, index), extras: this.#markAll(message.extras, index) as Message['extras'] })),
      tools,
      opensAnswer,
    );
    if (!agree(plain.text, marked.text)) throw new DataError(`${place}: ${this.name} does more with a message's text than can be followed, so that it is not known which tokens are whose`);
    return { text: plain.text, marks: marked.text, generated: this.#hasGeneration ? plain.generated : null };
  }

  #write(place: string, messages: readonly object[], tools: readonly unknown[] | null, opensAnswer: boolean): Omit<Marked, 'marks'> {
    let written: string;
    try {
      written = this.#template.render({ ...this.#specialTexts, messages, ...(tools === null ? {} : { tools }), add_generation_prompt: opensAnswer });
    } catch (error) {
      throw new DataError(`${place}: ${this.name} fails: ${messageOf(error)}`);
    }
    return this.#hasGeneration ? withoutGenerationMarks(written) : { text: written, generated: null };
  }

  #mark(content: string, message: number): string {
    const mark = markOf(message);
    let marked = '';
    let from = 0;
    for (const { 0: kept, index } of content.matchAll(this.#kept)) {
      marked += mark.repeat(index - from) + kept;
      from = index + kept.length;
    }
    return marked + mark.repeat(content.length - from);
  }

  /** In whatever a message has beside its content, all text but what the template may compare with as a whole. */
  #markAll(value: unknown, message: number): unknown {
    if (typeof value === 'string') return this.#words.has(value) ? value : this.#mark(value, message);
    if (Array.isArray(value)) return value.map((entry) => this.#markAll(entry, message));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, this.#markAll(entry, message)]));
  }
}

/** Whether the texts are the same but for what is marked. */
function agree(text: string, marks: string): boolean {
  if (text.length !== marks.length) return false;
  for (let at = 0; at < marks.length; at++) {
    if (marks[at] !== text[at] && !markPattern.test(marks[at] ?? '')) return false;
  }
  return true;
}

function asTemplatesSee({ role, content, extras }: Message): object {
  return { ...extras, role, content };
}

function withoutGenerationMarks(written: string): Omit<Marked, 'marks'> {
  const generated: { start: number; end: number }[] = [];
  const parts = written.split(new RegExp(`(${generationStart}|${generationEnd})`));
  let text = '';
  let start = 0;
  for (const part of parts) {
    if (part === generationStart) start = text.length;
    else if (part === generationEnd) generated.push({ start, end: text.length });
    else text += part;
  }
  return { text, generated };
}

function markOf(message: number): string {
  return String.fromCharCode(firstMark + message);
}

function escaped(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
