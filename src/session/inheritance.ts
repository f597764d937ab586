/**
 * What a successor is sent besides gradients, in pieces: the master state, and the corpus that batches are drawn from. Sizes are
 * checked when they are announced, since memory is set aside for them. Applying it all is the driver's.
 */
import type { MasterPart } from '../room/machine.ts';
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
