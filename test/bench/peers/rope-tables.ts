/** Cosines and sines of rotary embedding in Hugging Face's half-rotation layout, for engines without an op of it. */

/** Both [contextLength, headSize], row by position; the second half of a row repeats the first. */
export function ropeTables(contextLength: number, headSize: number, theta: number): { readonly cosines: Float32Array<ArrayBuffer>; readonly sines: Float32Array<ArrayBuffer> } {
  const half = headSize / 2;
  const table = (turn: (angle: number) => number): Float32Array<ArrayBuffer> =>
    Float32Array.from({ length: contextLength * headSize }, (_, index) => {
      const pair = (index % headSize) % half;
      return turn(Math.floor(index / headSize) * theta ** (-pair / half));
    });
  return { cosines: table(Math.cos), sines: table(Math.sin) };
}
