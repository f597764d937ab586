/** A run's corpus read from this browser's storage. How it came there: `trainer/keep-corpus.ts`. */
import { piecesOfText, pieceCorpus } from '../data/token-pieces.ts';
import type { PieceCorpus } from '../data/token-pieces.ts';
import { DataError } from '../data/errors.ts';
import type { RunStorage } from '../trainer/worker-api.ts';
import { problem } from './problems.ts';
import { RunError } from './run.ts';

type Storage = Pick<RunStorage, 'corpusIndex' | 'corpusPiece'>;

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
