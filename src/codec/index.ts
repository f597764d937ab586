/** The codecs by name, and their kernels. */
import { bf16Codec } from './bf16.ts';
import { fp32Codec } from './fp32.ts';
import { int2Codec } from './int2.ts';
import { int8Codec } from './int8.ts';
import { CodecError, codecNames } from './types.ts';
import type { Codec, CodecName } from './types.ts';

const codecs: Readonly<Record<CodecName, Codec>> = { fp32: fp32Codec, bf16: bf16Codec, int8: int8Codec, int2: int2Codec };

export function codecOf(name: CodecName): Codec {
  return codecs[name];
}

/**
 * Encoded flat buffers have another length in each codec. Throws `CodecError` when these bytes, called `what`, have that of none of
 * `names`.
 */
export function codecOfBytes(bytes: ArrayBuffer, flatElements: number, what: string, names: readonly CodecName[] = codecNames): Codec {
  const all = names.map(codecOf);
  const found = all.find((codec) => codec.byteLength(flatElements) === bytes.byteLength);
  if (found !== undefined) return found;
  const lengths = all.map((codec) => `${codec.byteLength(flatElements)} in ${codec.name}`).join(', ');
  throw new CodecError(`a ${what} has ${bytes.byteLength} bytes, and this model's have ${lengths}`);
}

export { codecChoices, CodecError, codecNames, sumCodecOf } from './types.ts';
export type { Codec, CodecChoice, CodecName, RoundingCodecName } from './types.ts';
export { Compressor } from './compressor.ts';
export { Expander } from './expander.ts';
export { fp32Codec } from './fp32.ts';
export type { LossyCodecName } from './planes.ts';
