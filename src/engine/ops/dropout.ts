/**
 * Dropout whose mask is a hash of (seed, site, element): the same whoever computes it, recomputed instead of stored, and
 * equal on CPU and GPU.
 */
import shader from '../../../shaders/dropout.wgsl?raw';
import { invariant } from '../errors.ts';
import { elementCount, floatType, isFloat } from '../graph.ts';
import type { Graph } from '../graph.ts';
import { mixed } from '../mix.ts';
import type { Op, Tensor } from '../op.ts';
import { input, output } from './bindings.ts';
import { elementGrid } from './grid.ts';

interface DropoutAttrs {
  readonly probability: number;
  /** Number of the place in the model, so that no two places share a mask. */
  readonly site: number;
}

const goldenRatio = 0x9e3779b9;

const dropoutOp: Op<DropoutAttrs> = {
  name: 'dropout',
  infer([x, seed], { probability }) {
    invariant(
      x !== undefined && isFloat(x) && seed?.dtype === 'u32' && elementCount(seed.shape) === 4 && probability >= 0 && probability < 1,
      () => `dropout: x [${x?.shape.join() ?? ''}], seed [${seed?.shape.join() ?? ''}], probability ${probability}`,
    );
    return [{ shape: x.shape, dtype: x.dtype }];
  },
  reference([x = empty, seed = empty], { probability, site }) {
    let key = mixed(site + goldenRatio);
    for (const word of seed) key = mixed(key ^ word);
    const second = mixed(key + goldenRatio);
    const scale = 1 / (1 - probability);
    const threshold = thresholdOf(probability);
    return [x.map((value, i) => (mixed(mixed(i ^ key) + second) >= threshold ? value * scale : 0))];
  },
  vjp({ graph, inputs: [, seed], cotangents: [cotangent], attrs }) {
    if (!seed || !cotangent) return [null, null];
    return [graph.apply1(dropoutOp, [cotangent, seed], attrs), null];
  },
  lower({ inputs: [x], attrs: { probability, site }, adapter }) {
    const grid = elementGrid(elementCount(x?.shape ?? []), adapter);
    const { workgroups } = grid;
    const constants = {
      ...grid.constants,
      SITE: site,
      THRESHOLD: thresholdOf(probability),
      SCALE_F: 1 / (1 - probability),
      TYPE: floatType(x),
    };
    const bindings = [input(0), input(1), output(0)];
    return { dispatches: [{ label: 'dropout', shader, entryPoint: 'dropout', constants, bindings, workgroups }] };
  },
  inPlace: [0],
};

const empty = new Float64Array(0);

function thresholdOf(probability: number): number {
  return Math.floor(probability * 2 ** 32);
}

/**
 * Zeroes each element with the given probability and scales the others by 1/(1-probability). `seed` is u32[4]: run seed,
 * step, index of the micro-batch, 0. A probability of zero is no op at all.
 */
export function dropout(graph: Graph, x: Tensor, seed: Tensor, probability: number, site: number): Tensor {
  return probability === 0 ? x : graph.apply1(dropoutOp, [x, seed], { probability, site });
}
