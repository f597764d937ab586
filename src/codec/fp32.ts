/** The codec that drops nothing: gradient sums, and the new weights themselves, as little-endian f32. */
import { CodecError } from './types.ts';
import type { Codec } from './types.ts';

const bytesPerElement = 4;

/** WebGPU buffers and typed arrays are little-endian on everything that browsers run on; the wire format says so too. */
function encode(values: Float32Array<ArrayBuffer>): ArrayBuffer {
  return values.byteLength === values.buffer.byteLength ? values.buffer : values.slice().buffer;
}

/** Of any flat buffer. Throws `CodecError`, in which it is called `what`, when the size is another or a value is not finite. */
export function decodeFloats(bytes: ArrayBuffer, flatElements: number, what: string): Float32Array<ArrayBuffer> {
  const expected = flatElements * bytesPerElement;
  if (bytes.byteLength !== expected) {
    throw new CodecError(`a ${what} has ${bytes.byteLength} bytes, and this model's have ${expected}`);
  }
  const values = new Float32Array(bytes);
  // A loop, because findIndex takes eight times as long (82 and 10 ms for 9.4 million), and every peer is waiting.
  for (let at = 0; at < values.length; at++) {
    if (!Number.isFinite(values[at])) throw new CodecError(`a ${what} holds ${values[at]} at element ${at}`);
  }
  return values;
}

export const fp32Codec: Codec = {
  name: 'fp32',
  encodeContribution: encode,
  decodeContribution: (bytes, flatElements) => decodeFloats(bytes, flatElements, 'contribution'),
  encodeUpdate: encode,
  decodeUpdate: (bytes, flatElements) => decodeFloats(bytes, flatElements, 'update'),
};
