/** Dispatch sizes for kernels that give every element, or every group of elements, one place in a linear index. */
import type { AdapterProfile } from '../op.ts';

export const elementsPerWorkgroup = 64;

/**
 * Folds a count of workgroups into two dimensions where one is too small. Kernels compute their linear index
 * as `workgroup_id.y * GROUPS_X + workgroup_id.x` and check it against their count.
 */
export function foldedGrid(
  groups: number,
  adapter: Pick<AdapterProfile, 'maxWorkgroupsPerDimension'>,
): { readonly workgroups: readonly [number, number, number]; readonly constants: { readonly GROUPS_X: number } } {
  const rows = Math.ceil(groups / adapter.maxWorkgroupsPerDimension);
  const columns = Math.ceil(groups / rows);
  return { workgroups: [columns, rows, 1], constants: { GROUPS_X: columns } };
}

/** One invocation per element, `elementsPerWorkgroup` of them in a workgroup. */
export function elementGrid(
  elements: number,
  adapter: Pick<AdapterProfile, 'maxWorkgroupsPerDimension'>,
): { readonly workgroups: readonly [number, number, number]; readonly constants: { readonly GROUPS_X: number; readonly COUNT: number } } {
  const { workgroups, constants } = foldedGrid(Math.ceil(elements / elementsPerWorkgroup), adapter);
  return { workgroups, constants: { ...constants, COUNT: elements } };
}
