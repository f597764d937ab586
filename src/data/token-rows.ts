/**
 * Pre-tokenized rows, by Hugging Face's convention (DESIGN §5): `input_ids`; optional `labels`, not shifted, -100 where nothing
 * is scored; optional `loss_weights`, applied to the label at the same index. One row to a document; reading files is a source's affair.
 */
import { DataError } from './errors.ts';
import type { TokenDocument } from './types.ts';

const unscoredLabel = -100;

export interface TokenRowLimits {
  readonly vocabularySize: number;
  readonly contextLength: number;
}

/** Whether a record is such a row. */
export function isTokenRow(record: Readonly<Record<string, unknown>>): boolean {
  return 'input_ids' in record;
}

/** Throws `DataError` with the row's place and key. */
export function tokenRow(keys: Readonly<Record<string, unknown>>, where: string, { vocabularySize, contextLength }: TokenRowLimits): TokenDocument {
  const isToken = (value: number) => Number.isInteger(value) && value >= 0 && value < vocabularySize;
  const tokenRange = `a token id from 0 to ${vocabularySize - 1}`;
  const inputIds = numbers(keys, 'input_ids', where, isToken, tokenRange);
  if (inputIds === null) throw new DataError(`${where}: input_ids is missing`);
  if (inputIds.length === 0) throw new DataError(`${where}: input_ids is empty`);
  if (inputIds.length > contextLength) {
    throw new DataError(`${where}: input_ids has ${inputIds.length} tokens and contextLength is ${contextLength}`);
  }
  const isLabel = (value: number) => value === unscoredLabel || isToken(value);
  const labels = numbers(keys, 'labels', where, isLabel, `${tokenRange} or ${unscoredLabel}`) ?? inputIds;
  const isWeight = (value: number) => Number.isFinite(value) && value >= 0;
  const weights = numbers(keys, 'loss_weights', where, isWeight, 'a number of at least 0');
  for (const [key, list] of [['labels', labels], ['loss_weights', weights ?? labels]] as const) {
    if (list.length !== inputIds.length) {
      throw new DataError(`${where}: ${key} has ${list.length} entries and input_ids ${inputIds.length}`);
    }
  }
  const ids = Uint32Array.from(inputIds);
  const isPlain = weights === null && labels.every((label) => label !== unscoredLabel);
  const differ = labels.some((label, at) => label !== unscoredLabel && label !== inputIds[at]);
  return {
    ids,
    weights: isPlain ? null : Float32Array.from(labels, (label, at) => (label === unscoredLabel ? 0 : (weights?.[at] ?? 1))),
    ...(differ && { labels: Uint32Array.from(labels, (label, at) => (label === unscoredLabel ? (inputIds[at] ?? 0) : label)) }),
  };
}

/** Throws `DataError` where there is nothing to learn from. `weightSum`: of all scored labels. */
export function checkTokenRows(name: string, rows: number, weightSum: number): void {
  if (rows === 0) throw new DataError(`${name} has no rows`);
  if (!(weightSum > 0)) throw new DataError(`${name} has no scored label: every label is ${unscoredLabel}, has weight 0 or comes first in its row`);
}

/** A list of numbers that all pass; null when the key is absent. */
function numbers(
  keys: Readonly<Record<string, unknown>>,
  key: string,
  where: string,
  passes: (value: number) => boolean,
  expected: string,
): readonly number[] | null {
  const list = keys[key];
  if (list === undefined || list === null) return null;
  if (!isList(list)) throw new DataError(`${where}: ${key} is not a list`);
  return Array.from(list, (entry: unknown, index) => {
    // Parquet has 64-bit integers.
    const value = typeof entry === 'bigint' ? Number(entry) : entry;
    if (typeof value !== 'number' || !passes(value)) {
      throw new DataError(`${where}: ${key}[${index}] is ${typeof entry === 'bigint' ? String(entry) : JSON.stringify(entry)}, not ${expected}`);
    }
    return value;
  });
}

function isList(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}
