/** Names as a person may type them, made safe to show and distinct in a room. Pure text; knows nothing of peers. */
import { maxNameLength } from './limits.ts';
import { maxTitleLength } from './rules.ts';

/** One line, no control or direction-changing characters, no double spaces, never empty. */
export function cleanName(name: string): string {
  return cut(oneLine(name), maxNameLength).trim() || 'Peer';
}

/** A room's title: as a name, but longer, and empty when nothing can be seen of it. Normalizing may have made it longer. */
export function cleanTitle(title: string): string {
  return cut(oneLine(title), maxTitleLength).trim();
}

/** As `cleanName`, but of any length, and empty when nothing can be seen of it. */
function oneLine(text: string): string {
  return text
    .normalize('NFC')
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, ' ')
    .replace(/\s+/gu, ' ')
    .trim();
}

/** The name itself, or with the first number that makes it distinct: Ada, Ada 2, Ada 3. */
export function distinctName(name: string, taken: ReadonlySet<string>): string {
  if (!taken.has(name)) return name;
  for (let number = 2; ; number += 1) {
    const suffix = ` ${number}`;
    const candidate = cut(name, maxNameLength - suffix.length).trimEnd() + suffix;
    if (!taken.has(candidate)) return candidate;
  }
}

/** The first `length` UTF-16 units, never half a character. */
function cut(text: string, length: number): string {
  let kept = '';
  for (const character of text) {
    if (kept.length + character.length > length) break;
    kept += character;
  }
  return kept;
}
