/** Division of flat buffers into the workgroups of the kernels over them. */
import type { Memory, Region } from './engine.ts';
import { partsOf, regionOf } from './memory.ts';
import type { AdapterProfile } from './op.ts';

/** What a workgroup of the kernels over flat buffers owns; their shaders say the same number. */
export const elementsPerGroup = 4096;

export interface FlatRange {
  readonly start: number;
  readonly count: number;
  /** Groups of the ranges before this one. */
  readonly firstGroup: number;
  readonly groups: number;
  readonly workgroups: readonly [number, number, number];
  readonly groupsX: number;
}

/** Elements of a flat buffer, from one tensor's beginning up to another's. */
export interface FlatSpan {
  readonly from: number;
  readonly to: number;
}

/** The parts of a flat buffer, or of a span of it, each of which fits one binding. */
export function flatRanges(
  memory: Memory,
  profile: Pick<AdapterProfile, 'maxWorkgroupsPerDimension'>,
  { from, to }: FlatSpan = { from: 0, to: memory.lengthElements },
): readonly FlatRange[] {
  const ranges: FlatRange[] = [];
  let firstGroup = 0;
  let partStart = 0;
  for (const { lengthElements } of partsOf(memory)) {
    const start = Math.max(partStart, from);
    const count = Math.min(partStart + lengthElements, to) - start;
    partStart += lengthElements;
    if (count <= 0) continue;
    const groups = Math.ceil(count / elementsPerGroup);
    const rows = Math.ceil(groups / profile.maxWorkgroupsPerDimension);
    const groupsX = Math.ceil(groups / rows);
    ranges.push({ start, count, firstGroup, groups, workgroups: [groupsX, rows, 1], groupsX });
    firstGroup += groups;
  }
  return ranges;
}

export function partOf(memory: Memory, { start, count }: FlatRange): Region {
  return regionOf(memory, start, count);
}
