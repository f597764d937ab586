/**
 * What a codec is: gradients and weights as bytes for the wire, and back. Every contribution and update of a room goes
 * through the room's codec, here on the host.
 */
export class CodecError extends Error {
  override readonly name = 'CodecError';
}

/**
 * `flatElements` is the length of the flat buffers, padding included (engine/layout.ts). What is encoded or decoded is given
 * away: the result may be the same memory.
 */
export interface Codec {
  readonly name: string;
  /** Gradient sums of a peer. */
  encodeContribution(gradientSums: Float32Array<ArrayBuffer>): ArrayBuffer;
  /** Throws `CodecError` when the bytes are not a contribution of this size or hold a value that is not finite. */
  decodeContribution(bytes: ArrayBuffer, flatElements: number): Float32Array<ArrayBuffer>;
  /** What takes every replica to `weights`. */
  encodeUpdate(weights: Float32Array<ArrayBuffer>): ArrayBuffer;
  /** The new weights. Throws `CodecError` when the bytes are not an update of this size. */
  decodeUpdate(bytes: ArrayBuffer, flatElements: number): Float32Array<ArrayBuffer>;
}
