/** Ranges of memory that may be spread over several buffers. Allocation and copies are `device.ts`'s business. */
import type { Memory, Region } from './engine.ts';
import { invariant } from './errors.ts';

export function partsOf(memory: Memory): readonly Region[] {
  return 'parts' in memory ? memory.parts : [memory];
}

/** The pieces that a range of the memory consists of, in order. */
export function sliceOf(memory: Memory, offsetElements: number, lengthElements: number): readonly Region[] {
  const pieces: Region[] = [];
  let partStart = 0;
  for (const part of partsOf(memory)) {
    const start = Math.max(offsetElements, partStart);
    const end = Math.min(offsetElements + lengthElements, partStart + part.lengthElements);
    if (start < end) {
      pieces.push({ buffer: part.buffer, offsetElements: part.offsetElements + start - partStart, lengthElements: end - start });
    }
    partStart += part.lengthElements;
  }
  return pieces;
}

/** A range as one region, which a kernel can bind. Throws `EngineError` when it is spread over several buffers. */
export function regionOf(memory: Memory, offsetElements = 0, lengthElements = memory.lengthElements - offsetElements): Region {
  const [only, ...more] = sliceOf(memory, offsetElements, lengthElements);
  invariant(
    only !== undefined && more.length === 0 && only.lengthElements === lengthElements,
    () => `elements ${offsetElements} to ${offsetElements + lengthElements} are not in one buffer: the kernel must go by ranges`,
  );
  return only;
}
