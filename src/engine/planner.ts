/**
 * Memory planning: which nodes run at all, how long each value lives, and where in the arena it lies.
 * Pure functions of the graph; buffers and kernels are `program.ts`'s business.
 */
import { alignmentElements } from './layout.ts';
import { wordCount } from './graph.ts';
import type { Graph, GraphNode } from './graph.ts';
import { EngineError } from './errors.ts';

/** A range of the arena's buffers. */
export interface Placement {
  readonly arena: number;
  readonly offsetElements: number;
  readonly lengthElements: number;
}

/** A value or scratch region and the nodes (by position) between which it must keep its contents, both included. */
export interface Block {
  readonly lengthElements: number;
  readonly firstNode: number;
  readonly lastNode: number;
}

export interface MemoryPlan {
  /** By tensor id; tensors that live in persistent regions have none. */
  readonly tensors: ReadonlyMap<number, Placement>;
  /** By node, then by index of the node's scratch regions. */
  readonly scratch: readonly (readonly Placement[])[];
  readonly arenaElements: readonly number[];
  /** The largest sum of blocks alive at one node. */
  readonly lowerBoundElements: number;
}

export interface PlanRequest {
  readonly nodes: readonly GraphNode[];
  /** By node: sizes of its scratch regions. */
  readonly scratchElements: readonly (readonly number[])[];
  /** By node: pairs (output, input) of which the output may take over the input's memory. */
  readonly shares: readonly (readonly { readonly output: number; readonly input: number }[])[];
  /** Tensors whose values are read after the run. */
  readonly kept: ReadonlySet<number>;
  /** Tensors in persistent regions: parameters, inputs, constants, accumulated outputs. */
  readonly elsewhere: ReadonlySet<number>;
  readonly maxArenaElements: number;
}

/** The nodes, in order, whose outputs reach a kept or an accumulated tensor, or a state. */
export function liveNodes(graph: Graph, kept: ReadonlySet<number>): readonly GraphNode[] {
  const wanted = new Set(kept);
  const live: GraphNode[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some(({ id }) => wanted.has(id) || graph.accumulations.has(id) || graph.stateOf.has(id))) continue;
    live.push(node);
    for (const input of node.inputs) wanted.add(input.id);
  }
  return live.reverse();
}

interface MutableBlock {
  lengthElements: number;
  firstNode: number;
  lastNode: number;
}

export function planMemory(request: PlanRequest): MemoryPlan {
  const { nodes, kept, elsewhere } = request;
  const lastUse = new Map<number, number>();
  nodes.forEach((node, position) => {
    for (const { id } of [...node.inputs, ...node.outputs]) lastUse.set(id, position);
  });
  const blocks: MutableBlock[] = [];
  const blockOfTensor = new Map<number, MutableBlock>();
  const blocksOfScratch: MutableBlock[][] = [];
  nodes.forEach((node, position) => {
    node.outputs.forEach((output, index) => {
      if (elsewhere.has(output.id)) return;
      const lastNode = kept.has(output.id) ? nodes.length - 1 : (lastUse.get(output.id) ?? position);
      const lengthElements = paddedElements(wordCount(output));
      const donor = donorOf(index);
      if (donor?.lengthElements === lengthElements) {
        donor.lastNode = lastNode;
        blockOfTensor.set(output.id, donor);
        return;
      }
      const block = { lengthElements, firstNode: position, lastNode };
      blocks.push(block);
      blockOfTensor.set(output.id, block);
    });
    blocksOfScratch.push(
      (request.scratchElements[position] ?? []).map((elements) => {
        const block = { lengthElements: paddedElements(elements), firstNode: position, lastNode: position };
        blocks.push(block);
        return block;
      }),
    );

    function donorOf(outputIndex: number): MutableBlock | undefined {
      const share = request.shares[position]?.find(({ output }) => output === outputIndex);
      const input = share && node.inputs[share.input];
      if (!input || kept.has(input.id)) return undefined;
      if (node.inputs.filter(({ id }) => id === input.id).length !== 1) return undefined;
      const block = blockOfTensor.get(input.id);
      // No reader after this node, and not taken over by another output of it.
      return block?.lastNode === position && !node.outputs.some(({ id }) => blockOfTensor.get(id) === block)
        ? block
        : undefined;
    }
  });

  const placed = placeBlocks(blocks, request.maxArenaElements);
  const placementOf = new Map<MutableBlock, Placement>();
  blocks.forEach((block, index) => {
    const placement = placed.placements[index];
    if (placement) placementOf.set(block, placement);
  });
  const lookUp = (block: MutableBlock, lengthElements: number): Placement => {
    const placement = placementOf.get(block);
    if (!placement) throw new EngineError('a block was not placed');
    return { ...placement, lengthElements };
  };
  const tensors = new Map<number, Placement>();
  for (const { outputs } of nodes) {
    for (const output of outputs) {
      const block = blockOfTensor.get(output.id);
      if (block) tensors.set(output.id, lookUp(block, wordCount(output)));
    }
  }
  return {
    tensors,
    scratch: blocksOfScratch.map((ofNode, position) =>
      ofNode.map((block, index) => lookUp(block, request.scratchElements[position]?.[index] ?? block.lengthElements)),
    ),
    arenaElements: placed.arenaElements,
    lowerBoundElements: lowerBound(blocks, nodes.length),
  };
}

