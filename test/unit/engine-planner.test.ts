import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Graph } from '../../src/engine/index.ts';
import type { Tensor } from '../../src/engine/index.ts';
import type { Op } from '../../src/engine/op.ts';
import { liveNodes, placeBlocks, planMemory } from '../../src/engine/planner.ts';
import type { Placement } from '../../src/engine/planner.ts';

const blocks = fc.array(
  fc.record({ lengthElements: fc.integer({ min: 1, max: 40 }), firstNode: fc.nat(30), life: fc.nat(12) }),
  { maxLength: 60 },
);

function overlap(a: Placement, b: Placement): boolean {
  return (
    a.arena === b.arena &&
    a.offsetElements < b.offsetElements + b.lengthElements &&
    b.offsetElements < a.offsetElements + a.lengthElements
  );
}

describe('placing blocks', () => {
  test('never puts two blocks that are alive together in one place, nor one past the end of an arena', () => {
    fc.assert(
      fc.property(blocks, fc.integer({ min: 40, max: 200 }), (drawn, units) => {
        const given = drawn.map(({ lengthElements, firstNode, life }) => ({
          lengthElements: lengthElements * 64,
          firstNode,
          lastNode: firstNode + life,
        }));
        const { placements, arenaElements } = placeBlocks(given, units * 64);
        given.forEach((a, i) => {
          const placeA = placements[i];
          expect(placeA).toBeDefined();
          if (!placeA) return;
          expect(placeA.offsetElements % 64).toBe(0);
          expect(placeA.offsetElements + placeA.lengthElements).toBeLessThanOrEqual(arenaElements[placeA.arena] ?? 0);
          expect(arenaElements[placeA.arena]).toBeLessThanOrEqual(units * 64);
          given.slice(0, i).forEach((b, j) => {
            const placeB = placements[j];
            const together = a.firstNode <= b.lastNode && b.firstNode <= a.lastNode;
            if (placeB && together) expect(overlap(placeA, placeB)).toBe(false);
          });
        });
      }),
    );
  });

  test('refuses a block that no buffer can hold', () => {
    expect(() => placeBlocks([{ lengthElements: 128, firstNode: 0, lastNode: 0 }], 64)).toThrow(/larger than a buffer/);
  });
});

const sumOp: Op<null> = {
  name: 'sum',
  infer: ([first]) => [first ?? { shape: [1], dtype: 'f32' }],
  reference: () => [],
  lower: () => ({ dispatches: [] }),
};

/** A random graph, some of whose nodes may work in place, and which of its tensors are kept. */
const graphs = fc
  .record({
    nodes: fc.array(fc.record({ a: fc.nat(), b: fc.nat(), share: fc.boolean(), scratch: fc.nat(3) }), { minLength: 1, maxLength: 40 }),
    kept: fc.array(fc.nat(), { maxLength: 4 }),
  })
  .map(({ nodes, kept }) => {
    const graph = new Graph({ differentiates: false });
    const tensors: Tensor[] = [graph.input('x', [64], 'f32')];
    const pick = (index: number): Tensor => tensors[index % tensors.length] as Tensor;
    for (const { a, b } of nodes) tensors.push(graph.apply1(sumOp, [pick(a), pick(b)], null));
    const keptIds = new Set(kept.map((index) => pick(index).id).concat(pick(tensors.length - 1).id));
    return { graph, drawn: nodes, keptIds };
  });

describe('planning a graph', () => {
  test('a value stays untouched from its node to its last reader, or to the end when it is kept', () => {
    fc.assert(
      fc.property(graphs, ({ graph, drawn, keptIds }) => {
        const nodes = liveNodes(graph, keptIds);
        const details = nodes.map((node) => drawn[graph.nodes.indexOf(node)]);
        const plan = planMemory({
          nodes,
          scratchElements: details.map((detail) => Array.from({ length: detail?.scratch ?? 0 }, () => 65)),
          shares: details.map((detail) => (detail?.share === true ? [{ output: 0, input: 0 }] : [])),
          kept: keptIds,
          elsewhere: new Set([...graph.inputs.values()].map(({ id }) => id)),
          maxArenaElements: 64 * 1000,
        });
        // Replay: each region remembers whose value it holds; every read must find the value it expects.
        const holder = new Map<string, number>();
        const claim = (place: Placement, owner: number): void => {
          for (let at = place.offsetElements; at < place.offsetElements + place.lengthElements; at += 64) {
            holder.set(`${place.arena}:${at}`, owner);
          }
        };
        const check = (id: number): void => {
          const place = plan.tensors.get(id);
          if (place) expect(holder.get(`${place.arena}:${place.offsetElements}`)).toBe(id);
        };
        nodes.forEach((node, position) => {
          for (const { id } of node.inputs) check(id);
          for (const place of plan.scratch[position] ?? []) claim(place, -1);
          for (const { id } of node.inputs) check(id);
          for (const { id } of node.outputs) claim(plan.tensors.get(id) as Placement, id);
          for (const input of node.inputs) {
            const isDonor = details[position]?.share === true && input.id === node.inputs[0]?.id;
            if (!isDonor) check(input.id);
          }
        });
        for (const id of keptIds) check(id);
        const used = plan.arenaElements.reduce((sum, elements) => sum + elements, 0);
        expect(used).toBeGreaterThanOrEqual(plan.lowerBoundElements);
      }),
      { numRuns: 300 },
    );
  });

  test('a chain of nodes that work in place needs one block', () => {
    const graph = new Graph({ differentiates: false });
    let tensor = graph.apply1(sumOp, [graph.input('x', [640], 'f32')], null);
    for (let i = 0; i < 10; i++) tensor = graph.apply1(sumOp, [tensor], null);
    const plan = planMemory({
      nodes: graph.nodes,
      scratchElements: [],
      shares: graph.nodes.map(() => [{ output: 0, input: 0 }]),
      kept: new Set([tensor.id]),
      elsewhere: new Set([0]),
      maxArenaElements: 64_000,
    });
    expect(plan.arenaElements).toEqual([640]);
    expect(plan.lowerBoundElements).toBe(640);
  });

  test('drops nodes that nothing wanted depends on', () => {
    const graph = new Graph({ differentiates: false });
    const x = graph.input('x', [1], 'f32');
    const wanted = graph.apply1(sumOp, [x], null);
    graph.apply1(sumOp, [wanted], null);
    expect(liveNodes(graph, new Set([wanted.id]))).toEqual([graph.nodes[0]]);
  });
});
