/**
 * From documents to a corpus in pieces, step by step: read, tokenize, keep. Says how far it is, can be stopped at any document, and lets
 * others have their turn. Where documents come from and where pieces go is given.
 */
import { CharacterTokenizer } from './character-tokenizer.ts';
import type { CorpusIndex } from './corpus.ts';
import { DataError } from './errors.ts';
import { textOfRecord } from './sources/documents.ts';
import { isTokenRow, tokenRow } from './token-rows.ts';
import type { TokenRowLimits } from './token-rows.ts';
import { PieceWriter } from './token-pieces.ts';
import type { PieceSink } from './token-pieces.ts';
import { trainBpe } from './tokenize-text.ts';
import type { Tokenizer } from './tokenizer.ts';
import { WordCounter } from './word-counter.ts';
import type { SourceDocument, TokenDocument } from './types.ts';

export interface PreparationProgress {
  /** `learning`: what a tokenizer is made of; `tokenizing`: the documents themselves. */
  readonly stage: 'learning' | 'tokenizing';
  readonly bytes: number;
  readonly documents: number;
  readonly tokens: number;
}

/** Is shown every text before it is asked for the tokenizer that they make. */
export interface TokenizerMaker {
  learn(text: string): Promise<void> | void;
  make(): Promise<Tokenizer> | Tokenizer;
}

export interface PreparationOptions {
  /** Opens the documents, once or twice. `onBytes`: called with how many more were read. */
  readonly documents: (onBytes: (bytes: number) => void) => AsyncIterable<SourceDocument>;
  /** Null: every document is a pre-tokenized row. */
  readonly tokenizer: Tokenizer | TokenizerMaker | null;
  /** What a record is as tokens; null where it is none of its kind, and then a text or a row. Default: null for all. */
  readonly convert?: (document: Extract<SourceDocument, { kind: 'record' }>, tokenizer: Tokenizer) => readonly TokenDocument[] | null;
  /** The texts in what `convert` takes, for a tokenizer that is to be made. */
  readonly textsOf?: (document: Extract<SourceDocument, { kind: 'record' }>) => readonly string[] | null;
  /** Which column of tables is the text. */
  readonly column?: string;
  /** Of pre-tokenized rows. Default: the tokenizer's vocabulary, and any length. */
  readonly rowLimits?: TokenRowLimits;
  readonly sink: PieceSink;
  readonly onProgress?: (progress: PreparationProgress) => void;
  readonly signal?: AbortSignal;
}

export interface PreparedCorpus {
  readonly tokenizer: Tokenizer | null;
  readonly index: CorpusIndex;
  readonly pieceBytes: Uint32Array;
  /** Read from where the documents are, in one pass. */
  readonly bytes: number;
  /** Every document was a pre-tokenized row. */
  readonly areRows: boolean;
  /** Of all tokens: a vocabulary has more. */
  readonly largestId: number;
}

const progressEveryMs = 100;
/** Well below the 50 ms at which a page would be felt to stand still. */
const turnMs = 20;

/** Others' turn: messages, timers, and in a page its frames. */
function breath(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve);
  });
}

/** Tells how far it is, and rests, both now and then. */
class Course {
  readonly #options: Pick<PreparationOptions, 'onProgress' | 'signal'>;
  #toldAtMs = -Infinity;
  #restedAtMs = performance.now();

  constructor(options: Pick<PreparationOptions, 'onProgress' | 'signal'>) {
    this.#options = options;
  }

  async at(progress: () => PreparationProgress): Promise<void> {
    const { onProgress, signal } = this.#options;
    const nowMs = performance.now();
    if (nowMs - this.#toldAtMs >= progressEveryMs) {
      this.#toldAtMs = nowMs;
      onProgress?.(progress());
    }
    if (nowMs - this.#restedAtMs >= turnMs) {
      await breath();
      this.#restedAtMs = performance.now();
    }
    signal?.throwIfAborted();
  }
}

