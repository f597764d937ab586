/**
 * A chat's template: how a conversation becomes one text, and which stretches of that text people said. ChatML is here; a model's
 * own is read by `jinja-template.ts`. Makes no tokens.
 */
import type { Tokenizer } from '../tokenizer.ts';
import { DataError } from '../errors.ts';
import type { Conversation, Message } from './conversation.ts';

/** From `start` to before `end`, in UTF-16 units of the rendered text. */
export interface MessageRange {
  readonly start: number;
  readonly end: number;
  /** Which message of the conversation; null where a template doesn't tell. */
  readonly message: number | null;
}

export interface ContentRange extends MessageRange {
  /** Where in the message's content it begins, in UTF-16 units; null where it is no piece of it as it stands. */
  readonly contentStart: number | null;
}

export interface RenderedChat {
  readonly text: string;
  /** What comes from the data, in order: whatever it looks like, it is text. All else are the template's words. */
  readonly contents: readonly ContentRange[];
  /** What a participant says, up to and with the token that ends the turn, in order. */
  readonly said: readonly MessageRange[];
}

/** By the names that templates call them: `bos_token` and the like. */
export type SpecialTexts = Readonly<Record<string, string>>;

export interface ChatTemplate {
  /** For a person. */
  readonly name: string;
  /** The special token that ends a turn; null where the template has none. */
  readonly turnEnd: string | null;
  /** Throws `DataError` with the conversation's place. */
  render(conversation: Conversation): RenderedChat;
  /** The same, up to where the assistant is to speak next. */
  prompt(conversation: Conversation): RenderedChat;
}

const [turnStart, turnEnd] = ['<|im_start|>', '<|im_end|>'];

/** Puts a text together and notes whose each stretch is. */
export class ChatWriter {
  readonly #contents: ContentRange[] = [];
  readonly #said: MessageRange[] = [];
  #text = '';

  get length(): number {
    return this.#text.length;
  }

  template(text: string): void {
    this.#text += text;
  }

  content(text: string, message: number, contentStart: number | null): void {
    if (text === '') return;
    this.#contents.push({ start: this.length, end: this.length + text.length, message, contentStart });
    this.#text += text;
  }

  said(start: number, message: number): void {
    this.#said.push({ start, end: this.length, message });
  }

  rendered(): RenderedChat {
    return { text: this.#text, contents: this.#contents, said: this.#said };
  }
}

/**
 * `<|im_start|>role`, the content and `<|im_end|>`, each message on lines of its own. Calls of tools follow the content as JSON
 * between `<tool_call>` lines, as Hermes models have them. Throws `DataError` when the tokenizer lacks the two tokens.
 */
export function chatMl(tokenizer: Pick<Tokenizer, 'specialId'>): ChatTemplate {
  const missing = [turnStart, turnEnd].filter((token) => tokenizer.specialId(token) === null);
  if (missing.length > 0) {
    throw new DataError(
      `conversations are written in ChatML, and the tokenizer has no special token ${missing.join(' and ')}: take one that has them (byte pairs trained here do), or a model with a chat template of its own`,
    );
  }
  const write = ({ place, messages, tools }: Conversation): ChatWriter => {
    if (tools !== null) throw new DataError(`${place}: ChatML has no place for tools: leave them out, or take a model whose template has one`);
    const writer = new ChatWriter();
    messages.forEach((message, index) => writeTurn(writer, message, index, place));
    return writer;
  };
  return {
    name: 'ChatML',
    turnEnd,
    render: (conversation) => write(conversation).rendered(),
    prompt(conversation) {
      const writer = write(conversation);
      writer.template(`${turnStart}assistant\n`);
      return writer.rendered();
    },
  };
}

function writeTurn(writer: ChatWriter, { role, content, extras }: Message, index: number, place: string): void {
  writer.template(`${turnStart}${role}\n`);
  const start = writer.length;
  writer.content(content, index, 0);
  for (const call of callsOf(extras['tool_calls'], `${place}, messages[${index}].tool_calls`)) {
    writer.template(`${writer.length === start ? '' : '\n'}<tool_call>\n`);
    writer.content(call, index, null);
    writer.template('\n</tool_call>');
  }
  writer.template(turnEnd);
  writer.said(start, index);
  writer.template('\n');
}

function callsOf(value: unknown, where: string): readonly string[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new DataError(`${where} is not a list`);
  return value.map((call: unknown) => {
    const inner: unknown = typeof call === 'object' && call !== null && 'function' in call ? call.function : call;
    return JSON.stringify(inner);
  });
}
