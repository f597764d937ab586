/**
 * Conversations as one type, and the layouts of data sets that are read as such: OpenAI's `messages`, ShareGPT's `conversations`,
 * Alpaca, prompt and completion, question and answer. Knows no templates and no tokens.
 */
import { DataError } from '../errors.ts';
import { roles } from './objective.ts';
import type { Role } from './objective.ts';
import { isRecord } from '../records.ts';

/** Of characters from `start` to before `end`, counted as Unicode code points, as Python counts them. */
export interface WeightedSpan {
  readonly start: number;
  readonly end: number;
  readonly weight: number;
}

export interface Message {
  readonly role: Role;
  readonly content: string;
  /** What else the record says of it, for templates that read it: `tool_calls`, `name`, `reasoning_content`. */
  readonly extras: Readonly<Record<string, unknown>>;
  /** The data's own: what the objective makes of the message is multiplied by it. */
  readonly weight: number;
  /** The data's own, over all else. */
  readonly spans: readonly WeightedSpan[];
}

export interface Conversation {
  readonly place: string;
  readonly messages: readonly Message[];
  /** What tools there are, as templates take them; null where the record has none. */
  readonly tools: readonly unknown[] | null;
}

type Fields = Readonly<Record<string, unknown>>;

/** A way to write conversations down: which keys give it away, and how it is read. */
interface Layout {
  /** As a person knows it. */
  readonly name: string;
  isOf(record: Fields): boolean;
  read(record: Fields, place: string): readonly Message[];
}

const roleNames: Readonly<Record<string, Role>> = {
  ...Object.fromEntries(roles.map((role) => [role, role])),
  developer: 'system',
  human: 'user',
  gpt: 'assistant',
  model: 'assistant',
  bot: 'assistant',
  chatgpt: 'assistant',
  function_call: 'assistant',
  function: 'tool',
  ipython: 'tool',
  observation: 'tool',
  function_response: 'tool',
};

const questionKeys = ['question', 'query', 'problem'] as const;
const answerKeys = ['answer', 'response', 'solution'] as const;

/** In this order: the first that fits is taken. */
const layouts: readonly Layout[] = [
  turnsLayout('messages', 'messages with role and content'),
  turnsLayout('conversations', 'conversations with from and value'),
  turnsLayout('conversation', 'conversation with role and content'),
  {
    name: 'instruction, input and output (Alpaca)',
    isOf: (record) => has(record, 'instruction') && (has(record, 'output') || has(record, 'response')),
    read(record, place) {
      const context = has(record, 'input') ? 'input' : 'context';
      const [instruction, input] = [textOf(record, 'instruction', place), has(record, context) ? textOf(record, context, place) : ''];
      const question = input.trim() === '' ? instruction : `${instruction}\n\n${input}`;
      return exchange(record, place, question, textOf(record, has(record, 'output') ? 'output' : 'response', place));
    },
  },
  {
    name: 'prompt and completion',
    isOf: (record) => has(record, 'prompt') && (has(record, 'completion') || has(record, 'response')),
    read(record, place) {
      const answerKey = has(record, 'completion') ? 'completion' : 'response';
      const { prompt, [answerKey]: answer } = record;
      if (Array.isArray(prompt) && Array.isArray(answer)) return [...turns(prompt, `${place}, prompt`), ...turns(answer, `${place}, ${answerKey}`)];
      return exchange(record, place, textOf(record, 'prompt', place), textOf(record, answerKey, place));
    },
  },
  {
    name: 'question and answer',
    isOf: (record) => keyAmong(record, questionKeys) !== undefined && keyAmong(record, answerKeys) !== undefined,
    read(record, place) {
      const [question = '', answer = ''] = [keyAmong(record, questionKeys), keyAmong(record, answerKeys)];
      return exchange(record, place, textOf(record, question, place), textOf(record, answer, place));
    },
  },
  {
    name: 'input and output',
    isOf: (record) => has(record, 'input') && has(record, 'output'),
    read: (record, place) => exchange(record, place, textOf(record, 'input', place), textOf(record, 'output', place)),
  },
];

/** Whether a record is laid out as a conversation that can be read here. */
export function isConversation(record: Fields): boolean {
  return layouts.some((layout) => layout.isOf(record));
}

/** Throws `DataError` with the record's place and the key. */
export function readConversation(record: Fields, place: string): Conversation {
  const layout = layouts.find((candidate) => candidate.isOf(record));
  if (layout === undefined) {
    const keys = Object.keys(record);
    const found = keys.length === 0 ? 'no keys' : `the keys ${keys.slice(0, 12).join(', ')}${keys.length > 12 ? ' and more' : ''}`;
    throw new DataError(`${place}: no known layout of a conversation has ${found}. Understood are: ${layouts.map(({ name }) => name).join('; ')}; or text`);
  }
  const messages = layout.read(record, place);
  if (messages.every(({ content, extras }) => content === '' && Object.keys(extras).length === 0)) throw new DataError(`${place}: the conversation is empty`);
  return { place, messages, tools: toolsOf(record, place) };
}

/** What is said in it, for a tokenizer that is to be learned. Throws as `readConversation` does. */
export function conversationTexts(record: Fields, place: string): readonly string[] {
  return readConversation(record, place).messages.map(({ content }) => content);
}

