/** Division of flat buffers into the workgroups of the kernels over them. */
import type { Memory, Region } from './engine.ts';
import type { FlatSpan } from './layout.ts';
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

/** The parts of a flat buffer, each of which fits one binding, or what of them lies in `spans`, which begin where a binding may. */
export function flatRanges(
  memory: Memory,
  profile: Pick<AdapterProfile, 'maxWorkgroupsPerDimension'>,
  spans: readonly FlatSpan[] = [{ start: 0, end: memory.lengthElements }],
): readonly FlatRange[] {
  const ranges: FlatRange[] = [];
  let firstGroup = 0;
  for (const { start, count } of partsWithin(memory, spans)) {
    const groups = Math.ceil(count / elementsPerGroup);
    const rows = Math.ceil(groups / profile.maxWorkgroupsPerDimension);
    const groupsX = Math.ceil(groups / rows);
    ranges.push({ start, count, firstGroup, groups, workgroups: [groupsX, rows, 1], groupsX });
    firstGroup += groups;
  }
  return ranges;
}

function partsWithin(memory: Memory, spans: readonly FlatSpan[]): readonly Pick<FlatRange, 'start' | 'count'>[] {
  let end = 0;
  return partsOf(memory).flatMap(({ lengthElements }) => {
    const part = { start: end, end: end + lengthElements };
    end = part.end;
    return spans
      .map((span) => ({ start: Math.max(span.start, part.start), end: Math.min(span.end, part.end) }))
      .filter((common) => common.end > common.start)
      .map((common) => ({ start: common.start, count: common.end - common.start }));
  });
}

export function partOf(memory: Memory, { start, count }: FlatRange): Region {
  return regionOf(memory, start, count);
}
