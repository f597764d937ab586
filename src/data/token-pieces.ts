/**
 * A corpus as it is kept and sent: its tokens in pieces of bytes, in two bytes each where the vocabulary allows it, loss weights as
 * runs of equal ones. Little-endian:
 *
 *   u8 bytes of a token (2 or 4), u8 flags (1: labels, 2: weights), u16 0, u32 tokens, then ids, then labels if there are any,
 *   then, from the next multiple of four, if there are weights: u32 runs, and for each u32 its length, f32 its weight
 *
 * Where pieces lie is decided by whoever takes and gives them.
 */
import { CorpusIndexBuilder } from './corpus.ts';
import type { CorpusIndex, TokenCorpus, TokenStretch } from './corpus.ts';
import { DataError } from './errors.ts';
import type { TokenDocument } from './types.ts';

/** Small enough that a row that is drawn reads little besides itself (64 KiB), large enough that a gigabyte has few pieces. */
export const tokensPerPiece = 2 ** 15;
const headerBytes = 8;
const bytesPerRun = 8;
const largestShortId = 0xffff;

const hasLabels = 1;
const hasWeights = 2;

/** Pieces are given in their order. */
export type PieceSink = (piece: ArrayBuffer) => Promise<void> | void;

/** A corpus that can be copied and sent, since its pieces can be had as they are. */
export interface PieceCorpus extends TokenCorpus {
  /** Of each piece, in their order. */
  readonly pieceBytes: Uint32Array;
  readonly piece: (number: number) => Promise<ArrayBuffer> | ArrayBuffer;
}

export interface AddOptions {
  /** It is more of the document before it. */
  readonly continues?: boolean;
  /** A token to put behind it if another document follows; null for none. */
  readonly endOfText?: number | null;
}

/** Takes documents and gives pieces; holds one piece at a time, and the index. */
export class PieceWriter {
  readonly #sink: PieceSink;
  readonly #tokenBytes: 2 | 4;
  readonly #index = new CorpusIndexBuilder();
  readonly #pieceBytes: number[] = [];
  readonly #ids = new Uint32Array(tokensPerPiece);
  readonly #labels = new Uint32Array(tokensPerPiece);
  readonly #weights = new Float32Array(tokensPerPiece);
  #filled = 0;
  #areLabels = false;
  #areWeights = false;
  #endOfText: number | null = null;
  #largestId = -1;

  constructor(vocabularySize: number, sink: PieceSink) {
    this.#sink = sink;
    this.#tokenBytes = vocabularySize - 1 <= largestShortId ? 2 : 4;
  }

  get tokenCount(): number {
    return this.#index.tokenCount;
  }

  get documentCount(): number {
    return this.#index.documentCount;
  }

  /** Of all tokens so far, labels too; -1 before the first. */
  get largestId(): number {
    return this.#largestId;
  }

