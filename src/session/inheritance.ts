/**
 * What a successor is sent besides gradients, put together from pieces: moments, and the corpus that batches are drawn from.
 * Sizes are checked when they are announced, since memory is set aside for them. Applying it all is the driver's.
 */
import type { SuccessionPart } from '../room/machine.ts';
import { pieceBytes } from './replica-copies.ts';

const maxCorpusBytes = 2 ** 30;
const largestShortId = 0xffff;

export class InheritanceError extends Error {
  override readonly name = 'InheritanceError';
}

/** Token ids as little-endian u16 where the vocabulary allows it, else u32. */
export function encodeCorpus(tokens: Uint32Array, vocabularySize: number): ArrayBuffer {
  return vocabularySize - 1 <= largestShortId ? Uint16Array.from(tokens).buffer : Uint32Array.from(tokens).buffer;
}

/** Throws `InheritanceError` when these are not ids of this vocabulary: they come from another peer. */
export function decodeCorpus(bytes: ArrayBuffer, vocabularySize: number): Uint32Array<ArrayBuffer> {
  const isShort = vocabularySize - 1 <= largestShortId;
  if (bytes.byteLength % (isShort ? 2 : 4) !== 0) throw new InheritanceError('a corpus is cut short');
  const tokens = isShort ? Uint32Array.from(new Uint16Array(bytes)) : new Uint32Array(bytes);
  if (tokens.some((id) => id >= vocabularySize)) throw new InheritanceError('a corpus holds ids that its tokenizer does not know');
  return tokens;
}

export interface Inheritance {
  readonly firstMoments: ArrayBuffer;
  readonly secondMoments: ArrayBuffer;
  readonly corpus: ArrayBuffer;
}

export interface Piece {
  readonly part: SuccessionPart;
  readonly offset: number;
  readonly bytes: ArrayBuffer;
}

/** The corpus first: it is small, and enough to bring the room back from a checkpoint. */
export function* piecesOf(inheritance: Inheritance): Generator<Piece> {
  for (const part of ['corpus', 'firstMoments', 'secondMoments'] as const) {
    const whole = inheritance[part];
    for (let offset = 0; offset < whole.byteLength; offset += pieceBytes) {
      yield { part, offset, bytes: whole.slice(offset, offset + pieceBytes) };
    }
  }
}

export class InheritanceBuilder {
  readonly #parts: Readonly<Record<SuccessionPart, Uint8Array<ArrayBuffer>>>;

  /** `flatBytes`: what this peer knows the moments' size to be. Throws `InheritanceError` when the announced sizes can't be right. */
  constructor(announced: { readonly momentsBytes: number; readonly corpusBytes: number }, flatBytes: number) {
    const { momentsBytes, corpusBytes } = announced;
    if (momentsBytes !== flatBytes) throw new InheritanceError(`moments of ${momentsBytes} bytes were announced, and this model’s have ${flatBytes}`);
    if (corpusBytes > maxCorpusBytes) throw new InheritanceError(`a corpus of ${corpusBytes} bytes was announced`);
    try {
      this.#parts = {
        firstMoments: new Uint8Array(momentsBytes),
        secondMoments: new Uint8Array(momentsBytes),
        corpus: new Uint8Array(corpusBytes),
      };
    } catch {
      throw new InheritanceError('there is no memory for it');
    }
  }

  /** Within the announced size: the machine has checked it. */
  put(part: SuccessionPart, offset: number, bytes: ArrayBuffer): void {
    this.#parts[part].set(new Uint8Array(bytes), offset);
  }

  /** When every piece is there. */
  whole(): Inheritance {
    const { firstMoments, secondMoments, corpus } = this.#parts;
    return { firstMoments: firstMoments.buffer, secondMoments: secondMoments.buffer, corpus: corpus.buffer };
  }
}
