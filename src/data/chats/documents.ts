/**
 * What a source yields, as what batches are drawn from: conversations by their template, texts as they are, each with the weights
 * that the objective gives it. Rows that can't be read are met by a policy, never silently. Pre-tokenized rows are not read here
 * (`token-rows.ts`), nor is any file.
 */
import { DataError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer.ts';
import type { SourceDocument, TokenDocument } from '../types.ts';
import { isConversation, readConversation, readSpans } from './conversation.ts';
import type { Conversation } from './conversation.ts';
import type { Objective } from './objective.ts';
import type { ChatTemplate } from './template.ts';
import { previewConversation, previewText, tokenizeConversation, tokenizeText } from './tokenize.ts';
import type { PlainText, PreviewRow } from './tokenize.ts';

/** `stop`: the first bad row is an error. `skip`: so many are left out and counted; one more is an error. */
export type BadRows = { readonly kind: 'stop' } | { readonly kind: 'skip'; readonly most: number };

export interface SkippedRows {
  readonly count: number;
  /** What was wrong with the first few, each with its place. */
  readonly reasons: readonly string[];
}

export interface DocumentOptions {
  readonly tokenizer: Tokenizer;
  /** See `openTemplate`; null where there are no conversations. */
  readonly template: ChatTemplate | null;
  readonly objective: Objective;
  readonly badRows: BadRows;
}

export interface DocumentTokenizer {
  /** None for a row that is skipped. Throws `DataError` with the row's place. */
  readonly tokenize: (document: SourceDocument) => readonly TokenDocument[];
  /** The same for a person to look at; null where it would be skipped. */
  readonly preview: (document: SourceDocument) => PreviewRow | null;
  readonly skipped: SkippedRows;
}

const keptReasons = 10;
const textKeys = ['text', 'content'] as const;

export function documentTokenizer({ tokenizer, template, objective, badRows }: DocumentOptions): DocumentTokenizer {
  const skipped = { count: 0, reasons: [] as string[] };

  function unlessBad<T>(work: () => T): T | null {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof DataError) || badRows.kind === 'stop') throw error;
      skipped.count++;
      if (skipped.reasons.length < keptReasons) skipped.reasons.push(error.message);
      if (skipped.count <= badRows.most) return null;
      throw new DataError(`${skipped.count} rows can't be read, and at most ${badRows.most} may be left out. The first: ${skipped.reasons[0] ?? ''}. The last: ${error.message}`);
    }
  }

  function read<T>(document: SourceDocument, ofText: (text: PlainText) => T, ofConversation: (conversation: Conversation, chat: ChatTemplate) => T): T {
    if (document.kind === 'text') return ofText({ place: document.place, text: document.text, spans: [] });
    const { place, record } = document;
    const textKey = isConversation(record) ? undefined : textKeys.find((key) => typeof record[key] === 'string');
    if (textKey !== undefined) {
      const text = String(record[textKey]);
      return ofText({ place, text, spans: readSpans(record['spans'], text, `${place}, ${textKey}`) });
    }
    // Before the template is asked for: an unknown layout is what should be said first.
    const conversation = readConversation(record, place);
    if (template === null) throw new DataError(`${place}: a conversation, and no chat template was opened for them`);
    return ofConversation(conversation, template);
  }

  return {
    skipped,
    tokenize: (document) => {
      const tokens = unlessBad(() =>
        read(
          document,
          (text) => tokenizeText(text, objective, tokenizer),
          (conversation, chat) => tokenizeConversation(conversation, chat, objective, tokenizer),
        ),
      );
      return tokens === null ? [] : [tokens];
    },
    preview: (document) => {
      try {
        return read(
          document,
          (text) => previewText(text, objective, tokenizer),
          (conversation, chat) => previewConversation(conversation, chat, objective, tokenizer),
        );
      } catch (error) {
        if (error instanceof DataError && badRows.kind === 'skip') return null;
        throw error;
      }
    },
  };
}
