/** Division of flat buffers into ranges that fit one binding each, and into the workgroups of the kernels over them. */
import { alignmentElements } from '../engine/index.ts';
import type { AdapterProfile, Region } from '../engine/index.ts';

/** What a workgroup of the optimizer's kernels owns; their shaders say the same number. */
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

export function flatRanges(
  elements: number,
  profile: Pick<AdapterProfile, 'maxStorageBufferBindingBytes' | 'maxWorkgroupsPerDimension'>,
): readonly FlatRange[] {
  const most = Math.floor(profile.maxStorageBufferBindingBytes / 4 / alignmentElements) * alignmentElements;
  const ranges: FlatRange[] = [];
  let firstGroup = 0;
  for (let start = 0; start < elements; start += most) {
    const count = Math.min(most, elements - start);
    const groups = Math.ceil(count / elementsPerGroup);
    const rows = Math.ceil(groups / profile.maxWorkgroupsPerDimension);
    const groupsX = Math.ceil(groups / rows);
    ranges.push({ start, count, firstGroup, groups, workgroups: [groupsX, rows, 1], groupsX });
    firstGroup += groups;
  }
  return ranges;
}

export function partOf(region: Region, { start, count }: FlatRange): Region {
  return { buffer: region.buffer, offsetElements: region.offsetElements + start, lengthElements: count };
}
