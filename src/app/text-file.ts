/**
 * Decides whether a dropped or picked file can be trained on, and reads it. Plain text in UTF-8 only; other formats are
 * refused with what to do instead.
 */
import type { Problem } from './problem.ts';

/** Held in memory and sent to nobody; longer texts don't fit a tab's heap several times over. */
export const maxTextBytes = 20_000_000;

/** A plain text that fits a tab's heap several times over, so that a person can look at it and change it. */
export function isSmallText(file: File): boolean {
  return (/\.txt$/i.test(file.name) || file.type === 'text/plain') && file.size <= maxTextBytes;
}

export type TextFileResult = { readonly text: string; readonly problem: null } | { readonly text: null; readonly problem: Problem };

const refused = (code: string, message: string, whatToDo: string): TextFileResult => ({
  text: null,
  problem: { code, message, whatToDo },
});

export async function readTextFile(file: File): Promise<TextFileResult> {
  if (!/\.txt$/i.test(file.name) && file.type !== 'text/plain') {
    return refused('unsupported-file', `${file.name} is not a plain text file.`, 'Save it as plain text (.txt, UTF-8), or paste the text itself.');
  }
  if (file.size === 0) return refused('empty-file', `${file.name} is empty.`, 'Choose a file with text in it.');
  if (file.size > maxTextBytes) {
    const megabytes = (file.size / 1e6).toFixed(0);
    return refused(
      'file-too-large',
      `${file.name} has ${megabytes} MB; at most ${maxTextBytes / 1e6} MB can be used.`,
      'Cut it into a smaller file; a few hundred kilobytes of text already train well.',
    );
  }
  let bytes: ArrayBuffer;
  try {
    bytes = await file.arrayBuffer();
  } catch {
    return refused('unreadable-file', `${file.name} could not be read.`, 'It may have been moved or be open elsewhere: choose it again.');
  }
  return decodeText(file.name, new Uint8Array(bytes));
}

/** UTF-8, with or without a byte-order mark; line ends become "\n", so that a text has no two ways to break a line. */
export function decodeText(name: string, bytes: Uint8Array): TextFileResult {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return refused('unsupported-file', `${name} is not text in UTF-8.`, 'Open it in an editor and save it with the encoding UTF-8.');
  }
  if (text.includes('\0')) {
    return refused('unsupported-file', `${name} holds binary data, not text.`, 'Choose a plain text file (.txt, UTF-8).');
  }
  text = normalizeLineEnds(text);
  if (text.trim() === '') return refused('empty-file', `${name} holds nothing but blanks.`, 'Choose a file with text in it.');
  return { text, problem: null };
}

export function normalizeLineEnds(text: string): string {
  return text.replace(/\r\n?/g, '\n');
}
