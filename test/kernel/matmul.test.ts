/** Matrix products: every form, on both kinds of tile, against the f64 reference and finite differences. */
import { expect, test } from 'vitest';
import { Graph, interpret, parameterLayout } from '../../src/engine/index.ts';
import type { AdapterProfile, Engine } from '../../src/engine/index.ts';
import { cast } from '../../src/engine/ops/cast.ts';
import { linear, matmulTN } from '../../src/engine/ops/matmul.ts';
import type { FloatType } from '../../src/engine/op.ts';
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

interface StoredCase extends Case {
  readonly x: FloatType;
  readonly w: FloatType;
  readonly residual?: FloatType;
  readonly result: FloatType;
}

const hasF16 = (await engineWith('register')).profile.hasF16;

test.skipIf(!hasF16).each<StoredCase>([
  { tiles: 'register', rows: 13, out: 22, depth: 600, x: 'f16', w: 'f16', result: 'f16' },
  { tiles: 'register', rows: 9, out: 12, depth: 20, x: 'f32', w: 'f16', residual: 'f16', result: 'f16' },
  { tiles: 'subgroup', rows: 13, out: 24, depth: 600, x: 'f16', w: 'f16', result: 'f16' },
  { tiles: 'subgroup', rows: 9, out: 21, depth: 19, x: 'f16', w: 'f32', residual: 'f32', result: 'f32' },
  { tiles: 'workgroup', rows: 65, out: 68, depth: 300, x: 'f16', w: 'f16', residual: 'f16', result: 'f16' },
  { tiles: 'workgroup', rows: 9, out: 21, depth: 19, x: 'f32', w: 'f16', result: 'f32' },
])(
  'rows of $x by weights of $w give rows of $result, as exact as that is: $rows from $depth to $out ($tiles tiles)',
  async ({ tiles, rows, out, depth, x, w, residual, result }) => {
    const shapes = { x: [rows, depth], w: [out, depth], ...(residual && { residual: [rows, out] }) };
    await checkOp(await engineWith(tiles), {
      parameters: shapes,
      // Multiples of 2⁻⁸ up to one, which f16 holds exactly: only what the products give is rounded.
      values: Object.fromEntries(
        Object.entries(shapes).map(([name, [a = 0, b = 0]], seed) => [name, randomValues(a * b, seed).map((value) => Math.round(value * 256) / 256)]),
      ),
      build(graph, tensor) {
        const added = residual && cast(graph, tensor('residual'), residual);
        const y = linear(graph, cast(graph, tensor('x'), x), cast(graph, tensor('w'), w), added);
        expect(y.dtype).toBe(result);
        return cast(graph, y, 'f32');
      },
      tolerance: 1e-3,
      seed: rows + depth,
    });
  },
);

test('a result is stored as asked, and a residual must be stored the same way', () => {
  const graph = new Graph({ differentiates: false });
  const x = graph.input('x', [2, 5], 'f16');
  const w = graph.input('w', [7, 5], 'f16');
  const residual = graph.input('residual', [2, 7], 'f16');
  expect(linear(graph, x, w).dtype).toBe('f16');
  expect(linear(graph, x, w, undefined, 'f32').dtype).toBe('f32');
  expect(() => linear(graph, x, w, residual, 'f32')).toThrow("matmul NT gives f32 and can't add a residual of f16");
});

test('shapes that do not fit are named', () => {
  const graph = new Graph({ differentiates: false });
  const x = graph.input('x', [2, 5], 'f32');
  const w = graph.input('w', [7, 6], 'f32');
  expect(() => linear(graph, x, w)).toThrow('matmul NT of f32[2, 5], f32[7, 6] does not fit');
});
