/**
 * Which kernels compute attention on an adapter: how a head is cut up, what is bound and how many workgroups there are.
 * Knows extents and bindings, not the op's meaning (`attention.ts`).
 */
import rowsShader from '../../../shaders/attention-rows.wgsl?raw';
import softwareBackwardShader from '../../../shaders/attention-software-backward.wgsl?raw';
import softwareForwardShader from '../../../shaders/attention-software-forward.wgsl?raw';
import workgroupShader from '../../../shaders/attention-workgroup.wgsl?raw';
import { invariant } from '../errors.ts';
import type { AdapterProfile, BindingRef, Dispatch, Lowering, ShaderConstants } from '../op.ts';
import { input, output, scratch } from './bindings.ts';
import { elementGrid } from './grid.ts';
import { workgroupGrid } from './matmul-lowering.ts';

export interface Extents {
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
  /** How vectors are stored; sums over them and scalars of a query are f32 all the same. */
  readonly stored: 'f32' | 'f16';
  readonly hasDocuments: boolean;
}

/** Which vectors a kernel owns: queries of `forward` and `backwardQueries`, keys and values of `backwardKeys`. */
type Pass = 'forward' | 'backwardQueries' | 'backwardKeys';

type Kernel = Pick<Dispatch, 'shader' | 'entryPoint' | 'constants' | 'uniform' | 'workgroups'>;

/** Running sums of software kernels lie in memory, which must be of their own where f16 would round them. */
function needsSums({ stored }: Extents, adapter: AdapterProfile): boolean {
  return adapter.isSoftware && stored === 'f16';
}

/**
 * Software adapters want few memory accesses in the text and lanes that walk equally far; GPUs want registers and coinciding
 * reads.
 */
function kernelsFor(pass: Pass, size: Extents, flops: number, adapter: AdapterProfile): readonly Kernel[] {
  const pieces = Math.ceil(flops / adapter.maxDispatchFlops);
  return adapter.isSoftware ? softwareKernels(pass, size, pieces, adapter) : workgroupKernels(pass, size, pieces, adapter);
}

/** `total` in so many ranges of about one length, or fewer where there is not as much. */
function rangesOf(total: number, pieces: number): readonly { readonly first: number; readonly count: number }[] {
  const most = Math.ceil(total / pieces);
  return Array.from({ length: Math.ceil(total / most) }, (_, index) => ({
    first: index * most,
    count: Math.min(most, total - index * most),
  }));
}

function flags(pass: Pass, { stored, hasDocuments }: Extents): ShaderConstants {
  return { STORED: stored, DOCUMENTS: hasDocuments, ...(pass === 'forward' ? {} : { QUERIES: pass === 'backwardQueries' }) };
}

/** The fields that every kernel's uniform starts with. */
function uniformOf({ batch, time, heads, kvHeads, headSize }: Extents, first = 0): readonly number[] {
  return [batch, time, heads, kvHeads, headSize, first];
}

/** Eight lanes are lavapipe's vector and two of SwiftShader's; each owns eight positions. */
function softwareKernels(pass: Pass, size: Extents, pieces: number, adapter: AdapterProfile): readonly Kernel[] {
  const lanes = 8;
  const { batch, time, heads, kvHeads, stored } = size;
  const series = batch * (pass === 'backwardKeys' ? kvHeads : heads);
  return rangesOf(Math.ceil((series * Math.ceil(time / 8)) / lanes), pieces).map(({ first, count }) => ({
    shader: pass === 'forward' ? softwareForwardShader : softwareBackwardShader,
    entryPoint: pass,
    constants: { ...flags(pass, size), LANES: lanes, HALF: stored === 'f16' },
    uniform: uniformOf(size, first),
    workgroups: workgroupGrid(count, adapter),
  }));
}

/**
 * Quads of a head that one invocation holds. A quad takes 16 registers for each vector of the four positions it owns: queries and
 * outputs in `forward`, three vectors in `backwardQueries`, four in `backwardKeys`. So that is 96 to 128, and with products and
 * places less than the 255 that most GPUs have. Counted, not measured.
 */
const mostQuads: Readonly<Record<Pass, number>> = { forward: 4, backwardQueries: 2, backwardKeys: 2 };

