/** Puts a corpus into this browser's storage, piece by piece. What it is made of is `data`'s affair. */
import type { PieceCorpus } from '../data/token-pieces.ts';
import type { RunStorage } from './worker-api.ts';

/** A megabyte in a transaction: few of them, and little in memory. */
const piecesAtOnce = 16;

/** Stores it under a new name, which it returns. */
export async function keepCorpus(storage: Pick<RunStorage, 'savePieces' | 'saveIndex'>, { index, pieceBytes, piece }: PieceCorpus): Promise<string> {
  const corpus = crypto.randomUUID();
  for (let from = 0; from < pieceBytes.length; from += piecesAtOnce) {
    const count = Math.min(piecesAtOnce, pieceBytes.length - from);
    await storage.savePieces(corpus, from, await Promise.all(Array.from({ length: count }, async (_, at) => piece(from + at))));
  }
  await storage.saveIndex(corpus, { ...index, pieceBytes });
  return corpus;
}
