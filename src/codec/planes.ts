/** The GPU memory of what is encoded, and the kernels of the lossy codecs over it. */
import shader from '../../shaders/codec.wgsl?raw';
import { flatRanges, partOf, partsOf } from '../engine/index.ts';
import type { DirectDispatch, Engine, FlatMemory, FlatRange, Memory, Region } from '../engine/index.ts';
import { elementsPerBlock, exponentBytes } from './int8.ts';
import type { CodecName } from './types.ts';

/** What has kernels here. */
export type LossyCodecName = Exclude<CodecName, 'fp32'>;

export interface Planes {
  /** After one another they are the bytes of the codec. */
  readonly memories: readonly Memory[];
  /** In which kernels only set bits. */
  readonly cleared: readonly Memory[];
  /** What a kernel over this range of the flat buffers binds, in its order. */
  bindings(range: FlatRange): readonly Region[];
}

const bytesPerWord = 4;
const elementsPerWord = { bf16: 2, int8: 4, int2: 16 } as const;

/** For flat buffers like this one. */
export function allocatePlanes(engine: Engine, codec: LossyCodecName, label: string, flat: Memory): Planes {
  const perWord = elementsPerWord[codec];
  const parts = partsOf(flat).map(({ lengthElements }) => engine.allocate(label, lengthElements / perWord));
  const values: FlatMemory = { parts, lengthElements: flat.lengthElements / perWord };
  const scales = codec !== 'bf16' ? [engine.allocate(`${label} scales`, exponentBytes(flat.lengthElements) / bytesPerWord)] : [];
  return {
    memories: [...scales, values],
    cleared: scales,
    bindings: (range) => [partOf(values, { ...range, start: range.start / perWord, count: range.count / perWord }), ...scales],
  };
}

const entryPoints = {
  encode: { bf16: 'encodeBf16', int8: 'encodeInt8', int2: 'encodeInt2' },
  add: { bf16: 'addBf16', int8: 'addInt8', int2: 'addInt2' },
} as const;

/** One kernel over all of `flat`, which are bound first; `isChange`: see the shader. */
export function codecDispatches(
  engine: Engine,
  codec: LossyCodecName,
  { what, flat, planes, isChange = false }: { readonly what: 'encode' | 'round' | 'add'; readonly flat: readonly [Memory, ...Memory[]]; readonly planes: Planes; readonly isChange?: boolean },
): readonly DirectDispatch[] {
  return flatRanges(flat[0], engine.profile).map((range) => ({
    label: `${what} ${codec}`,
    shader,
    entryPoint: entryPoints[what === 'add' ? 'add' : 'encode'][codec],
    constants: { COUNT: range.count, GROUPS_X: range.groupsX, FIRST_BLOCK: range.start / elementsPerBlock, CHANGE: isChange, ROUNDED: what === 'round' },
    bindings: [...flat.map((memory) => partOf(memory, range)), ...planes.bindings(range)],
    workgroups: range.workgroups,
  }));
}
