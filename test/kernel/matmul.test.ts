/** Matrix products: every form, on both kinds of tile, against the f64 reference and finite differences. */
import { expect, test } from 'vitest';
import { Graph, interpret, parameterLayout } from '../../src/engine/index.ts';
import type { AdapterProfile, Engine } from '../../src/engine/index.ts';
import { linear, matmulTN } from '../../src/engine/ops/matmul.ts';
import { checkOp, randomValues, relativeError } from './check-op.ts';
import { freshEngine } from './harness.ts';

type Tiles = AdapterProfile['matmulTiles'];

const allTiles: readonly Tiles[] = ['register', 'subgroup', 'workgroup'];
const engines = new Map<Tiles, Promise<Engine>>();

function engineWith(tiles: Tiles): Promise<Engine> {
  const engine = engines.get(tiles) ?? freshEngine({ forceTiles: tiles });
  engines.set(tiles, engine);
  return engine;
}

interface Case {
  readonly tiles: Tiles;
  readonly rows: number;
  readonly out: number;
  readonly depth: number;
}

test.each<Case>([
  // Nothing divides anything; one past the tiles; depths that are split, forward and backward.
  { tiles: 'register', rows: 1, out: 3, depth: 7 },
  { tiles: 'register', rows: 65, out: 68, depth: 17 },
  { tiles: 'register', rows: 9, out: 515, depth: 514 },
  { tiles: 'register', rows: 1031, out: 12, depth: 20 },
  { tiles: 'subgroup', rows: 1, out: 3, depth: 7 },
  { tiles: 'subgroup', rows: 65, out: 68, depth: 17 },
  { tiles: 'subgroup', rows: 9, out: 515, depth: 514 },
  { tiles: 'subgroup', rows: 1031, out: 12, depth: 20 },
])('a linear layer of $rows rows from $depth to $out agrees with f64, and so do its gradients ($tiles tiles)', async (size) => {
  const { tiles, rows, out, depth } = size;
  await checkOp(await engineWith(tiles), {
    parameters: { x: [rows, depth], w: [out, depth] },
    build: (graph, tensor) => linear(graph, tensor('x'), tensor('w')),
    seed: rows + out + depth,
  });
});

test.each<Case>([
  { tiles: 'register', rows: 13, out: 21, depth: 35 },
  { tiles: 'register', rows: 9, out: 10, depth: 1200 },
  { tiles: 'subgroup', rows: 13, out: 21, depth: 35 },
  { tiles: 'subgroup', rows: 9, out: 12, depth: 1200 },
  { tiles: 'workgroup', rows: 65, out: 68, depth: 17 },
])('it adds its residual, $rows rows from $depth to $out ($tiles tiles)', async ({ tiles, rows, out, depth }) => {
  await checkOp(await engineWith(tiles), {
    parameters: { x: [1, rows, depth], w: [out, depth], residual: [1, rows, out] },
    build: (graph, tensor) => linear(graph, tensor('x'), tensor('w'), tensor('residual')),
    seed: rows + depth,
  });
});

test.each(allTiles)('1024 rows from 128 to 384: forward, and the weight gradient over all rows (%s tiles)', async (tiles) => {
  const graph = new Graph({ differentiates: false });
  const x = graph.input('x', [8, 128, 128], 'f32');
  const w = graph.input('w', [384, 128], 'f32');
  const y = linear(graph, x, w);
  const dw = graph.apply1(matmulTN, [y, x], {});
  const inputs = new Map(
    [x, w].map(({ name, shape }, seed) => [name, randomValues(shape.reduce((a, b) => a * b), seed).map(Math.fround)]),
  );
  const outputs = new Map([
    ['y', y],
    ['dw', dw],
  ]);
  const gpu = await engineWith(tiles);
  const program = await gpu.compile(graph, { parameters: gpu.allocate('none', 64), layout: parameterLayout([]), outputs });
  for (const [name, values] of inputs) program.setInput(name, Float32Array.from(values));
  program.run();
  const expected = interpret(graph, { parameters: new Map(), inputs });
  for (const [name, tensor] of outputs) {
    expect(relativeError(await program.readOutput(name), expected.values(tensor)), name).toBeLessThan(2e-6);
  }
});

test('shapes that do not fit are named', () => {
  const graph = new Graph({ differentiates: false });
  const x = graph.input('x', [2, 5], 'f32');
  const w = graph.input('w', [7, 6], 'f32');
  expect(() => linear(graph, x, w)).toThrow('matmul NT of f32[2, 5], f32[7, 6] does not fit');
});
