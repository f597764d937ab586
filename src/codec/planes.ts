/** The GPU memory of what is encoded: after one another, the planes are the bytes of the codec. */
import { flatRanges, partOf, partsOf } from '../engine/index.ts';
import type { Engine, FlatMemory, FlatRange, Memory, Region } from '../engine/index.ts';
import { elementsPerBlock, exponentBytes } from './int8.ts';
import type { CodecName } from './types.ts';

/** What the kernels of a lossy codec work on. */
export type LossyCodecName = Exclude<CodecName, 'fp32'>;

interface Plane {
  readonly memory: Memory;
  /** What a kernel over this range of the flat buffers binds. */
  readonly of: (range: FlatRange) => Region;
}

export type Planes = readonly Plane[];

const bytesPerWord = 4;
const elementsPerWord = { bf16: 2, int8: 4 } as const;

/** For flat buffers like this one. In the order of the codec's bytes. */
export function allocatePlanes(engine: Engine, codec: LossyCodecName, label: string, flat: Memory): Planes {
  const perWord = elementsPerWord[codec];
  const parts = partsOf(flat).map(({ lengthElements }) => engine.allocate(label, lengthElements / perWord));
  const values: FlatMemory = { parts, lengthElements: flat.lengthElements / perWord };
  const valuePlane: Plane = { memory: values, of: ({ start, count, ...range }) => partOf(values, { ...range, start: start / perWord, count: count / perWord }) };
  if (codec === 'bf16') return [valuePlane];
  const exponents = engine.allocate(`${label} scales`, exponentBytes(flat.lengthElements) / bytesPerWord);
  return [{ memory: exponents, of: () => exponents }, valuePlane];
}

/** The constants that the kernels share, for each range of a flat buffer. */
export function kernelRanges(engine: Engine, flat: Memory): readonly { readonly range: FlatRange; readonly constants: { readonly COUNT: number; readonly GROUPS_X: number; readonly FIRST_BLOCK: number } }[] {
  return flatRanges(flat, engine.profile).map((range) => ({
    range,
    constants: { COUNT: range.count, GROUPS_X: range.groupsX, FIRST_BLOCK: range.start / elementsPerBlock },
  }));
}
