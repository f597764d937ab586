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

/** The parts of a flat buffer, each of which fits one binding. */
export function flatRanges(memory: Memory, profile: Pick<AdapterProfile, 'maxWorkgroupsPerDimension'>): readonly FlatRange[] {
  const ranges: FlatRange[] = [];
  let firstGroup = 0;
  let start = 0;
  for (const { lengthElements: count } of partsOf(memory)) {
    const groups = Math.ceil(count / elementsPerGroup);
    const rows = Math.ceil(groups / profile.maxWorkgroupsPerDimension);
    const groupsX = Math.ceil(groups / rows);
    ranges.push({ start, count, firstGroup, groups, workgroups: [groupsX, rows, 1], groupsX });
    firstGroup += groups;
    start += count;
  }
  return ranges;
}

export function partOf(memory: Memory, { start, count }: FlatRange): Region {
  return regionOf(memory, start, count);
}
