/**
 * Cuts text into the words within which byte-pair merges may happen, as GPT-2 does (Radford et al. 2019): English contractions,
 * runs of letters, of digits, and of anything else, each with one space before it, and runs of blanks. Nothing is left out.
 * Blanks are Unicode's White_Space, which is what Hugging Face's and llama.cpp's `\s` means; JavaScript's differs in U+0085 and U+FEFF.
 */

/** As `tokenizer.json` has it. */
export const wordPatternSource = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

const wordPattern = new RegExp(wordPatternSource.replaceAll(String.raw`\s`, String.raw`\p{White_Space}`).replaceAll(String.raw`\S`, String.raw`\P{White_Space}`), 'gu');

/** Every word of the text, in order; joined they are the text. */
export function* wordsOf(text: string): Generator<string, void, undefined> {
  for (const [word] of text.matchAll(wordPattern)) yield word;
}

/**
 * Where the words begin that more text could still change: the last two. (“'r” is a quotation mark and a letter, until an “e” makes
 * it one contraction; a run of blanks ends differently before a letter.)
 */
export function unfinishedFrom(words: readonly string[]): number {
  return Math.max(0, words.length - 2);
}
