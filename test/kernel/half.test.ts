/** f16 tensors: what the GPU rounds to, and what the host reads back. */
import { expect, it } from 'vitest';
import { Graph, parameterLayout } from '../../src/engine/index.ts';
import { cast } from '../../src/engine/ops/cast.ts';
import { sharedEngine } from './harness.ts';

const engine = await sharedEngine();

it.skipIf(!engine.profile.hasF16)('rounds f32 values to the nearest f16 and reads them back exactly', async () => {
  // Exact values, ties, the largest and the smallest numbers, overflow, and an odd count that fills half of a word.
  const given = [0, -0, 1, -2.5, 1 / 3, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 65504, 2 ** -14, 2 ** -24, 3 * 2 ** -24, -0.1, Infinity];
  const graph = new Graph({ differentiates: false });
  const x = graph.parameter('x', [given.length]);
  const half = cast(graph, x, 'f16');
  const back = cast(graph, half, 'f32');
  const layout = parameterLayout([['x', [given.length]]]);
  const region = engine.allocate('x', layout.totalElements);
  engine.write(region, Float32Array.from(given));
  const outputs = new Map([['half', half], ['back', back]]);
  const program = await engine.compile(graph, { parameters: region, layout, outputs });
  program.run();
  const values = [...(await program.readOutput('half'))];
  expect(values).toEqual([0, -0, 1, -2.5, 0.333251953125, 1, 1 + 2 ** -9, 65504, 2 ** -14, 2 ** -24, 3 * 2 ** -24, -0.0999755859375, Infinity]);
  expect([...(await program.readOutput('back'))]).toEqual(values);
});
