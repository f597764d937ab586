/** `cotrain eval`: what a model folder loses on a text or on rows: loss, perplexity, bits per byte. Computes nothing itself. */
import { extname } from 'node:path';
import { openBatches } from '../data/batches.ts';
import { bitsPerByteOf, byteLengthOf, bytesPerScoredToken, perplexityOf } from '../data/bits-per-byte.ts';
import { scoringRows } from '../data/scoring-rows.ts';
import type { Objective } from '../data/chats/objective.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { MicrobatchRows } from '../data/types.ts';
import type { CliHost } from './command.ts';
import { CliError } from './errors.ts';
import { folderTokenizer, readFolderTokenizer } from './folder-tokenizer.ts';
import { readText } from './model-folder.ts';
import { readModelFolder } from './open-folder.ts';
import { readTrainingData } from './training-data.ts';

export interface EvalOptions {
  readonly model: string;
  readonly data: string;
  readonly context: number | null;
  readonly rows: number;
  /** Of conversations. */
  readonly objective: Objective;
}

type ModelToScore = Awaited<ReturnType<typeof readModelFolder>>;

interface Scored {
  readonly microbatches: Iterable<MicrobatchRows>;
  readonly count: number;
  /** UTF-8 bytes of the scored text by its mean loss's tokens; null where nothing knows. */
  readonly bytesPerToken: number | null;
}

/** Losses are summed in f32 over so many micro-batches, and over all in f64. */
const microbatchesPerSum = 8;

/** Throws `CliError` with one line that a person can act on. */
export async function evaluate(options: EvalOptions, host: CliHost): Promise<void> {
  const opened = await readModelFolder(options.model, options.context);
  const scored = await readScored(options.data, options.rows, opened, options.objective);
  const model = await host.openModel(opened);
  try {
    let [lossSum, weightSum, done] = [0, 0, 0];
    host.progress.begin({ task: 'eval', unit: 'micro-batches', total: scored.count });
    for (const some of groupsOf(scored.microbatches, microbatchesPerSum)) {
      if (host.isInterrupted()) throw new CliError('interrupted: nothing is said of a part');
      const sums = await model.sumLosses(some);
      lossSum += sums.lossSum;
      weightSum += sums.weightSum;
      host.progress.advance((done += some.length), weightSum > 0 ? [`loss ${(lossSum / weightSum).toFixed(4)}`] : []);
    }
    host.progress.end();
    if (!(weightSum > 0)) throw new CliError(`${options.data} has no scored token`);
    const loss = lossSum / weightSum;
    const { bytesPerToken } = scored;
    const figures = {
      loss,
      perplexity: perplexityOf(loss),
      bitsPerByte: bytesPerToken === null ? null : bitsPerByteOf(loss, bytesPerToken),
      tokens: weightSum,
      bytes: bytesPerToken === null ? null : Math.round(bytesPerToken * weightSum),
    };
    host.print(host.isTerminal ? `${inWords(figures)}\n` : `${JSON.stringify(figures)}\n`);
  } finally {
    host.progress.end();
    model.close();
  }
}

function inWords({ loss, perplexity, bitsPerByte, tokens, bytes }: Readonly<Record<'loss' | 'perplexity' | 'tokens', number> & Record<'bitsPerByte' | 'bytes', number | null>>): string {
  const byByte = bitsPerByte === null || bytes === null ? '' : `, ${bitsPerByte.toFixed(4)} bits per byte (${bytes} bytes)`;
  return `loss ${loss.toFixed(4)} over ${tokens} tokens, perplexity ${perplexity.toFixed(3)}${byByte}`;
}

async function readScored(path: string, rows: number, opened: ModelToScore, objective: Objective): Promise<Scored> {
  const { folder, contextLength } = opened;
  const vocabularySize = opened.model.vocab_size;
  switch (extname(path)) {
    case '.txt': {
      const text = await readText(path);
      const tokenizer = await readFolderTokenizer(folder);
      const ids = tokenizer.encode(text);
      const largest = ids.reduce((most, id) => Math.max(most, id), 0);
      if (largest >= vocabularySize) throw new CliError(`the tokenizer of ${folder} gives token ${largest}, and its model has ${vocabularySize}`);
      const { bytes, firstScored } = scoredPart(text, ids, tokenizer);
      const tokens = ids.length - firstScored;
      if (tokens < 1) throw new CliError(`${path} is too short: there is no token to predict from another`);
      const length = Math.min(contextLength, tokens);
      return {
        microbatches: scoringRows(ids, firstScored, { rows, contextLength: length }),
        count: Math.ceil(tokens / (rows * length)),
        bytesPerToken: bytes / tokens,
      };
    }
    default:
      return readDocumentsToScore(path, opened, objective);
  }
}

/** Every document a row, as a run would score it. */
async function readDocumentsToScore(path: string, { folder, model, contextLength }: ModelToScore, objective: Objective): Promise<Scored> {
  const data = await readTrainingData([path], { folder, contextLength, rowConfig: () => model, objective });
  try {
    const { documents, tokenizer } = data;
    const order = { rowsPerStep: documents, rowsPerMicrobatch: 1, contextLength, order: 'sequential', seed: 0 } as const;
    const batches = await openBatches(data.corpus, { ...order, keepDocumentsApart: false, rowLayout: 'single', validationShare: 0 });
    const microbatches = await Promise.all(Array.from({ length: batches.microbatchesPerStep }, async (_, index) => batches.draw(0, index)));
    // Bytes by weights that differ would be of no text.
    const isPlain = microbatches.every(({ lossWeights }) => lossWeights.every((weight) => weight === 0 || weight === 1));
    const reader = tokenizer ?? (await folderTokenizer(folder));
    return { microbatches, count: microbatches.length, bytesPerToken: reader && isPlain ? bytesPerScoredToken(microbatches, reader) : null };
  } finally {
    await data.close();
  }
}

/** The first tokens follow nothing; where they end within a character, as many as that takes are left out. Bytes are those of the rest of the text. */
function scoredPart(text: string, ids: Uint32Array, tokenizer: Tokenizer): { readonly firstScored: number; readonly bytes: number } {
  for (let firstScored = 1; firstScored < ids.length; firstScored++) {
    const before = tokenizer.decode(ids.subarray(0, firstScored));
    if (text.startsWith(before)) return { firstScored, bytes: byteLengthOf(text) - byteLengthOf(before) };
    if (firstScored >= longestCharacterTokens) break;
  }
  throw new CliError('the tokenizer does not give the text back that it was given: bytes can’t be counted');
}

/** A character of UTF-8 has at most four bytes, and a token at least one. */
const longestCharacterTokens = 4;

function* groupsOf<T>(items: Iterable<T>, size: number): Generator<readonly T[]> {
  let group: T[] = [];
  for (const item of items) {
    group.push(item);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}
