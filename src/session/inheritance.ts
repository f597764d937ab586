/**
 * What a successor is sent besides gradients, in pieces: the master state, and the corpus that batches are drawn from. Sizes are
 * checked when they are announced, since memory is set aside for them. Applying it all is the driver's.
 */
import { decodePiece, piecesInMemory, tokensPerPiece } from '../data/token-pieces.ts';
import type { PieceCorpus } from '../data/token-pieces.ts';
import type { MasterPart } from '../room/machine.ts';
import { pieceBytes } from './replica-copies.ts';

const maxCorpusBytes = 2 ** 30;

export class InheritanceError extends Error {
  override readonly name = 'InheritanceError';
}

/**
 * A corpus on the wire, little-endian: u32 documents, u32 tokens, u32 pieces, u32 1 if documents have weights; u32 starts of documents, f64
 * sums of weights if they have any, u32 bytes of each piece; then the pieces (`data/token-pieces.ts`).
 */
export interface SentCorpus {
  readonly byteLength: number;
  /** In order, each as it is then. */
  parts(): AsyncGenerator<ArrayBuffer>;
}

const corpusHeaderBytes = 16;

export function encodeCorpus({ index, pieceBytes, piece }: PieceCorpus): SentCorpus {
  const { starts, tokenCount, weightSums } = index;
  const documents = starts.length - 1;
  const indexBytes = corpusHeaderBytes + 4 * documents + (weightSums === null ? 0 : 8 * documents) + 4 * pieceBytes.length;
  return {
    byteLength: pieceBytes.reduce((sum, bytes) => sum + bytes, indexBytes),
    async *parts() {
      const view = new DataView(new ArrayBuffer(indexBytes));
      [documents, tokenCount, pieceBytes.length, weightSums === null ? 0 : 1].forEach((value, at) => {
        view.setUint32(4 * at, value, true);
      });
      let at = corpusHeaderBytes;
      for (const start of starts.subarray(0, documents)) view.setUint32((at += 4) - 4, start, true);
      for (const sum of weightSums ?? []) view.setFloat64((at += 8) - 8, sum, true);
      for (const bytes of pieceBytes) view.setUint32((at += 4) - 4, bytes, true);
      yield view.buffer;
      for (let number = 0; number < pieceBytes.length; number += 1) yield await piece(number);
    },
  };
}

/** Throws `InheritanceError` when these are not documents of this vocabulary: they come from another peer. */
export function decodeCorpus(bytes: ArrayBuffer, vocabularySize: number): PieceCorpus {
  const cutShort = (): InheritanceError => new InheritanceError('a corpus is cut short');
  if (bytes.byteLength < corpusHeaderBytes) throw cutShort();
  const view = new DataView(bytes);
  const [documents, tokenCount, pieceCount, areWeights] = [0, 4, 8, 12].map((at) => view.getUint32(at, true)) as [number, number, number, number];
  const indexBytes = corpusHeaderBytes + (areWeights === 1 ? 12 : 4) * documents + 4 * pieceCount;
  if (areWeights > 1 || indexBytes > bytes.byteLength || pieceCount !== Math.ceil(tokenCount / tokensPerPiece)) throw cutShort();
  let at = corpusHeaderBytes;
  const starts = Uint32Array.from({ length: documents + 1 }, (_, document) => (document < documents ? view.getUint32((at += 4) - 4, true) : tokenCount));
  const weightSums = areWeights === 1 ? Float64Array.from({ length: documents }, () => view.getFloat64((at += 8) - 8, true)) : null;
  const pieceBytes = Uint32Array.from({ length: pieceCount }, () => view.getUint32((at += 4) - 4, true));
  if (documents < 1 || starts[0] !== 0 || starts.some((start, document) => document > 0 && start <= (starts[document - 1] ?? 0))) {
    throw new InheritanceError('a corpus’ documents are not one after another');
  }
  if (pieceBytes.reduce((sum, piece) => sum + piece, indexBytes) !== bytes.byteLength) throw cutShort();
  const pieces: ArrayBuffer[] = [];
  for (const [number, length] of pieceBytes.entries()) {
    const piece = bytes.slice(at, at + length);
    at += length;
    let stretch;
    try {
      stretch = decodePiece(piece, Math.min(tokensPerPiece, tokenCount - number * tokensPerPiece));
    } catch (error) {
      throw new InheritanceError(error instanceof Error ? error.message : String(error));
    }
    const isForeign = (id: number): boolean => id >= vocabularySize;
    if (stretch.ids.some(isForeign) || stretch.labels?.some(isForeign) === true) throw new InheritanceError('a corpus holds ids that its tokenizer does not know');
    pieces.push(piece);
  }
  return piecesInMemory({ index: { tokenCount, starts, weightSums }, pieceBytes }, pieces);
}

/** A range of what is sent piece by piece. */
export interface Range {
  readonly offset: number;
  readonly byteLength: number;
}

export function* rangesOf(byteLength: number, bytesAtOnce = pieceBytes): Generator<Range> {
  for (let offset = 0; offset < byteLength; offset += bytesAtOnce) yield { offset, byteLength: Math.min(bytesAtOnce, byteLength - offset) };
}

/** Throws `InheritanceError` when the announced sizes or parts can't be right. `flatBytes`: what this peer knows of each part. */
export function checkAnnounced(
  announced: { readonly masterBytes: number; readonly masterParts: readonly MasterPart[]; readonly corpusBytes: number },
  own: { readonly flatBytes: number; readonly parts: readonly MasterPart[] },
): void {
  const { masterBytes, masterParts, corpusBytes } = announced;
  if (masterBytes !== own.flatBytes) throw new InheritanceError(`a master state of ${masterBytes} bytes was announced, and this model’s has ${own.flatBytes}`);
  if (masterParts.join() !== own.parts.join()) throw new InheritanceError(`${masterParts.join(', ')} were announced, and this run has ${own.parts.join(', ')}`);
  if (corpusBytes > maxCorpusBytes) throw new InheritanceError(`a corpus of ${corpusBytes} bytes was announced`);
}

const leastBytesAtOnce = pieceBytes;
const mostBytesAtOnce = 64 * pieceBytes;
/** As long as an update may wait behind pieces. */
const slowMs = 300;

/** How much of a master state is read and handed over at once: reads take their time, and updates wait behind what was handed over. */
export class Pace {
  readonly #nowMs: () => number;
  #bytesAtOnce = leastBytesAtOnce;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  get bytesAtOnce(): number {
    return this.#bytesAtOnce;
  }

  /** Waits until the network has taken what was handed over. */
  async measured(taken: Promise<unknown>): Promise<void> {
    const beganMs = this.#nowMs();
    await taken;
    const isSlow = this.#nowMs() - beganMs > slowMs;
    this.#bytesAtOnce = isSlow ? Math.max(leastBytesAtOnce, this.#bytesAtOnce / 2) : Math.min(mostBytesAtOnce, this.#bytesAtOnce * 2);
  }
}
