/**
 * Pre-tokenized rows as JSON lines, by Hugging Face's convention (DESIGN §5): `input_ids`; optional `labels`, not shifted,
 * -100 where nothing is scored; optional `loss_weights`, applied to the label at the same index. Shifts labels into targets.
 */
import { DataError } from './errors.ts';

/** Position i of the row predicts targets[i] with weight lossWeights[i]; the last position's weight is 0. */
export interface TokenRow {
  readonly inputIds: Uint32Array<ArrayBuffer>;
  readonly targets: Uint32Array<ArrayBuffer>;
  readonly lossWeights: Float32Array<ArrayBuffer>;
}

const unscoredLabel = -100;

export interface TokenRowLimits {
  readonly vocabularySize: number;
  readonly contextLength: number;
}

/** Reads a whole file. Empty lines are skipped. Throws `DataError` with the file's name, line and key. */
export function parseTokenRows(text: string, fileName: string, limits: TokenRowLimits): readonly TokenRow[] {
  const rows: TokenRow[] = [];
  let lineNumber = 0;
  for (const line of text.split('\n')) {
    lineNumber++;
    if (line.trim() === '') continue;
    rows.push(parseRow(line, `${fileName}:${lineNumber}`, limits));
  }
  if (rows.length === 0) throw new DataError(`${fileName} has no rows`);
  if (rows.every((row) => row.lossWeights.every((weight) => weight === 0))) {
    throw new DataError(`${fileName} has no scored label: every label is ${unscoredLabel}, has weight 0 or comes first in its row`);
  }
  return rows;
}

function parseRow(line: string, where: string, limits: TokenRowLimits): TokenRow {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch (error) {
    throw new DataError(`${where}: not valid JSON (${error instanceof Error ? error.message : String(error)})`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new DataError(`${where}: not a JSON object`);
  const keys = json as Readonly<Record<string, unknown>>;
  const { vocabularySize, contextLength } = limits;

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

  const targets = new Uint32Array(inputIds.length);
  const lossWeights = new Float32Array(inputIds.length);
  for (let position = 0; position + 1 < inputIds.length; position++) {
    const label = labels[position + 1] ?? unscoredLabel;
    if (label === unscoredLabel) continue;
    targets[position] = label;
    lossWeights[position] = weights?.[position + 1] ?? 1;
  }
  return { inputIds: Uint32Array.from(inputIds), targets, lossWeights };
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
  if (!Array.isArray(list)) throw new DataError(`${where}: ${key} is not a list`);
  return list.map((value: unknown, index) => {
    if (typeof value !== 'number' || !passes(value)) {
      throw new DataError(`${where}: ${key}[${index}] is ${JSON.stringify(value)}, not ${expected}`);
    }
    return value;
  });
}
