/**
 * How a run that was taught conversations is talked to: in ChatML, as its data was written. Loaded when there is such a run; a run of
 * plain texts has none.
 */
import { DataError } from '../data/errors.ts';
import { message } from '../data/chats/conversation.ts';
import { chatMl } from '../data/chats/template.ts';
import { promptTokens } from '../data/chats/tokenize.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { ChatFormat } from './writer.ts';

/** Null where the tokenizer has no marks for turns. */
export function chatFormatOf(tokenizer: Tokenizer): ChatFormat | null {
  let template;
  try {
    template = chatMl(tokenizer);
  } catch (error) {
    if (error instanceof DataError) return null;
    throw error;
  }
  const turnEnd = template.turnEnd === null ? null : tokenizer.specialId(template.turnEnd);
  const stopIds = [turnEnd, tokenizer.endOfText].filter((id) => id !== null);
  return {
    encode: (messages) => [...promptTokens({ place: 'the conversation', messages: messages.map(({ role, content }) => message(role, content)), tools: null }, template, tokenizer)],
    stopIds,
  };
}