/** Spans of a text or a message; throws `DataError` where they don't lie in it. */
export function readSpans(value: unknown, text: string, where: string): readonly WeightedSpan[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new DataError(`${where}.spans is not a list`);
  const length = [...text].length;
  return value.map((span: unknown, index) => {
    const { start, end, weight } = isRecord(span) ? span : {};
    const [from, to] = [numberOf(start), numberOf(end)];
    if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= length)) {
      throw new DataError(`${where}.spans[${index}] goes from ${shown(start)} to ${shown(end)}, and the text has ${length} characters`);
    }
    return { start: from, end: to, weight: weightOf(weight, `${where}.spans[${index}].weight`) };
  });
}

function turnsLayout(key: string, name: string): Layout {
  return {
    name,
    isOf: (record) => has(record, key),
    read(record, place) {
      const where = `${place}, ${key}`;
      const system = key === 'conversations' && typeof record['system'] === 'string' && record['system'] !== '' ? [message('system', record['system'])] : [];
      return [...system, ...turns(parsed(record[key], where), where)];
    },
  };
}

/** A table's cell may hold them as JSON. */
function parsed(value: unknown, where: string): readonly unknown[] {
  let list = value;
  if (typeof value === 'string') {
    try {
      list = JSON.parse(value);
    } catch {
      throw new DataError(`${where} is text, and no valid JSON`);
    }
  }
  if (!Array.isArray(list)) throw new DataError(`${where} is not a list`);
  if (list.length === 0) throw new DataError(`${where} is empty`);
  return list;
}

function turns(list: readonly unknown[], where: string): readonly Message[] {
  return list.map((turn, index) => {
    const at = `${where}[${index}]`;
    if (!isRecord(turn)) throw new DataError(`${at} is ${shown(turn)}, not a message`);
    const roleKey = has(turn, 'role') ? 'role' : 'from';
    const contentKey = roleKey === 'from' && has(turn, 'value') ? 'value' : 'content';
    const { [roleKey]: givenRole, [contentKey]: givenContent, weight, spans, ...extras } = turn;
    const role = typeof givenRole === 'string' ? roleNames[givenRole.toLowerCase()] : undefined;
    if (role === undefined) throw new DataError(`${at}.${roleKey} is ${shown(givenRole)}, and should be one of ${Object.keys(roleNames).join(', ')}`);
    const known = Object.fromEntries(Object.entries(extras).filter(([, value]) => value !== null && value !== undefined));
    const content = contentOf(givenContent, `${at}.${contentKey}`, Object.keys(known).length > 0);
    return {
      role,
      content,
      extras: known,
      weight: weight === undefined || weight === null ? 1 : weightOf(weight, `${at}.weight`),
      spans: readSpans(spans, content, at),
    };
  });
}

/** OpenAI's content is a text, a list of parts, or nothing beside calls of tools. */
function contentOf(value: unknown, where: string, mayBeMissing: boolean): string {
  if (typeof value === 'string') return value;
  if ((value === null || value === undefined) && mayBeMissing) return '';
  if (!Array.isArray(value)) throw new DataError(`${where} is ${shown(value)}, not text`);
  return value
    .map((part: unknown, index) => {
      if (typeof part === 'string') return part;
      if (isRecord(part) && typeof part['text'] === 'string') return part['text'];
      throw new DataError(`${where}[${index}] is ${isRecord(part) ? `of type ${shown(part['type'])}` : shown(part)}: only text can be learned here`);
    })
    .join('');
}

function exchange(record: Fields, place: string, question: string, answer: string): readonly Message[] {
  const system = has(record, 'system') ? textOf(record, 'system', place) : '';
  return [...(system === '' ? [] : [message('system', system)]), message('user', question), message('assistant', answer)];
}

/** A message of nothing but text. */
export function message(role: Role, content: string): Message {
  return { role, content, extras: {}, weight: 1, spans: [] };
}

function toolsOf(record: Fields, place: string): readonly unknown[] | null {
  const { tools } = record;
  if (tools === undefined || tools === null || tools === '') return null;
  return parsed(tools, `${place}, tools`);
}

function textOf(record: Fields, key: string, place: string): string {
  const value = record[key];
  if (typeof value !== 'string') throw new DataError(`${place}, ${key} is ${shown(value)}, not text`);
  return value;
}

function weightOf(value: unknown, where: string): number {
  const weight = numberOf(value);
  if (!(Number.isFinite(weight) && weight >= 0)) throw new DataError(`${where} is ${shown(value)}, not a number of at least 0`);
  return weight;
}

/** Parquet has 64-bit integers. */
function numberOf(value: unknown): number {
  return typeof value === 'number' || typeof value === 'bigint' ? Number(value) : Number.NaN;
}

function keyAmong(record: Fields, keys: readonly string[]): string | undefined {
  return keys.find((key) => has(record, key));
}

/** Tables have a value for each column, though it may be none. */
function has(record: Fields, key: string): boolean {
  return record[key] !== undefined && record[key] !== null;
}

function shown(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = JSON.stringify(value, (_key, inner: unknown) => (typeof inner === 'bigint' ? Number(inner) : inner)) ?? typeof value;
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
