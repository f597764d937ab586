/** Tokens that stand for no text of people: the end of a document, the turns of a chat. Which ids they have is each tokenizer's. */

export const endOfTextToken = '<|endoftext|>';
/** What tokenizers that we train have behind their merges, in this order: GPT-2's end of text, and ChatML's turns. */
export const trainedSpecialTokens: readonly string[] = [endOfTextToken, '<|im_start|>', '<|im_end|>'];

/** Text cut at special tokens' texts, the longest where several begin at one place; pieces of either kind in order, none empty. */
export class MarkSplitter {
  readonly #pattern: RegExp | null;

  constructor(specialTokens: Iterable<string>) {
    const longestFirst = [...specialTokens].sort((one, other) => other.length - one.length);
    this.#pattern = longestFirst.length === 0 ? null : new RegExp(longestFirst.map(escaped).join('|'), 'gu');
  }

  *split(text: string): Generator<{ readonly text: string; readonly isMark: boolean }, void, undefined> {
    let from = 0;
    for (const { 0: mark, index } of this.#pattern === null ? [] : text.matchAll(this.#pattern)) {
      if (index > from) yield { text: text.slice(from, index), isMark: false };
      yield { text: mark, isMark: true };
      from = index + mark.length;
    }
    if (from < text.length) yield { text: text.slice(from), isMark: false };
  }
}

function escaped(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`);
}
