/**
 * JSON from a file that nobody vouches for: how deep it nests is checked before it is parsed, and a name that is there twice is
 * found, of which `JSON.parse` keeps the last and says nothing.
 */

export type JsonFault = { readonly kind: 'depth'; readonly most: number } | { readonly kind: 'twice'; readonly name: string } | { readonly kind: 'syntax' };

export type CheckedJson = { readonly fault: JsonFault } | { readonly fault: null; readonly value: unknown };

/** Names of the outermost object are to be there once. */
export function parseChecked(text: string, maxDepth: number): CheckedJson {
  const names = new Set<string>();
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '{' || character === '[') {
      depth += 1;
      if (depth > maxDepth) return { fault: { kind: 'depth', most: maxDepth } };
    } else if (character === '}' || character === ']') {
      depth -= 1;
    } else if (character === '"') {
      const end = endOfString(text, at);
      if (end === null) return { fault: { kind: 'syntax' } };
      if (depth === 1 && isNameAt(text, end)) {
        const name = nameOf(text.slice(at, end));
        if (name === null) return { fault: { kind: 'syntax' } };
        if (names.has(name)) return { fault: { kind: 'twice', name } };
        names.add(name);
      }
      at = end - 1;
    }
  }
  try {
    return { fault: null, value: JSON.parse(text) };
  } catch {
    return { fault: { kind: 'syntax' } };
  }
}

/** Behind the closing quote of the string that begins here; null where there is none. */
function endOfString(text: string, start: number): number | null {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === '"') return at + 1;
  }
  return null;
}

function isNameAt(text: string, end: number): boolean {
  let at = end;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at += 1;
  return text[at] === ':';
}

function nameOf(quoted: string): string | null {
  try {
    const name: unknown = JSON.parse(quoted);
    return typeof name === 'string' ? name : null;
  } catch {
    return null;
  }
}
