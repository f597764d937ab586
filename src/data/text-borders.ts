/** Where a text may be cut without changing its words: where blanks begin, since no rule of `words.ts` reaches from before them into them. */

const border = /(?<=\P{White_Space})[ \n]/gu;
const blank = /^\p{White_Space}$/u;

/** The first such place at or after `from`; the text's end where there is none. */
export function nextBorder(text: string, from: number): number {
  border.lastIndex = from;
  return border.exec(text)?.index ?? text.length;
}

/** The last such place; 0 where there is none. */
export function lastBorder(text: string): number {
  for (let at = lastBlank(text, text.length - 1); at > 0; at = lastBlank(text, at - 1)) {
    if (!blank.test(text[at - 1] ?? ' ')) return at;
  }
  return 0;
}

function lastBlank(text: string, from: number): number {
  return Math.max(text.lastIndexOf(' ', from), text.lastIndexOf('\n', from));
}
