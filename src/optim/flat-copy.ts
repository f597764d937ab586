/** Copies one flat buffer to another of its layout. */
import shader from '../../shaders/flat-copy.wgsl?raw';
import { flatRanges, partOf } from '../engine/index.ts';
import type { DirectDispatch, Engine, Memory, Sequence } from '../engine/index.ts';

export function flatCopy(engine: Engine, label: string, from: Memory, to: Memory): Promise<Sequence> {
  const dispatches = flatRanges(from, engine.profile).map((range): DirectDispatch => ({
    label,
    shader,
    entryPoint: 'copy',
    constants: { COUNT: range.count, GROUPS_X: range.groupsX },
    bindings: [partOf(from, range), partOf(to, range)],
    workgroups: range.workgroups,
  }));
  return engine.sequence(label, dispatches);
}