function workgroupKernels(pass: Pass, size: Extents, pieces: number, adapter: AdapterProfile): readonly Kernel[] {
  const lanes = 64;
  const quads = size.headSize / 4;
  const team = Math.ceil(quads / mostQuads[pass]);
  const slice = Math.ceil(quads / team);
  const teams = Math.floor(lanes / team);
  const heads = pass === 'backwardKeys' ? size.kvHeads : size.heads;
  const blocks = Math.ceil(size.time / (4 * teams));
  return rangesOf(heads * size.batch, pieces).map(({ first, count }) => {
    invariant(
      Math.max(blocks, count) <= adapter.maxWorkgroupsPerDimension,
      () => `attention over ${blocks}×${count} workgroups is too large for one dispatch on ${adapter.name}`,
    );
    return {
      shader: workgroupShader,
      entryPoint: pass,
      constants: {
        ...flags(pass, size),
        FORWARD: pass === 'forward',
        LANES: lanes,
        SLICE: slice,
        SHARED: team > 1,
        MATRICES: pass === 'forward' ? 1 : 2,
      },
      uniform: [...uniformOf(size, first), team, teams],
      workgroups: [blocks, count, 1],
    };
  });
}

function scoredPairs({ batch, time, heads }: Extents): number {
  return (batch * heads * time * (time + 1)) / 2;
}

function shapeText({ batch, time, heads, headSize }: Extents): string {
  return `${batch}×${time}×${heads}×${headSize}`;
}

function dispatchesOf(
  name: string,
  pass: Pass,
  size: Extents,
  flops: number,
  bindings: readonly BindingRef[],
  adapter: AdapterProfile,
): readonly Dispatch[] {
  const kernels = kernelsFor(pass, size, flops, adapter);
  return kernels.map((kernel) => ({ label: `${name} ${shapeText(size)}`, ...kernel, bindings, flops: flops / kernels.length }));
}

/** Inputs q, k, v and perhaps documentStarts; outputs o and its log-sum-exp. */
export function lowerForward(size: Extents, adapter: AdapterProfile): Lowering {
  const hasSums = needsSums(size, adapter);
  const bindings = [
    ...[input(0), input(1), input(2), output(0), output(1)],
    ...(size.hasDocuments ? [input(3)] : []),
    ...(hasSums ? [scratch(0)] : []),
  ];
  return {
    dispatches: dispatchesOf('attention', 'forward', size, 4 * scoredPairs(size) * size.headSize, bindings, adapter),
    scratchElements: hasSums ? [size.batch * size.time * size.heads * size.headSize] : [],
  };
}

/** Inputs q, k, v, o, log-sum-exp, dO and perhaps documentStarts; outputs dQ, dK and dV. */
export function lowerBackward(size: Extents, adapter: AdapterProfile): Lowering {
  const { batch, time, heads, kvHeads, headSize, stored, hasDocuments } = size;
  const [q, k, v, o, logSumExp, dO, documentStarts] = [input(0), input(1), input(2), input(3), input(4), input(5), input(6)];
  const rows = scratch(0);
  const hasSums = needsSums(size, adapter);
  const sums = hasSums ? [scratch(1)] : [];
  const queries = batch * heads * time;
  const pairs = scoredPairs(size);
  return {
    dispatches: [
      {
        label: `attention rows ${shapeText(size)}`,
        shader: rowsShader,
        entryPoint: 'prepare',
        constants: { STORED: stored, DOCUMENTS: hasDocuments },
        uniform: uniformOf(size),
        bindings: [o, dO, logSumExp, rows, ...(hasDocuments ? [documentStarts] : [])],
        workgroups: elementGrid(queries, adapter).workgroups,
        flops: 2 * queries * headSize,
      },
      ...dispatchesOf('attention dQ', 'backwardQueries', size, 6 * pairs * headSize, [q, k, v, dO, rows, output(0), ...sums], adapter),
      ...dispatchesOf('attention dK dV', 'backwardKeys', size, 8 * pairs * headSize, [q, k, v, dO, rows, output(1), output(2), ...sums], adapter),
    ],
    scratchElements: [
      (hasDocuments ? 3 : 2) * queries,
      ...(hasSums ? [batch * time * headSize * Math.max(heads, 2 * kvHeads)] : []),
    ],
  };
}
