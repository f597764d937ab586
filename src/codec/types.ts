/**
 * What a codec is: gradients and changes of weights as bytes for the wire, and back. What it drops on the way stays with whoever encodes (error
 * feedback, Seide et al., 2014) and goes along with what is encoded next. Here in plain arithmetic, as the reference for the
 * kernels of `compressor.ts` and `expander.ts`.
 */
export class CodecError extends Error {
  override readonly name = 'CodecError';
}

export const codecNames = ['fp32', 'bf16', 'int8', 'int2'] as const;
export type CodecName = (typeof codecNames)[number];

/** What a room sends: always the same, or what its network asks for. */
export const codecChoices = ['auto', ...codecNames] as const;
export type CodecChoice = (typeof codecChoices)[number];

/**
 * `nearest`: what is dropped must be kept, or small values are lost for good. `dithered`: up or down by chance, so that the mean of many
 * is right (stochastic rounding), where nobody could keep what is dropped. The chance is a hash of the value and its place.
 */
export type Rounding = 'nearest' | 'dithered';

/** Flat buffers' lengths, padding included (engine/layout.ts), are multiples of 64 elements. */
export interface Codec {
  readonly name: CodecName;
  byteLength(flatElements: number): number;
  /** The values are given away: the result may be the same memory. Default is to round to nearest. */
  encode(values: Float32Array<ArrayBuffer>, rounding?: Rounding): ArrayBuffer;
  /** Throws `CodecError`, in which it is called `what`, when the bytes are not of this size or hold a value that is not finite. */
  decode(bytes: ArrayBuffer, flatElements: number, what: string): Float32Array<ArrayBuffer>;
}

export function checkSize(codec: Pick<Codec, 'name' | 'byteLength'>, bytes: ArrayBuffer, flatElements: number, what: string): void {
  const expected = codec.byteLength(flatElements);
  if (bytes.byteLength !== expected) throw new CodecError(`a ${what} has ${bytes.byteLength} bytes, and this model's have ${expected} in ${codec.name}`);
}

/** Fine enough that nobody has to keep what is dropped. */
export type RoundingCodecName = Exclude<CodecName, 'fp32' | 'int2'>;

/** Of a sum that goes with an update in this codec, where nobody keeps what is dropped. */
export function sumCodecOf(name: CodecName): 'fp32' | RoundingCodecName {
  return name === 'int2' ? 'int8' : name;
}
