/** Entry of the worker that prepares data: files in, a corpus in this browser's storage out. */
import { expose } from 'comlink';
import { openCheckpointStore } from '../checkpoint/store.ts';
import { conversationTexts, isConversation } from '../data/chats/conversation.ts';
import { documentTokenizer } from '../data/chats/documents.ts';
import { everything } from '../data/chats/objective.ts';
import type { Objective } from '../data/chats/objective.ts';
import type { PreviewRow } from '../data/chats/tokenize.ts';
import { chatMl } from '../data/chats/template.ts';
import { documentCount } from '../data/corpus.ts';
import { bpeTokenizerMaker, characterTokenizerMaker, prepareCorpus } from '../data/preparation.ts';
import type { PreparationOptions, PreparationProgress } from '../data/preparation.ts';
import { deserializeTokenizer } from '../data/serialized-tokenizer.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { DataFile } from '../data/sources/data-file.ts';
import { filesOf } from '../data/sources/choice.ts';
import type { DataChoice } from '../data/sources/choice.ts';
import { readDocuments } from '../data/sources/documents.ts';
import { pieceCorpus } from '../data/token-pieces.ts';
import { keepProblemsOfErrors } from '../trainer/error-transfer.ts';
import type { TextChoice } from '../data/tokenizer-choice.ts';
import type { PreparedData } from './types.ts';

/** A megabyte in a transaction. */
const piecesAtOnce = 16;
const openingLength = 8;
const previewedRows = 3;
const conversationVocabulary = 2048;

/** How data becomes tokens: by a tokenizer made of it or by one that there is, and what of it is scored. */
export interface Reading {
  readonly tokenizer: TextChoice;
  readonly objective: Objective;
}

export interface PrepareApi {
  /** `corpus`: the name that it is to have. Throws `DataError` with file and place, and `StorageError`. */
  prepare(choice: DataChoice, reading: Reading, corpus: string, onProgress: (progress: PreparationProgress) => void): Promise<PreparedData>;
  /** Removes what there is of a corpus. */
  discard(corpus: string): Promise<void>;
}

async function prepare(choice: DataChoice, reading: Reading, corpus: string, onProgress: (progress: PreparationProgress) => void): Promise<PreparedData> {
  const store = await openCheckpointStore();
  try {
    await store.sweepCorpora(new Set());
    const files = await filesOf(choice);
    let [waiting, stored]: [ArrayBuffer[], number] = [[], 0];
    const flush = async (): Promise<void> => {
      await store.savePieces(corpus, stored, waiting);
      stored += waiting.length;
      waiting = [];
    };
    const preview: PreviewRow[] = [];
    const { tokenizer, index, pieceBytes, bytes } = await prepareCorpus({
      documents: (onBytes) => readDocuments(files, { onBytes }),
      tokenizer: await tokenizerOf(reading.tokenizer, await areConversations(files)),
      convert: chatConverter(reading.objective, preview),
      textsOf: ({ record, place }) => (isConversation(record) ? conversationTexts(record, place) : null),
      onProgress,
      async sink(piece) {
        waiting.push(piece);
        if (waiting.length === piecesAtOnce) await flush();
      },
    });
    await flush();
    await store.saveIndex(corpus, { ...index, pieceBytes });
    if (tokenizer === null) throw new TypeError('only rows of tokens have no tokenizer, and those are refused');
    const { read } = pieceCorpus({ index, pieceBytes, piece: async (number) => (await store.corpusPiece(corpus, number)) ?? new ArrayBuffer(0) });
    const [first] = files;
    return {
      corpus,
      title: files.length === 1 ? (first?.name ?? '') : `${first?.name ?? ''} and ${files.length - 1} more`,
      tokenizer: tokenizer.serialize(),
      objective: index.weightSums === null ? everything : reading.objective,
      preview,
      opening: tokenizer.decode((await read(0, Math.min(openingLength, index.tokenCount))).ids),
      documents: documentCount(index),
      tokens: index.tokenCount,
      bytes,
      hasWeights: index.weightSums !== null,
    };
  } finally {
    store.close();
  }
}

/** What data is of shows in its first document. */
async function areConversations(files: readonly DataFile[]): Promise<boolean> {
  const documents = readDocuments(files, {});
  const first = await documents.next();
  await documents.return(undefined);
  return first.done !== true && first.value.kind === 'record' && isConversation(first.value.record);
}

/** Characters have no marks for turns: conversations get pieces of words instead. */
function tokenizerOf(choice: TextChoice, areConversations: boolean): PreparationOptions['tokenizer'] | Promise<Tokenizer> {
  switch (choice.kind) {
    case 'characters':
      return areConversations ? bpeTokenizerMaker(conversationVocabulary) : characterTokenizerMaker();
    case 'bpe':
      return bpeTokenizerMaker(choice.vocabularySize);
    case 'given':
      return deserializeTokenizer(choice.tokenizer);
  }
}

/** Conversations in ChatML, which needs a tokenizer that has its marks; what is no conversation is left to others. The first few are shown. */
function chatConverter(objective: Objective, preview: PreviewRow[]): NonNullable<PreparationOptions['convert']> {
  let reader: ReturnType<typeof documentTokenizer> | null = null;
  return (document, tokenizer) => {
    if (!isConversation(document.record)) return null;
    reader ??= documentTokenizer({ tokenizer, template: chatMl(tokenizer), objective, badRows: { kind: 'stop' } });
    const shown = preview.length < previewedRows ? reader.preview(document) : null;
    if (shown !== null) preview.push(shown);
    return reader.tokenize(document);
  };
}

async function discard(corpus: string): Promise<void> {
  const store = await openCheckpointStore();
  await store.removeCorpus(corpus);
  store.close();
}

keepProblemsOfErrors();
expose({ prepare, discard } satisfies PrepareApi);
