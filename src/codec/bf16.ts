/** The upper half of each f32, rounded (to nearest: ties to even): two bytes for each element, in the order of the elements. */
import { chanceOfBits } from './chance.ts';
import { checkSize, CodecError } from './types.ts';
import type { Codec } from './types.ts';

const bytesPerElement = 2;
const exponentBits = 0x7f80;

export const bf16Codec: Codec = {
  name: 'bf16',
  byteLength: (flatElements) => flatElements * bytesPerElement,
  encode(values, rounding = 'nearest') {
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    const halves = new Uint16Array(values.length);
    for (let at = 0; at < bits.length; at++) halves[at] = rounding === 'nearest' ? rounded(bits[at] ?? 0) : dithered(bits[at] ?? 0, at);
    return halves.buffer;
  },
  decode(bytes, flatElements, what) {
    checkHalves(bytes, flatElements, what);
    const halves = new Uint16Array(bytes);
    const bits = new Uint32Array(flatElements);
    for (let at = 0; at < halves.length; at++) bits[at] = (halves[at] ?? 0) << 16;
    return new Float32Array(bits.buffer);
  },
};

/** What is not finite stays so, and is no number that rounding could make finite. */
function rounded(bits: number): number {
  if (((bits >>> 16) & exponentBits) === exponentBits) return exponentBits;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function dithered(bits: number, at: number): number {
  if (((bits >>> 16) & exponentBits) === exponentBits) return exponentBits;
  return (bits + (chanceOfBits(bits, at) >>> 16)) >>> 16;
}

/** Throws as `Codec.decode` does, without decoding. */
export function checkHalves(bytes: ArrayBuffer, flatElements: number, what: string): void {
  checkSize(bf16Codec, bytes, flatElements, what);
  const halves = new Uint16Array(bytes);
  for (let at = 0; at < halves.length; at++) {
    if (((halves[at] ?? 0) & exponentBits) === exponentBits) throw new CodecError(`a ${what} holds a value that is not finite at element ${at}`);
  }
}
