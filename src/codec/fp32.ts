/** The codec that drops nothing: gradient sums, and the new weights themselves, as little-endian f32. */
import { CodecError } from './types.ts';
import type { Codec } from './types.ts';

const bytesPerElement = 4;

/** WebGPU buffers and typed arrays are little-endian on everything that browsers run on; the wire format says so too. */
function encode(values: Float32Array): ArrayBuffer {
  const copy = new Float32Array(values.length);
  copy.set(values);
  return copy.buffer;
}

/** Of any flat buffer. Throws `CodecError`, in which it is called `what`, when the size is another or a value is not finite. */
export function decodeFloats(bytes: ArrayBuffer, flatElements: number, what: string): Float32Array<ArrayBuffer> {
  const expected = flatElements * bytesPerElement;
  if (bytes.byteLength !== expected) {
    throw new CodecError(`a ${what} has ${bytes.byteLength} bytes, and this model's have ${expected}`);
  }
  const values = new Float32Array(bytes);
  const wrong = values.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0) throw new CodecError(`a ${what} holds ${values[wrong]} at element ${wrong}`);
  return values;
}

export const fp32Codec: Codec = {
  name: 'fp32',
  encodeContribution: encode,
  decodeContribution: (bytes, flatElements) => decodeFloats(bytes, flatElements, 'contribution'),
  encodeUpdate: encode,
  decodeUpdate: (bytes, flatElements) => decodeFloats(bytes, flatElements, 'update'),
};
