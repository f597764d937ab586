import { expect, it } from 'vitest';
import { rowSummary, tokenRuns, visibleText } from '../../src/app/token-runs.ts';
import type { PreviewRow } from '../../src/data/chats/tokenize.ts';

const row: PreviewRow = {
  place: 'a.jsonl:1',
  tokens: [
    { id: 1, text: '<|im_start|>', role: 'template', weight: 0 },
    { id: 2, text: 'user\n', role: 'template', weight: 0 },
    { id: 3, text: '', role: 'user', weight: 0 },
    { id: 4, text: '🐳', role: 'user', weight: 0 },
    { id: 5, text: 'Yes', role: 'assistant', weight: 0.5 },
    { id: 6, text: '.', role: 'assistant', weight: 1 },
  ],
};

it('tokens of one speaker and one weight are one run, and no more of them than can be shown', () => {
  expect(tokenRuns(row, 100).map(({ role, weight, tokens }) => [role, weight, tokens.length])).toEqual([
    ['template', 0, 2],
    ['user', 0, 2],
    ['assistant', 0.5, 1],
    ['assistant', 1, 1],
  ]);
  expect(tokenRuns(row, 3).map(({ tokens }) => tokens.length)).toEqual([2, 1]);
});

it('says how much of a row is scored', () => {
  expect(rowSummary(row)).toEqual({ tokens: 6, scored: 2, weightSum: 1.5 });
});

it('shows what can’t be seen', () => {
  expect(row.tokens.map(visibleText)).toEqual(['<|im_start|>', 'user↵\n', '▯', '🐳', 'Yes', '.']);
});