  /** Documents without tokens are left out. Throws `DataError` where there are more tokens than a corpus can have. */
  async add({ ids, weights, labels = ids }: TokenDocument, { continues = false, endOfText = null }: AddOptions = {}): Promise<void> {
    if (ids.length === 0) return;
    const isNew = !continues || this.#index.documentCount === 0;
    if (isNew) {
      if (this.#endOfText !== null) await this.#put(Uint32Array.of(this.#endOfText), Uint32Array.of(this.#endOfText), null);
      this.#index.begin();
    }
    this.#endOfText = endOfText;
    // Nothing predicts a document's first token.
    if (weights !== null) this.#index.weigh(weights.subarray(isNew ? 1 : 0).reduce((sum, weight) => sum + weight, 0));
    await this.#put(ids, labels, weights);
  }

  async #put(ids: Uint32Array, labels: Uint32Array, weights: Float32Array | null): Promise<void> {
    this.#index.add(ids.length);
    for (const list of labels === ids ? [ids] : [ids, labels]) for (const id of list) if (id > this.#largestId) this.#largestId = id;
    for (let from = 0; from < ids.length; ) {
      const to = Math.min(ids.length, from + tokensPerPiece - this.#filled);
      this.#ids.set(ids.subarray(from, to), this.#filled);
      this.#labels.set(labels.subarray(from, to), this.#filled);
      if (labels !== ids) this.#areLabels ||= labels.subarray(from, to).some((label, at) => label !== ids[from + at]);
      this.#areWeights ||= weights !== null;
      if (weights === null) this.#weights.fill(1, this.#filled, this.#filled + to - from);
      else this.#weights.set(weights.subarray(from, to), this.#filled);
      this.#filled += to - from;
      from = to;
      if (this.#filled === tokensPerPiece) await this.#flush();
    }
  }

  async #flush(): Promise<void> {
    if (this.#filled === 0) return;
    const piece = encodePiece(
      {
        ids: this.#ids.subarray(0, this.#filled),
        labels: this.#areLabels ? this.#labels.subarray(0, this.#filled) : null,
        weights: this.#areWeights ? this.#weights.subarray(0, this.#filled) : null,
      },
      this.#tokenBytes,
    );
    this.#filled = 0;
    this.#areLabels = this.#areWeights = false;
    this.#pieceBytes.push(piece.byteLength);
    await this.#sink(piece);
  }

  async finish(): Promise<{ readonly index: CorpusIndex; readonly pieceBytes: Uint32Array }> {
    await this.#flush();
    return { index: this.#index.build(), pieceBytes: Uint32Array.from(this.#pieceBytes) };
  }
}

function encodePiece({ ids, labels, weights }: TokenStretch, tokenBytes: 2 | 4): ArrayBuffer {
  const Tokens = tokenBytes === 2 ? Uint16Array : Uint32Array;
  const tokens = labels === null ? [ids] : [ids, labels];
  const runs = weights === null ? [] : runsOf(weights);
  const runsAt = Math.ceil((headerBytes + tokens.length * ids.length * tokenBytes) / 4) * 4;
  const bytes = new ArrayBuffer(weights === null ? headerBytes + tokens.length * ids.length * tokenBytes : runsAt + 4 + runs.length * bytesPerRun);
  const view = new DataView(bytes);
  view.setUint8(0, tokenBytes);
  view.setUint8(1, (labels === null ? 0 : hasLabels) | (weights === null ? 0 : hasWeights));
  view.setUint32(4, ids.length, true);
  tokens.forEach((list, at) => {
    new Tokens(bytes, headerBytes + at * ids.length * tokenBytes, ids.length).set(list);
  });
  if (weights !== null) view.setUint32(runsAt, runs.length, true);
  runs.forEach(({ length, weight }, at) => {
    view.setUint32(runsAt + 4 + at * bytesPerRun, length, true);
    view.setFloat32(runsAt + 8 + at * bytesPerRun, weight, true);
  });
  return bytes;
}

function runsOf(weights: Float32Array): readonly { readonly length: number; readonly weight: number }[] {
  const runs: { length: number; weight: number }[] = [];
  for (const weight of weights) {
    const last = runs.at(-1);
    if (last?.weight === weight) last.length += 1;
    else runs.push({ length: 1, weight });
  }
  return runs;
}

/** Throws `DataError` when these bytes are no piece of so many tokens: they may come from another peer, or from a damaged disk. */
export function decodePiece(bytes: ArrayBuffer, tokens: number): TokenStretch {
  const damaged = (): DataError => new DataError(`${tokens} tokens of the data are damaged (${bytes.byteLength} bytes)`);
  if (bytes.byteLength < headerBytes) throw damaged();
  const view = new DataView(bytes);
  const [tokenBytes, flags] = [view.getUint8(0), view.getUint8(1)];
  if ((tokenBytes !== 2 && tokenBytes !== 4) || flags > (hasLabels | hasWeights) || view.getUint32(4, true) !== tokens) throw damaged();
  const lists = (flags & hasLabels) === 0 ? 1 : 2;
  const end = headerBytes + lists * tokens * tokenBytes;
  const runsAt = Math.ceil(end / 4) * 4;
  if ((flags & hasWeights) === 0 ? bytes.byteLength !== end : bytes.byteLength < runsAt + 4) throw damaged();
  const list = (at: number): Uint32Array => {
    const from = headerBytes + at * tokens * tokenBytes;
    return tokenBytes === 2 ? Uint32Array.from(new Uint16Array(bytes, from, tokens)) : new Uint32Array(bytes, from, tokens);
  };
  const weights = (flags & hasWeights) === 0 ? null : new Float32Array(tokens);
  if (weights !== null) {
    const runs = view.getUint32(runsAt, true);
    if (bytes.byteLength !== runsAt + 4 + runs * bytesPerRun) throw damaged();
    let filled = 0;
    for (let run = 0; run < runs; run += 1) {
      const [length, weight] = [view.getUint32(runsAt + 4 + run * bytesPerRun, true), view.getFloat32(runsAt + 8 + run * bytesPerRun, true)];
      if (filled + length > tokens || !(weight >= 0 && weight < Infinity)) throw damaged();
      weights.fill(weight, filled, filled + length);
      filled += length;
    }
    if (filled !== tokens) throw damaged();
  }
  return { ids: list(0), labels: lists === 2 ? list(1) : null, weights };
}

/** Decoded pieces that are kept: at most 32 MiB with weights and labels, 8 MiB without. */
const piecesKept = 64;

export interface PieceSource {
  readonly index: CorpusIndex;
  readonly pieceBytes: Uint32Array;
  readonly piece: (number: number) => Promise<ArrayBuffer> | ArrayBuffer;
}

/** Reads what a `PieceWriter` wrote. The pieces that were used last are kept. */
export function pieceCorpus({ index, pieceBytes, piece }: PieceSource): PieceCorpus {
  const kept = new Map<number, Promise<TokenStretch>>();
  function decoded(number: number): Promise<TokenStretch> {
    const known = kept.get(number) ?? Promise.resolve(piece(number)).then((bytes) => decodePiece(bytes, Math.min(tokensPerPiece, index.tokenCount - number * tokensPerPiece)));
    kept.delete(number);
    kept.set(number, known);
    // What can't be read now is asked for again.
    known.catch(() => kept.delete(number));
    const [oldest] = kept.keys();
    if (kept.size > piecesKept && oldest !== undefined) kept.delete(oldest);
    return known;
  }
  return {
    index,
    pieceBytes,
    piece,
    async read(start, end) {
      const first = Math.floor(start / tokensPerPiece);
      const numbers = Array.from({ length: Math.ceil(end / tokensPerPiece) - first }, (_, at) => first + at);
      const pieces = await Promise.all(numbers.map(decoded));
      const cut = pieces.map(({ ids, labels, weights }, at) => {
        const base = (first + at) * tokensPerPiece;
        const [from, to] = [Math.max(0, start - base), Math.min(ids.length, end - base)];
        return { ids: ids.subarray(from, to), labels: labels?.subarray(from, to) ?? null, weights: weights?.subarray(from, to) ?? null };
      });
      const [only] = cut;
      return only !== undefined && cut.length === 1 ? only : joined(cut, end - start);
    },
  };
}

function joined(stretches: readonly TokenStretch[], length: number): TokenStretch {
  const ids = new Uint32Array(length);
  const labels = stretches.some((stretch) => stretch.labels !== null) ? new Uint32Array(length) : null;
  const weights = stretches.some((stretch) => stretch.weights !== null) ? new Float32Array(length).fill(1) : null;
  let at = 0;
  for (const stretch of stretches) {
    ids.set(stretch.ids, at);
    labels?.set(stretch.labels ?? stretch.ids, at);
    if (stretch.weights !== null) weights?.set(stretch.weights, at);
    at += stretch.ids.length;
  }
  return { ids, labels, weights };
}

/** A text that is in memory, as pieces in memory. */
export async function piecesOfText(tokens: Uint32Array, vocabularySize: number): Promise<PieceCorpus> {
  const pieces: ArrayBuffer[] = [];
  const writer = new PieceWriter(vocabularySize, (piece) => void pieces.push(piece));
  await writer.add({ ids: tokens, weights: null });
  return piecesInMemory(await writer.finish(), pieces);
}

export function piecesInMemory(written: Omit<PieceSource, 'piece'>, pieces: readonly ArrayBuffer[]): PieceCorpus {
  return pieceCorpus({
    ...written,
    piece(number) {
      const piece = pieces[number];
      if (piece === undefined) throw new DataError(`piece ${number} of the data is missing`);
      return piece;
    },
  });
}
