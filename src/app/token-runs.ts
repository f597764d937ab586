/** A row of tokens as a person reads it: runs of one speaker and one weight, and what of the row is scored. Draws nothing. */
import type { PreviewRow, PreviewToken } from '../data/chats/tokenize.ts';

/** Tokens next to each other that one participant says and that count the same. */
export interface TokenRun {
  readonly role: PreviewToken['role'];
  readonly weight: number;
  readonly tokens: readonly PreviewToken[];
}

export interface RowSummary {
  readonly tokens: number;
  readonly scored: number;
  readonly weightSum: number;
}

export function tokenRuns({ tokens }: PreviewRow, most: number): readonly TokenRun[] {
  const runs: { role: PreviewToken['role']; weight: number; tokens: PreviewToken[] }[] = [];
  for (const token of tokens.slice(0, most)) {
    const last = runs.at(-1);
    if (last?.role === token.role && last.weight === token.weight) last.tokens.push(token);
    else runs.push({ role: token.role, weight: token.weight, tokens: [token] });
  }
  return runs;
}

export function rowSummary({ tokens }: PreviewRow): RowSummary {
  const scored = tokens.filter(({ weight }) => weight > 0);
  return { tokens: tokens.length, scored: scored.length, weightSum: scored.reduce((sum, { weight }) => sum + weight, 0) };
}

/** What can't be seen is shown by a sign: `↵` before the line's end, `⇥`, and `▯` for a token that ends within a character. */
export function visibleText({ text }: PreviewToken): string {
  return text === '' ? '▯' : text.replaceAll('\n', '↵\n').replaceAll('\t', '⇥\t').replaceAll('\r', '␍');
}