/** Throws `DataError` with file and place; `signal`'s reason when it is stopped. What went into the sink by then is no corpus. */
export async function prepareCorpus(options: PreparationOptions): Promise<PreparedCorpus> {
  const course = new Course(options);
  const tokenizer = options.tokenizer !== null && 'learn' in options.tokenizer ? await learned(options, options.tokenizer, course) : options.tokenizer;
  const converter = new Converter(options, tokenizer);
  const writer = new PieceWriter(tokenizer?.vocabularySize ?? options.rowLimits?.vocabularySize ?? 0, options.sink);
  let bytes = 0;
  let documents = 0;
  const progress = (): PreparationProgress => ({ stage: 'tokenizing', bytes, documents, tokens: writer.tokenCount });
  for await (const document of options.documents((more) => (bytes += more))) {
    const isText = document.kind === 'text';
    if (!(isText && document.continues === true)) documents += 1;
    const { tokens, endOfText } = converter.convert(document);
    for (const each of tokens) await writer.add(each, { continues: isText && document.continues === true, endOfText });
    await course.at(progress);
  }
  const written = await writer.finish();
  options.onProgress?.(progress());
  if (written.index.tokenCount === 0) throw new DataError('the data has no text: every document is empty');
  return { tokenizer, ...written, bytes, areRows: converter.areRows, largestId: writer.largestId };
}

async function learned(options: PreparationOptions, maker: TokenizerMaker, course: Course): Promise<Tokenizer> {
  let [bytes, documents] = [0, 0];
  for await (const document of options.documents((more) => (bytes += more))) {
    documents += 1;
    const texts = document.kind === 'text' ? [document.text] : (options.textsOf?.(document) ?? [textOfRecord(withoutRows(document), options.column)]);
    for (const text of texts) await maker.learn(text);
    await course.at(() => ({ stage: 'learning', bytes, documents, tokens: 0 }));
  }
  return maker.make();
}

function withoutRows(document: Extract<SourceDocument, { kind: 'record' }>): typeof document {
  if (!isTokenRow(document.record)) return document;
  throw new DataError(`${document.place}: rows of token ids say nothing of the tokenizer they were made with: use them with that model, on the command line`);
}

class Converter {
  readonly #options: PreparationOptions;
  readonly #tokenizer: Tokenizer | null;
  #rows = 0;
  #others = 0;

  constructor(options: PreparationOptions, tokenizer: Tokenizer | null) {
    this.#options = options;
    this.#tokenizer = tokenizer;
  }

  get areRows(): boolean {
    return this.#rows > 0 && this.#others === 0;
  }

  convert(document: SourceDocument): { readonly tokens: readonly TokenDocument[]; readonly endOfText: number | null } {
    const tokenizer = this.#tokenizer;
    if (document.kind === 'record') {
      const converted = tokenizer === null ? null : (this.#options.convert?.(document, tokenizer) ?? null);
      if (converted !== null) {
        this.#others += 1;
        return { tokens: converted, endOfText: null };
      }
      if (isTokenRow(document.record) || tokenizer === null) {
        this.#rows += 1;
        const limits = this.#options.rowLimits ?? { vocabularySize: tokenizer?.vocabularySize ?? 0, contextLength: Infinity };
        return { tokens: [tokenRow(document.record, document.place, limits)], endOfText: null };
      }
    }
    this.#others += 1;
    if (tokenizer === null) throw new DataError(`${document.place}: text can't be used without a tokenizer`);
    const text = document.kind === 'text' ? document.text : textOfRecord(document, this.#options.column);
    return { tokens: [{ ids: this.#encoded(tokenizer, text, document.place), weights: null }], endOfText: tokenizer.endOfText };
  }

  #encoded(tokenizer: Tokenizer, text: string, place: string): Uint32Array {
    try {
      return tokenizer.encode(text);
    } catch (error) {
      throw new DataError(`${place}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

/** Byte pairs learned from all texts, of at most so many tokens. */
export function bpeTokenizerMaker(vocabularySize: number): TokenizerMaker {
  const counter = new WordCounter();
  return {
    learn(text) {
      counter.add(text);
      counter.endDocument();
    },
    async make() {
      const training = trainBpe(counter.counted().counts, vocabularySize);
      for (let step = training.next(); ; step = training.next()) {
        if (step.done === true) return step.value;
        await breath();
      }
    },
  };
}

/** Every character that occurs is a token. */
export function characterTokenizerMaker(): TokenizerMaker {
  const characters = new Set<string>();
  return {
    learn(text) {
      for (const character of text) characters.add(character);
    },
    make: () => CharacterTokenizer.fromText([...characters].join('')),
  };
}
