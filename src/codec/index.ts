/** The codecs by name, and their kernels. */
import { bf16Codec } from './bf16.ts';
import { fp32Codec } from './fp32.ts';
import { int2Codec } from './int2.ts';
import { int8Codec } from './int8.ts';
import type { RoundingCodecName } from './planes.ts';
import { CodecError } from './types.ts';
import type { Codec, CodecName } from './types.ts';

const codecs: Readonly<Record<CodecName, Codec>> = { fp32: fp32Codec, bf16: bf16Codec, int8: int8Codec, int2: int2Codec };

export function codecOf(name: CodecName): Codec {
  return codecs[name];
}

/** Of a sum that goes with an update in this codec, where nobody keeps what is dropped. */
export function sumCodecOf(name: CodecName): 'fp32' | RoundingCodecName {
  return name === 'int2' ? 'int8' : name;
}

/** Encoded flat buffers have another length in each codec. Throws `CodecError` when these bytes, called `what`, have none of them. */
export function codecOfBytes(bytes: ArrayBuffer, flatElements: number, what: string): Codec {
  const all = Object.values(codecs);
  const found = all.find((codec) => codec.byteLength(flatElements) === bytes.byteLength);
  if (found !== undefined) return found;
  const lengths = all.map((codec) => `${codec.byteLength(flatElements)} in ${codec.name}`).join(', ');
  throw new CodecError(`a ${what} has ${bytes.byteLength} bytes, and this model's have ${lengths}`);
}

export { codecChoices, CodecError, codecNames } from './types.ts';
export type { Codec, CodecChoice, CodecName } from './types.ts';
export { Compressor } from './compressor.ts';
export { Expander } from './expander.ts';
export { fp32Codec } from './fp32.ts';
export type { LossyCodecName, RoundingCodecName } from './planes.ts';
