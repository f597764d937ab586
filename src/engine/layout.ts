/**
 * Where each parameter lives in the one flat buffer of weights (and, with the same offsets, of gradients, moments and
 * contributions). A pure function of names and shapes, so every peer of a room computes the same one.
 */
import { elementCount } from './graph.ts';
import type { Shape } from './op.ts';

/** 256 bytes, WebGPU's binding offset alignment, in f32 elements. */
export const alignmentElements = 64;

export interface LayoutEntry {
  readonly name: string;
  readonly shape: Shape;
  readonly offsetElements: number;
  readonly lengthElements: number;
}

/** Elements of the flat buffer from `start` up to but not including `end`. */
export interface FlatSpan {
  readonly start: number;
  readonly end: number;
}

export interface ParameterLayout {
  /** Tensors of two or more dimensions first: they are what weight decay applies to. */
  readonly entries: readonly LayoutEntry[];
  readonly byName: ReadonlyMap<string, LayoutEntry>;
  /** Elements, padding included, of the leading part that weight decay applies to. */
  readonly decayedElements: number;
  /** What an optimizer may change: all but frozen tensors, in order, each as long as it can be. Where they lie doesn't depend on it. */
  readonly trainedSpans: readonly FlatSpan[];
  /** Elements of the flat buffer, padding included. Padding begins as zero and nothing computes with it; a coarse codec may move it. */
  readonly totalElements: number;
  /** Number of parameters, padding not counted. */
  readonly parameterCount: number;
}

export function parameterLayout(parameters: Iterable<readonly [name: string, shape: Shape]>, frozen: ReadonlySet<string> = new Set()): ParameterLayout {
  const all = [...parameters];
  const ordered = [...all.filter(([, shape]) => shape.length >= 2), ...all.filter(([, shape]) => shape.length < 2)];
  const entries: LayoutEntry[] = [];
  const trainedSpans: FlatSpan[] = [];
  let offsetElements = 0;
  let decayedElements = 0;
  for (const [name, shape] of ordered) {
    const lengthElements = elementCount(shape);
    entries.push({ name, shape, offsetElements, lengthElements });
    const start = offsetElements;
    offsetElements += Math.ceil(lengthElements / alignmentElements) * alignmentElements;
    if (!frozen.has(name)) {
      const touching = trainedSpans.at(-1)?.end === start ? trainedSpans.pop() : undefined;
      trainedSpans.push({ start: touching?.start ?? start, end: offsetElements });
    }
    if (shape.length >= 2) decayedElements = offsetElements;
  }
  return {
    entries,
    byName: new Map(entries.map((entry) => [entry.name, entry])),
    decayedElements,
    trainedSpans,
    totalElements: offsetElements,
    parameterCount: entries.reduce((sum, entry) => sum + entry.lengthElements, 0),
  };
}
