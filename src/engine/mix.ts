/** The 32-bit integer hash "lowbias32" of Chris Wellons' public-domain hash prospector; the shaders have the same. */
export function mixed(value: number): number {
  let v = value | 0;
  v = Math.imul(v ^ (v >>> 16), 0x7feb352d);
  v = Math.imul(v ^ (v >>> 15), 0x846ca68b);
  return (v ^ (v >>> 16)) >>> 0;
}
