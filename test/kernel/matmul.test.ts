/** Matrix products: every form, on every variant in turn, against the f64 reference and finite differences. */
import { describe, expect, test } from 'vitest';
import { Graph, interpret, parameterLayout } from '../../src/engine/index.ts';
import type { Engine } from '../../src/engine/index.ts';
import { runnableVariants, variantName } from '../../src/engine/matmul-variants.ts';
import type { MatmulVariant } from '../../src/engine/matmul-variants.ts';
import type { FloatType } from '../../src/engine/op.ts';
import { cast } from '../../src/engine/ops/cast.ts';
import { linear, matmulNN, matmulTN } from '../../src/engine/ops/matmul.ts';
import { checkOp, randomValues, relativeError } from './check-op.ts';
import { freshEngine, sharedEngine } from './harness.ts';

const { hasF16, subgroupSize } = (await sharedEngine()).profile;
const variants = runnableVariants(subgroupSize);
const engines = new Map<string, Promise<Engine>>();

function engineWith(variant: MatmulVariant): Promise<Engine> {
  const name = variantName(variant);
  const engine = engines.get(name) ?? freshEngine({ forceMatmul: variant });
  engines.set(name, engine);
  return engine;
}

interface Size {
  readonly rows: number;
  readonly out: number;
  readonly depth: number;
  /** What the variant must cope with. */
  readonly why: string;
}

const sizes: readonly Size[] = [
  { rows: 1, out: 3, depth: 7, why: 'less than a tile' },
  { rows: 129, out: 131, depth: 33, why: 'past tiles, in no whole quads' },
  { rows: 9, out: 12, depth: 1200, why: 'whole quads, and a depth that is split' },
  { rows: 531, out: 69, depth: 21, why: 'no whole quads, and a depth that is split for the weights' },
];

describe.each(variants.map((variant) => ({ variant, name: variantName(variant) })))('$name', ({ variant }) => {
  test.each(sizes)('a layer with residual and its gradients agree with f64: $rows rows from $depth to $out ($why)', async ({ rows, out, depth }) => {
    await checkOp(await engineWith(variant), {
      parameters: { x: [1, rows, depth], w: [out, depth], residual: [1, rows, out] },
      build: (graph, tensor) => linear(graph, tensor('x'), tensor('w'), tensor('residual')),
      seed: rows + depth,
    });
  });

  test('520 rows from 64 to 96 agree with f64 in all three forms', async () => {
    const graph = new Graph({ differentiates: false });
    const x = graph.input('x', [4, 130, 64], 'f32');
    const w = graph.input('w', [96, 64], 'f32');
    const y = linear(graph, x, w);
    const dx = graph.apply1(matmulNN, [y, w], {});
    const dw = graph.apply1(matmulTN, [y, x], {});
    const inputs = new Map(
      [x, w].map(({ name, shape }, seed) => [name, randomValues(shape.reduce((a, b) => a * b), seed).map(Math.fround)]),
    );
    const outputs = new Map(Object.entries({ y, dx, dw }));
    const gpu = await engineWith(variant);
    const program = await gpu.compile(graph, { parameters: gpu.allocate('none', 64), layout: parameterLayout([]), outputs });
    for (const [name, values] of inputs) program.setInput(name, Float32Array.from(values));
    program.run();
    const expected = interpret(graph, { parameters: new Map(), inputs });
    for (const [name, tensor] of outputs) {
      expect(relativeError(await program.readOutput(name), expected.values(tensor)), name).toBeLessThan(2e-6);
    }
  });
});

interface StoredCase {
  readonly x: FloatType;
  readonly w: FloatType;
  readonly residual?: FloatType;
  readonly result: FloatType;
  readonly rows: number;
  readonly out: number;
  readonly depth: number;
}

/** One of each kind: what is loaded and stored is the same text in all of a kind. */
const kinds = [...new Map(variants.map((variant) => [variant.kind, variant])).values()];

describe.skipIf(!hasF16).each(kinds.map((variant) => ({ variant, name: variantName(variant) })))('$name', ({ variant }) => {
  test.each<StoredCase>([
    { x: 'f16', w: 'f16', result: 'f16', rows: 13, out: 24, depth: 600 },
    { x: 'f32', w: 'f16', residual: 'f16', result: 'f16', rows: 70, out: 21, depth: 19 },
  ])('rows of $x by weights of $w give rows of $result, as exact as that is: $rows from $depth to $out', async (stored) => {
    const { rows, out, depth, x, w, residual, result } = stored;
    const shapes = { x: [rows, depth], w: [out, depth], ...(residual && { residual: [rows, out] }) };
    await checkOp(await engineWith(variant), {
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
  });
});

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
