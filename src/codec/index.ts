/** The codecs by name, and their kernels. */
import { bf16Codec } from './bf16.ts';
import { fp32Codec } from './fp32.ts';
import { int8Codec } from './int8.ts';
import type { Codec, CodecName } from './types.ts';

const codecs: Readonly<Record<CodecName, Codec>> = { fp32: fp32Codec, bf16: bf16Codec, int8: int8Codec };

export function codecOf(name: CodecName): Codec {
  return codecs[name];
}

export { CodecError, codecNames } from './types.ts';
export type { Codec, CodecName } from './types.ts';
export { Compressor } from './compressor.ts';
export { Expander } from './expander.ts';
export { fp32Codec } from './fp32.ts';
