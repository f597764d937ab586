/**
 * Rotary position embedding (Su et al., 2021) in Hugging Face's half-rotation layout, for positions 0 to T-1.
 * Angles come from a table made in f64 when the graph is traced: WGSL promises only 2^-11 for sines and cosines.
 */
import shader from '../../../shaders/rope.wgsl?raw';
import { invariant } from '../errors.ts';
import { elementCount, floatType, isFloat } from '../graph.ts';
import type { Graph } from '../graph.ts';
import type { Op, Tensor } from '../op.ts';
import { input, output } from './bindings.ts';
import { embedding } from './embedding.ts';
import { elementGrid } from './grid.ts';

interface RopeAttrs {
  readonly inverse: boolean;
}

/** (x [B, T, H, 2·half] f32 or f16, angles [T, 2·half] f32) → x with each pair turned, in x's type. */
const ropeOp: Op<RopeAttrs> = {
  name: 'rope',
  infer([x, angles]) {
    const [, time, , size = 0] = x?.shape ?? [];
    invariant(
      x?.shape.length === 4 && isFloat(x) && size % 2 === 0 && angles?.shape[0] === time && angles?.shape[1] === size,
      () => `rope: x ${x?.dtype ?? ''}[${x?.shape.join() ?? ''}], angles [${angles?.shape.join() ?? ''}]`,
    );
    return [{ shape: x.shape, dtype: x.dtype }];
  },
  reference([x = empty, angles = empty], { inverse }, { inputs: [spec] }) {
    const [, time = 1, heads = 1, size = 2] = spec?.shape ?? [];
    const half = size / 2;
    const turned = new Float64Array(x.length);
    for (let head = 0; head < x.length / size; head++) {
      const position = Math.floor(head / heads) % time;
      for (let i = 0; i < half; i++) {
        const cosine = angles[position * size + i] ?? 0;
        const sine = (angles[position * size + half + i] ?? 0) * (inverse ? -1 : 1);
        const first = x[head * size + i] ?? 0;
        const second = x[head * size + half + i] ?? 0;
        turned[head * size + i] = first * cosine - second * sine;
        turned[head * size + half + i] = second * cosine + first * sine;
      }
    }
    return [turned];
  },
  vjp({ graph, inputs: [, angles], cotangents: [cotangent], attrs }) {
    if (!angles || !cotangent) return [null, null];
    return [graph.apply1(ropeOp, [cotangent, angles], { inverse: !attrs.inverse }), null];
  },
  lower({ inputs: [x], attrs, adapter }) {
    const [, time = 1, heads = 1, size = 2] = x?.shape ?? [];
    const grid = elementGrid(elementCount(x?.shape ?? []) / 2, adapter);
    const constants = { ...grid.constants, TIME: time, HEADS: heads, HALF: size / 2, INVERSE: attrs.inverse, STORED: floatType(x) };
    const { workgroups } = grid;
    const bindings = [input(0), input(1), output(0)];
    return { dispatches: [{ label: 'rope', shader, entryPoint: 'rotate', constants, bindings, workgroups }] };
  },
  inPlace: [0],
};

const empty = new Float64Array(0);

function angleTable(time: number, size: number, theta: number): Float64Array {
  const table = new Float64Array(time * size);
  const half = size / 2;
  for (let position = 0; position < time; position++) {
    for (let i = 0; i < half; i++) {
      const angle = position * theta ** (-i / half);
      table[position * size + i] = Math.cos(angle);
      table[position * size + half + i] = Math.sin(angle);
    }
  }
  return table;
}

function angles(graph: Graph, time: number, size: number, theta: number): Tensor {
  return graph.constant(`rope ${time} ${size} ${theta}`, [time, size], () => angleTable(time, size, theta));
}

/** Turns x [B, T, H, head size] by its positions; frequency i of a head is theta^(-2i / head size). */
export function rope(graph: Graph, x: Tensor, theta: number): Tensor {
  const [, time = 0, , size = 0] = x.shape;
  return graph.apply1(ropeOp, [x, angles(graph, time, size, theta)], { inverse: false });
}

/** Angles of positions u32 [T] below `capacity`, for `ropeBy`: [T, head size]. Picking rows of a table is what an embedding does. */
export function ropeAngles(graph: Graph, positions: Tensor, capacity: number, headSize: number, theta: number): Tensor {
  return embedding(graph, positions, angles(graph, capacity, headSize, theta));
}

/** Turns x [B, T, H, head size] by angles [T, head size] that `ropeAngles` gave. */
export function ropeBy(graph: Graph, x: Tensor, turns: Tensor): Tensor {
  return graph.apply1(ropeOp, [x, turns], { inverse: false });
}