function paddedElements(elements: number): number {
  return Math.max(1, Math.ceil(elements / alignmentElements)) * alignmentElements;
}

function lowerBound(blocks: readonly Block[], nodeCount: number): number {
  const change = new Float64Array(nodeCount + 1);
  for (const { firstNode, lastNode, lengthElements } of blocks) {
    change[firstNode] = (change[firstNode] ?? 0) + lengthElements;
    change[lastNode + 1] = (change[lastNode + 1] ?? 0) - lengthElements;
  }
  let alive = 0;
  let most = 0;
  for (const delta of change) {
    alive += delta;
    most = Math.max(most, alive);
  }
  return most;
}

/**
 * Offsets for blocks such that two blocks alive at the same node never overlap: largest first, each into the
 * tightest gap between the blocks that share its time, a further arena when one is full.
 */
export function placeBlocks(
  blocks: readonly Block[],
  maxArenaElements: number,
): { readonly placements: readonly Placement[]; readonly arenaElements: readonly number[] } {
  const order = blocks
    .map((block, index) => ({ block, index }))
    .sort((a, b) => b.block.lengthElements - a.block.lengthElements || a.index - b.index);
  const placements: Placement[] = [];
  const arenas: { readonly block: Block; readonly offset: number }[][] = [];
  const arenaElements: number[] = [];
  for (const { block, index } of order) {
    if (block.lengthElements > maxArenaElements) {
      throw new EngineError(
        `a tensor of ${block.lengthElements * 4} bytes is larger than a buffer here can be (${maxArenaElements * 4})`,
        { code: 'out-of-memory' },
      );
    }
    let arena = 0;
    let offset = gapIn(arenas[arena] ?? [], block);
    while (offset + block.lengthElements > maxArenaElements) offset = gapIn(arenas[++arena] ?? [], block);
    const occupants = arenas[arena] ?? [];
    occupants.push({ block, offset });
    occupants.sort((a, b) => a.offset - b.offset);
    arenas[arena] = occupants;
    arenaElements[arena] = Math.max(arenaElements[arena] ?? 0, offset + block.lengthElements);
    placements[index] = { arena, offsetElements: offset, lengthElements: block.lengthElements };
  }
  return { placements, arenaElements };
}

/** Offset of the tightest gap, or of the end of what is occupied during the block's life. */
function gapIn(occupants: readonly { readonly block: Block; readonly offset: number }[], block: Block): number {
  let best = -1;
  let bestLength = Infinity;
  let end = 0;
  for (const other of occupants) {
    if (other.block.firstNode > block.lastNode || other.block.lastNode < block.firstNode) continue;
    const gap = other.offset - end;
    if (gap >= block.lengthElements && gap < bestLength) {
      best = end;
      bestLength = gap;
    }
    end = Math.max(end, other.offset + other.block.lengthElements);
  }
  return best >= 0 ? best : end;
}
