/**
 * Which kernels compute attention on an adapter: how a head is cut up, what is bound and how many workgroups there are.
 * Knows extents and bindings, not the op's meaning (`attention.ts`).
 */
import rowsShader from '../../../shaders/attention-rows.wgsl?raw';
import softwareBackwardShader from '../../../shaders/attention-software-backward.wgsl?raw';
import softwareForwardShader from '../../../shaders/attention-software-forward.wgsl?raw';
import workgroupShader from '../../../shaders/attention-workgroup.wgsl?raw';
import { invariant } from '../errors.ts';
import type { AdapterProfile, Dispatch, Lowering, ShaderConstants } from '../op.ts';
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
function kernelFor(pass: Pass, size: Extents, adapter: AdapterProfile): Kernel {
  return adapter.isSoftware ? softwareKernel(pass, size, adapter) : workgroupKernel(pass, size, adapter);
}

function flags(pass: Pass, { stored, hasDocuments }: Extents): ShaderConstants {
  return { STORED: stored, DOCUMENTS: hasDocuments, ...(pass === 'forward' ? {} : { QUERIES: pass === 'backwardQueries' }) };
}

/** The fields that every kernel's uniform starts with. */
function uniformOf({ batch, time, heads, kvHeads, headSize }: Extents): readonly number[] {
  return [batch, time, heads, kvHeads, headSize];
}

/** Eight lanes are lavapipe's vector and two of SwiftShader's; each owns eight positions. */
function softwareKernel(pass: Pass, size: Extents, adapter: AdapterProfile): Kernel {
  const lanes = 8;
  const { batch, time, heads, kvHeads, stored } = size;
  const series = batch * (pass === 'backwardKeys' ? kvHeads : heads);
  return {
    shader: pass === 'forward' ? softwareForwardShader : softwareBackwardShader,
    entryPoint: pass,
    constants: { ...flags(pass, size), LANES: lanes, HALF: stored === 'f16' },
    uniform: uniformOf(size),
    workgroups: workgroupGrid(Math.ceil((series * Math.ceil(time / 8)) / lanes), adapter),
  };
}

/**
 * Quads of a head that one invocation holds. A quad takes 16 registers for each vector of the four positions it owns: queries and
 * outputs in `forward`, three vectors in `backwardQueries`, four in `backwardKeys`. So that is 96 to 128, and with products and
 * places less than the 255 that most GPUs have. Counted, not measured.
 */
const mostQuads: Readonly<Record<Pass, number>> = { forward: 4, backwardQueries: 2, backwardKeys: 2 };

function workgroupKernel(pass: Pass, size: Extents, adapter: AdapterProfile): Kernel {
  const lanes = 64;
  const quads = size.headSize / 4;
  const team = Math.ceil(quads / mostQuads[pass]);
  const slice = Math.ceil(quads / team);
  const teams = Math.floor(lanes / team);
  const heads = pass === 'backwardKeys' ? size.kvHeads : size.heads;
  const workgroups = [Math.ceil(size.time / (4 * teams)), heads, size.batch] as const;
  invariant(
    Math.max(...workgroups) <= adapter.maxWorkgroupsPerDimension,
    () => `attention over ${workgroups.join('×')} workgroups is too large for one dispatch on ${adapter.name}`,
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
    uniform: [...uniformOf(size), team, teams],
    workgroups,
  };
}

function scoredPairs({ batch, time, heads }: Extents): number {
  return (batch * heads * time * (time + 1)) / 2;
}

function shapeText({ batch, time, heads, headSize }: Extents): string {
  return `${batch}×${time}×${heads}×${headSize}`;
}

/** Inputs q, k, v and perhaps documentStarts; outputs o and its log-sum-exp. */
export function lowerForward(size: Extents, adapter: AdapterProfile): Lowering {
  const hasSums = needsSums(size, adapter);
  return {
    dispatches: [
      {
        label: `attention ${shapeText(size)}`,
        ...kernelFor('forward', size, adapter),
        bindings: [
          ...[input(0), input(1), input(2), output(0), output(1)],
          ...(size.hasDocuments ? [input(3)] : []),
          ...(hasSums ? [scratch(0)] : []),
        ],
        flops: 4 * scoredPairs(size) * size.headSize,
      },
    ],
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
      {
        label: `attention dQ ${shapeText(size)}`,
        ...kernelFor('backwardQueries', size, adapter),
        bindings: [q, k, v, dO, rows, output(0), ...sums],
        flops: 6 * pairs * headSize,
      },
      {
        label: `attention dK dV ${shapeText(size)}`,
        ...kernelFor('backwardKeys', size, adapter),
        bindings: [q, k, v, dO, rows, output(1), output(2), ...sums],
        flops: 8 * pairs * headSize,
      },
    ],
    scratchElements: [
      (hasDocuments ? 3 : 2) * queries,
      ...(hasSums ? [batch * time * headSize * Math.max(heads, 2 * kvHeads)] : []),
    ],
  };
}
