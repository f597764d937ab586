/** A run's corpus in this browser's storage: kept there piece by piece, and read from there. What it is made of is `data`'s affair. */
import { piecesOfText, pieceCorpus } from '../data/token-pieces.ts';
import type { PieceCorpus } from '../data/token-pieces.ts';
import { DataError } from '../data/errors.ts';
import type { RunStorage } from '../trainer/worker-api.ts';
import { problem } from './problems.ts';
import { RunError } from './run.ts';

/** A megabyte in a transaction: few of them, and little in memory. */
const piecesAtOnce = 16;

type Storage = Pick<RunStorage, 'savePieces' | 'saveIndex' | 'corpusIndex' | 'corpusPiece'>;

/** Stores it under a new name, which it returns. */
export async function keepCorpus(storage: Storage, { index, pieceBytes, piece }: PieceCorpus): Promise<string> {
  const corpus = crypto.randomUUID();
  for (let from = 0; from < pieceBytes.length; from += piecesAtOnce) {
    const count = Math.min(piecesAtOnce, pieceBytes.length - from);
    await storage.savePieces(corpus, from, await Promise.all(Array.from({ length: count }, async (_, at) => piece(from + at))));
  }
  await storage.saveIndex(corpus, { ...index, pieceBytes });
  return corpus;
}

/** Throws `RunError` when it is not there, or not all of it. */
export async function openCorpus(storage: Storage, corpus: string | Uint32Array, vocabularySize: number): Promise<PieceCorpus> {
  if (typeof corpus !== 'string') return piecesOfText(corpus, vocabularySize);
  const stored = await storage.corpusIndex(corpus);
  if (stored === null) throw new RunError(problem('run-not-found', 'The text of this run is no longer in this browser’s storage.'));
  const { pieceBytes, ...index } = stored;
  return pieceCorpus({
    index,
    pieceBytes,
    async piece(number) {
      const piece = await storage.corpusPiece(corpus, number);
      if (piece === null) throw new DataError(`piece ${number} of ${pieceBytes.length} of the data is missing in this browser’s storage`);
      return piece;
    },
  });
}
