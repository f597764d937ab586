/** Which micro-batches make which of a device's own steps. */

/** As many groups as there are to be, or one for each where they are fewer; in order, and as equal as can be. */
export function groupsOf<T>(all: readonly T[], count: number): readonly (readonly T[])[] {
  const groups = Math.min(count, all.length);
  const start = (group: number): number => Math.floor((group * all.length) / groups);
  return Array.from({ length: groups }, (_, group) => all.slice(start(group), start(group + 1)));
}
