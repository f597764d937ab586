/** What a command trains on: files of any kind as a corpus, by the model folder's tokenizer where it has one, else by character. */
import { isConversation } from '../data/chats/conversation.ts';
import { documentTokenizer } from '../data/chats/documents.ts';
import type { Objective } from '../data/chats/objective.ts';
import { documentCount } from '../data/corpus.ts';
import { characterTokenizerMaker, prepareCorpus } from '../data/preparation.ts';
import type { PreparationOptions, PreparedCorpus, TokenizerMaker } from '../data/preparation.ts';
import { readDocuments } from '../data/sources/documents.ts';
import type { DataFile } from '../data/sources/data-file.ts';
import { isTokenRow } from '../data/token-rows.ts';
import { pieceCorpus } from '../data/token-pieces.ts';
import type { PieceCorpus } from '../data/token-pieces.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { SourceDocument } from '../data/types.ts';
import type { DecoderConfig } from '../model/types.ts';
import { dataFiles } from './data-files.ts';
import { openPieceFile } from './piece-file.ts';
import { CliError } from './errors.ts';
import { folderTemplate, folderTokenizer } from './folder-tokenizer.ts';

export interface TrainingData extends Pick<PreparedCorpus, 'areRows' | 'largestId'> {
  readonly corpus: PieceCorpus;
  readonly documents: number;
  /** Null for rows of token ids, of which nothing is known. */
  readonly tokenizer: Tokenizer | null;
  /** Made from the data, to be saved with the model; null when the folder's own was used, or none. */
  readonly madeTokenizer: Tokenizer | null;
  /** The corpus can't be read after it. */
  close(): Promise<void>;
}

export interface TrainingDataOptions {
  /** Of the model, which may have a tokenizer. */
  readonly folder: string | null;
  readonly contextLength: number;
  /** Of pre-tokenized rows: asked for when there are some, since the data says nothing of its vocabulary. */
  readonly rowConfig: () => DecoderConfig;
  readonly column?: string;
  /** What is scored of conversations. */
  readonly objective: Objective;
}

/** Throws `DataError` and `CliError` with file and place. */
export async function readTrainingData(named: readonly string[], options: TrainingDataOptions): Promise<TrainingData> {
  const files = await dataFiles(named);
  const column = options.column === undefined ? {} : { column: options.column };
  // The command line takes a text as it is.
  const documents = (onBytes: (bytes: number) => void = () => undefined): AsyncGenerator<SourceDocument> => readDocuments(files, { ...column, onBytes, normalizesLineEnds: false });
  const first = await firstOf(documents());
  const areRows = first?.kind === 'record' && isTokenRow(first.record);
  const own = areRows ? null : await folderTokenizer(options.folder);
  if (own === null && !areRows && first?.kind === 'record' && isConversation(first.record)) {
    throw new CliError(`${first.place}: conversations need a tokenizer with marks for their turns: --model with a tokenizer.json (cotrain tokenize makes one)`);
  }
  const maker: TokenizerMaker | null = areRows || own !== null ? null : characterTokenizerMaker();
  const file = await openPieceFile();
  try {
    const prepared = await prepareCorpus({
      documents,
      tokenizer: own ?? maker,
      sink: file.sink,
      ...column,
      ...(own !== null && first?.kind === 'record' && isConversation(first.record) && { convert: await chatConverter(options, own) }),
      ...(areRows && { rowLimits: { vocabularySize: options.rowConfig().vocab_size, contextLength: options.contextLength } }),
    });
    const { index, pieceBytes, tokenizer, largestId } = prepared;
    return {
      corpus: pieceCorpus({ index, pieceBytes, piece: file.piece }),
      documents: documentCount(index),
      areRows: prepared.areRows,
      largestId,
      tokenizer,
      madeTokenizer: maker === null ? null : tokenizer,
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Conversations by the model's template; what is none is left to others. */
async function chatConverter({ folder, objective }: TrainingDataOptions, tokenizer: Tokenizer): Promise<NonNullable<PreparationOptions['convert']>> {
  const template = await folderTemplate(folder, tokenizer);
  const { tokenize } = documentTokenizer({ tokenizer, template, objective, badRows: { kind: 'stop' } });
  return (document) => (isConversation(document.record) ? tokenize(document) : null);
}

/** What a data set is of shows in its first document. */
async function firstOf(documents: AsyncGenerator<SourceDocument>): Promise<SourceDocument | null> {
  const next = await documents.next();
  await documents.return(undefined);
  return next.done === true ? null : next.value;
}

/** For messages: what was named, in a few words. */
export function nameOf(files: readonly Pick<DataFile, 'name'>[] | readonly string[]): string {
  const [first] = files;
  const name = typeof first === 'string' ? first : (first?.name ?? 'the data');
  return files.length > 1 ? `${name} and ${files.length - 1} more` : name;
}
