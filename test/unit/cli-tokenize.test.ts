import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tokenizeOptions } from '../../src/cli/commands/tokenize.ts';
import { tokenize } from '../../src/cli/tokenize.ts';
import type { TokenizeOptions } from '../../src/cli/tokenize.ts';
import { tokenizerFromHuggingFace } from '../../src/data/serialized-tokenizer.ts';

let folder = '';
const text = 'The whale, the white whale; 日本の鯨 🐋. '.repeat(9000);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cotrain-tokenize-'));
  await writeFile(join(folder, 'a.txt'), text);
  await writeFile(join(folder, 'b.txt'), 'The sea.');
  await writeFile(join(folder, 'latin.txt'), Buffer.from([0x66, 0xfc, 0x72]));
});
afterAll(() => rm(folder, { recursive: true }));

const warnings: string[] = [];
const work: string[] = [];
const host = {
  progress: { begin: ({ task }: { readonly task: string }) => void work.push(task), advance: () => undefined, end: () => undefined },
  warn: (line: string) => void warnings.push(line),
  isInterrupted: () => false,
};

async function rowsIn(path: string): Promise<number[][]> {
  const lines = (await readFile(path, 'utf8')).trim().split('\n');
  return lines.map((line) => (JSON.parse(line) as { readonly input_ids: number[] }).input_ids);
}

describe('cotrain tokenize', () => {
  it.each([
    ['learned byte pairs', ['--vocabulary', '300'], 'bpe'],
    ['characters', [], 'characters'],
  ])('writes %s and rows that are the texts again, document by document', async (_, words, kind) => {
    const [out, rows] = [join(folder, kind), join(folder, `${kind}.jsonl`)];
    const options = tokenizeOptions(['--data', join(folder, 'a.txt'), '--data', join(folder, 'b.txt'), '--out', out, '--rows', rows, '--length', '64', ...words]);
    await tokenize(options, host);
    const json = JSON.parse(await readFile(join(out, 'tokenizer.json'), 'utf8')) as unknown;
    const tokenizer = await tokenizerFromHuggingFace(json, JSON.parse(await readFile(join(out, 'tokenizer_config.json'), 'utf8')));
    const written = await rowsIn(rows);
    const last = written.findLastIndex((row) => row.length === 64);
    const first = written.slice(0, -1).flat();
    expect(tokenizer.decode(first)).toBe(text);
    expect(first).toEqual([...tokenizer.encode(text)]);
    expect(tokenizer.decode(written.at(-1) ?? [])).toBe('The sea.');
    expect(last, 'only the last row of a document is shorter').toBeGreaterThanOrEqual(written.length - 3);
    // The same from the folder just written.
    const again = join(folder, 'again.jsonl');
    await tokenize({ ...options, source: { kind: 'folder', folder: out }, out: null, rows: again } satisfies TokenizeOptions, host);
    expect(await rowsIn(again)).toEqual(written);
    expect(new Set(work)).toEqual(new Set(['read', ...(work.includes('learn') ? ['learn'] : []), 'encode']));
  });

  it('says when a text gives fewer tokens than were asked for', async () => {
    await tokenize(tokenizeOptions(['--data', join(folder, 'b.txt'), '--vocabulary', '5000', '--out', join(folder, 'few')]), host);
    expect(warnings.join()).toContain('not 5000');
  });

  it.each([
    ['does not exist', ['--data', '/none.txt', '--out', '/tmp/x']],
    ['is a folder', ['--data', tmpdir(), '--out', '/tmp/x']],
  ])('names the file that %s', async (message, words) => {
    await expect(tokenize(tokenizeOptions(words), host)).rejects.toThrow(message);
  });

  it('refuses what is not UTF-8, and stops when it is asked to', async () => {
    await expect(tokenize(tokenizeOptions(['--data', join(folder, 'latin.txt'), '--out', join(folder, 'x')]), host)).rejects.toThrow('latin.txt is not text in UTF-8');
    await expect(tokenize(tokenizeOptions(['--data', join(folder, 'a.txt'), '--out', join(folder, 'x')]), { ...host, isInterrupted: () => true })).rejects.toThrow('it was stopped');
  });

  it.each([
    ['--data is missing', ['--out', 'x']],
    ['nothing to write', ['--data', 'x']],
    ['give one of them', ['--data', 'x', '--out', 'o', '--vocabulary', '300', '--tokenizer', 't']],
    ['--vocabulary takes 259 to 65536', ['--data', 'x', '--out', 'o', '--vocabulary', '100']],
    ['--length takes at least 2', ['--data', 'x', '--out', 'o', '--length', '1']],
  ])('names what is wrong: %s', (message, words) => {
    expect(() => tokenizeOptions(words)).toThrow(message);
  });
});
