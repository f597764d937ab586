/**
 * Token embedding and its gradient. The gradient visits each distinct token once and adds its positions in order, so it
 * is the same at every run, needs no float atomics, and costs nothing for the tokens that don't occur.
 * A table larger than one binding is visited in ranges of rows.
 */
import shader from '../../../shaders/embedding.wgsl?raw';
import fillShader from '../../../shaders/fill.wgsl?raw';
import { invariant } from '../errors.ts';
import { elementCount, sameShape } from '../graph.ts';
import type { Graph } from '../graph.ts';
import type { Dispatch, Op, Tensor } from '../op.ts';
import { rowRanges, rowsOf } from '../ranges.ts';
import type { RowRange } from '../ranges.ts';
import { input, output, scratch } from './bindings.ts';
import { elementGrid, elementsPerWorkgroup, foldedGrid } from './grid.ts';

/** (ids u32 [..], table [V, D]) → [.., D]. Ids must be below V: the host checks them. */
const embeddingOp: Op<null> = {
  name: 'embedding',
  infer([ids, table]) {
    invariant(
      ids?.dtype === 'u32' && table?.dtype === 'f32' && table.shape.length === 2,
      () => `embedding: ids [${ids?.shape.join() ?? ''}], table [${table?.shape.join() ?? ''}]`,
    );
    return [{ shape: [...ids.shape, table.shape[1] ?? 0], dtype: 'f32' }];
  },
  reference([ids = empty, table = empty], _attrs, { inputs: [, spec] }) {
    const width = spec?.shape[1] ?? 0;
    const y = new Float64Array(ids.length * width);
    ids.forEach((id, n) => {
      y.set(table.subarray(id * width, (id + 1) * width), n * width);
    });
    return [y];
  },
  vjp({ graph, inputs: [ids, table], cotangents: [dy] }) {
    if (!ids || !table || !dy) return [null, null];
    return [null, graph.apply1(embeddingGradientOp, [ids, dy], { rows: table.shape[0] ?? 0 })];
  },
  lower({ inputs: [ids, table], adapter }) {
    const count = elementCount(ids?.shape ?? []);
    const [rows = 0, width = 0] = table?.shape ?? [];
    const grid = elementGrid(count * width, adapter);
    return {
      dispatches: rowRanges(rows, width, adapter).map((range) => ({
        label: 'embedding',
        shader,
        entryPoint: 'gather',
        constants: { ...grid.constants, ...rangeConstants(count, width, range) },
        bindings: [input(0), rowsOf(input(1), range, width, 'f32'), output(0)],
        workgroups: grid.workgroups,
      })),
    };
  },
};

/** (ids, dy [.., D]) → gradient of the table. */
const embeddingGradientOp: Op<{ readonly rows: number }> = {
  name: 'embeddingGradient',
  infer([ids, dy], { rows }) {
    invariant(
      ids !== undefined && dy !== undefined && sameShape(ids.shape, dy.shape.slice(0, -1)),
      () => `embeddingGradient: ids [${ids?.shape.join() ?? ''}], dy [${dy?.shape.join() ?? ''}]`,
    );
    return [{ shape: [rows, dy.shape.at(-1) ?? 0], dtype: 'f32' }];
  },
  reference([ids = empty, dy = empty], { rows }) {
    const width = dy.length / ids.length;
    const gradient = new Float64Array(rows * width);
    ids.forEach((id, n) => {
      for (let d = 0; d < width; d++) {
        gradient[id * width + d] = (gradient[id * width + d] ?? 0) + (dy[n * width + d] ?? 0);
      }
    });
    return [gradient];
  },
  lower({ inputs: [ids, dy], attrs: { rows }, accumulate, adapter }) {
    const count = elementCount(ids?.shape ?? []);
    const width = dy?.shape.at(-1) ?? 0;
    const columnGroups = Math.ceil(width / elementsPerWorkgroup);
    const sumGrid = foldedGrid(count * columnGroups, adapter);
    const ranges = rowRanges(rows, width, adapter);
    const whole = { firstRow: 0, endRow: rows };
    const dispatches: Dispatch[] = [
      {
        label: 'embedding links',
        shader,
        entryPoint: 'link',
        constants: rangeConstants(count, width, whole),
        bindings: [input(0), scratch(0)],
        workgroups: [1, 1, 1],
      },
    ];
    for (const range of ranges) {
      if (accumulate[0] !== true) {
        const grid = elementGrid((range.endRow - range.firstRow) * width, adapter);
        const { workgroups } = grid;
        const constants = { ...grid.constants, VALUE_F: 0 };
        const bindings = [rowsOf(output(0), range, width, 'f32')];
        dispatches.push({ label: 'embedding clear', shader: fillShader, entryPoint: 'fill', constants, bindings, workgroups });
      }
      dispatches.push({
        label: 'embedding gradient',
        shader,
        entryPoint: 'sum',
        constants: { ...sumGrid.constants, ...rangeConstants(count, width, range) },
        bindings: [input(0), scratch(0), input(1), rowsOf(output(0), range, width, 'f32')],
        workgroups: sumGrid.workgroups,
      });
    }
    return { scratchElements: [count + rows], dispatches };
  },
  accumulates: [true],
};

const empty = new Float64Array(0);

function rangeConstants(count: number, width: number, { firstRow, endRow }: RowRange) {
  return {
    COUNT: count,
    WIDTH: width,
    FIRST_ROW: firstRow,
    END_ROW: endRow,
    COLUMN_GROUPS: Math.ceil(width / elementsPerWorkgroup),
  };
}

/** y[.., d] = table[ids[..], d]. */
export function embedding(graph: Graph, ids: Tensor, table: Tensor): Tensor {
  return graph.apply1(embeddingOp, [ids, table], null);
}
