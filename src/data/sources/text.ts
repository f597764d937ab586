/**
 * Plain text (.txt, .md): a file is a document. A large one comes in parts, so that it is never in memory as a whole; they are one
 * document all the same.
 */
import { DataError } from '../errors.ts';
import type { SourceDocument } from '../types.ts';
import type { DataFile } from './data-file.ts';
import { decodedText } from './decoding.ts';
import type { DecodingOptions } from './decoding.ts';

/** UTF-16 units of a part: large enough that a cut hardly ever matters, small enough to tokenize in moments. */
export const maxPartLength = 2 ** 20;

/**
 * Where a text that is too long is cut: the last border between paragraphs, else between lines, else words, before its last blank.
 * A tokenizer that takes blanks along with what follows, as GPT-2's does, then gives the same tokens as for the whole.
 */
export function cutAt(text: string): number {
  const least = text.length / 2;
  for (const border of ['\n\n', '\n', ' ']) {
    let at = text.lastIndexOf(border);
    if (at < least) continue;
    // The last of a run of blanks: it may have more of them behind the border.
    at += border.length - 1;
    while (/\s/.test(text[at + 1] ?? '')) at += 1;
    // Where a text ends in blanks there may be more to come.
    if (at < text.length - 1) return at;
  }
  const isPair = /[\ud800-\udbff]/.test(text.at(-1) ?? '');
  return isPair ? text.length - 1 : text.length;
}

/** Throws `DataError` for a file without text. */
export async function* textDocuments(file: DataFile, options: DecodingOptions): AsyncGenerator<SourceDocument> {
  const { name } = file;
  let parts = 0;
  let waiting = '';
  const part = (text: string): SourceDocument => {
    parts += 1;
    return parts === 1 ? { kind: 'text', place: name, text } : { kind: 'text', place: `${name}, part ${parts}`, text, continues: true };
  };
  let isBlank = true;
  let size = 0;
  for await (const text of decodedText(file, options)) {
    size += text.length;
    isBlank &&= text.trim() === '';
    waiting += text;
    while (waiting.length > maxPartLength) {
      const cut = cutAt(waiting.slice(0, maxPartLength));
      if (!isBlank) yield part(waiting.slice(0, cut));
      waiting = waiting.slice(cut);
    }
  }
  if (isBlank) throw new DataError(size === 0 ? `${name} is empty` : `${name} holds nothing but blanks`);
  if (waiting !== '') yield part(waiting);
}
