/** Programs on a GPU: replay, accumulation, in-place memory, counters. */
import { describe, expect, test } from 'vitest';
import { EngineError, Graph, parameterLayout } from '../../src/engine/index.ts';
import { add, copy, fill } from '../../src/engine/ops/elementwise.ts';
import { freshEngine } from './harness.ts';

describe('a program', () => {
  test('adds its inputs, whatever memory the planner reuses', async () => {
    const engine = await freshEngine();
    const graph = new Graph({ differentiates: false });
    const layout = parameterLayout([['p', [5, 13]]]);
    const p = graph.parameter('p', [5, 13]);
    const x = graph.input('x', [5, 13], 'f32');
    const doubled = add(graph, x, x);
    const sum = add(graph, doubled, p);
    const quadrupled = add(graph, sum, sum);
    const parameters = engine.allocate('parameters', layout.totalElements);
    engine.write(parameters, Float32Array.from({ length: 65 }, (_, i) => i));
    const program = await engine.compile(graph, { parameters, layout, outputs: new Map([['y', quadrupled]]) });
    const data = Float32Array.from({ length: 65 }, (_, i) => 0.5 * i);
    program.setInput('x', data);
    program.run();
    expect([...(await program.readOutput('y'))]).toEqual(Array.from({ length: 65 }, (_, i) => 4 * i));
    engine.destroy();
  });

  test('adds accumulated outputs to what their region holds, and allocates nothing while it runs', async () => {
    const engine = await freshEngine();
    const graph = new Graph({ differentiates: true });
    const layout = parameterLayout([['p', [70]]]);
    const p = graph.parameter('p', [70]);
    graph.accumulate(copy(graph, p), { kind: 'gradient', name: 'p' });
    graph.accumulate(copy(graph, fill(graph, [1], 2.5)), { kind: 'total', name: 'loss' });
    const parameters = engine.allocate('parameters', layout.totalElements);
    engine.write(parameters, new Float32Array(70).fill(3));
    const gradients = engine.allocate('gradients', layout.totalElements);
    const loss = engine.allocate('loss', 1);
    const program = await engine.compile(graph, { parameters, layout, gradients, totals: new Map([['loss', loss]]) });
    const before = { ...engine.counters };
    for (let i = 0; i < 10; i++) program.run();
    expect(engine.counters).toEqual({
      ...before,
      submits: before.submits + 10,
      dispatches: before.dispatches + 10 * program.stats.dispatchesPerRun,
    });
    expect(new Float32Array(await engine.read(loss))).toEqual(Float32Array.of(25));
    expect([...new Float32Array(await engine.read(gradients)).slice(0, 70)]).toEqual(Array(70).fill(30));
    engine.destroy();
  });
});

test('programs share their arena, and outputs survive the next program', async () => {
  const engine = await freshEngine();
  const layout = parameterLayout([['p', [640]]]);
  const parameters = engine.allocate('parameters', layout.totalElements);
  const compiled = async (value: number) => {
    const graph = new Graph({ differentiates: false });
    const sum = add(graph, fill(graph, [640], value), fill(graph, [640], 1));
    return engine.compile(graph, { parameters, layout, outputs: new Map([['y', sum]]) });
  };
  const first = await compiled(1);
  const bytes = engine.counters.bufferBytes;
  const second = await compiled(2);
  expect(engine.counters.bufferBytes - bytes).toBe(640 * 4);
  first.run();
  second.run();
  expect((await first.readOutput('y'))[639]).toBe(2);
  expect((await second.readOutput('y'))[639]).toBe(3);
  engine.destroy();
});

describe('trouble', () => {
  test('a lost device is told, and so is everyone who waits for it', async () => {
    const engine = await freshEngine();
    const region = engine.allocate('r', 64);
    engine.device.destroy();
    expect((await engine.lost).reason).toBe('destroyed');
    await expect(engine.read(region)).rejects.toMatchObject({ code: 'lost' });
  });

  test('an error on the GPU is thrown by the next wait', async () => {
    const engine = await freshEngine();
    const region = engine.allocate('r', 64);
    engine.device.queue.writeBuffer(region.buffer, 256, new Uint8Array(4));
    await expect(engine.read(region)).rejects.toThrow(EngineError);
    engine.destroy();
  });

  test('a shader that does not compile is reported with its kernel and line', async () => {
    const engine = await freshEngine();
    const region = engine.allocate('r', 64);
    const shader = '@group(0) @binding(0) var<storage, read_write> r: array<f32>;\n@compute @workgroup_size(1) fn main() {\n  r[0] = 1u;\n}';
    await expect(
      engine.sequence('s', [{ label: 'wrong', shader, entryPoint: 'main', constants: {}, bindings: [region], workgroups: [1, 1, 1] }]),
    ).rejects.toThrow(/kernel wrong \(main\).*r\[0\] = 1u/);
    engine.destroy();
  });

  test('a buffer larger than the adapter allows is refused by name', async () => {
    const engine = await freshEngine({ clampToDefaultLimits: true });
    expect(() => engine.allocate('huge', 2 ** 27)).toThrow(
      expect.objectContaining({ message: 'huge needs 536870912 bytes in one buffer; this adapter allows 268435456', code: 'out-of-memory' }),
    );
    engine.destroy();
  });
});
