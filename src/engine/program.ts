/**
 * A graph compiled to a static list of dispatches: lowered, planned, bound once, replayed with one submit per run.
 * Values that change between runs are inputs; nothing is allocated or looked up while it runs.
 */
import type { CompileOptions, DirectDispatch, DispatchTiming, Engine, Memory, Program, ProgramStats, Region } from './engine.ts';
import { EngineError, invariant } from './errors.ts';
import { elementCount, wordCount } from './graph.ts';
import { widenHalves } from './half.ts';
import type { Graph, GraphNode } from './graph.ts';
import { submitDispatches } from './kernels.ts';
import type { KernelCache, ReadyDispatch } from './kernels.ts';
import { alignmentElements } from './layout.ts';
import { regionOf, sliceOf } from './memory.ts';
import type { AdapterProfile, BindingRef, Dispatch, Lowering, Tensor } from './op.ts';
import { liveNodes, planMemory } from './planner.ts';
import type { MemoryPlan } from './planner.ts';
import { timeDispatches } from './timing.ts';
import { bindingsOf, canMerge, specialise } from './wgsl.ts';

/** What a program needs of the engine that compiles it. */
export interface ProgramHost
  extends Pick<Engine, 'allocate' | 'clear' | 'counters' | 'device' | 'profile' | 'read' | 'release' | 'write'> {
  readonly kernels: KernelCache;
  /** Memory for values that don't outlive a run: programs run one after another, so they share it. */
  arena(index: number, lengthElements: number): Region;
}

interface Planned {
  readonly nodes: readonly GraphNode[];
  /** By node. */
  readonly lowerings: readonly Lowering[];
  readonly plan: MemoryPlan;
}

/** Everything that is decided without a GPU: which nodes run, as which dispatches, and where their values lie. */
function planGraph(profile: AdapterProfile, graph: Graph, outputs: CompileOptions['outputs']): Planned {
  const kept = new Set([...(outputs?.values() ?? [])].map(({ id }) => id));
  for (const [name, { id }] of outputs ?? []) {
    invariant(!graph.accumulations.has(id), () => `output ${name} is accumulated, so it has no value of its own to read`);
  }
  const nodes = liveNodes(graph, kept);
  const lowerings = nodes.map((node) => lowerNode(profile, graph, node));
  const constants = [...graph.constants.values()].map(({ tensor }) => tensor);
  const persistent = [...graph.parameters.values(), ...graph.inputs.values(), ...constants].map(({ id }) => id);
  const plan = planMemory({
    nodes,
    scratchElements: lowerings.map(({ scratchElements }) => scratchElements ?? []),
    shares: nodes.map((node, position) => inPlaceShares(node, lowerings[position], graph)),
    kept,
    // Outputs have memory of their own: another program may run before they are read.
    elsewhere: new Set([...persistent, ...graph.accumulations.keys(), ...graph.stateOf.keys(), ...kept]),
    maxArenaElements: Math.floor(profile.maxBufferBytes / 4 / alignmentElements) * alignmentElements,
  });
  return { nodes, lowerings, plan };
}

/** What the activations of a graph take on an adapter. */
export function activationBytes(profile: AdapterProfile, graph: Graph): number {
  return arenaBytesOf(planGraph(profile, graph, undefined).plan);
}

function arenaBytesOf({ arenaElements }: MemoryPlan): number {
  return arenaElements.reduce((sum, elements) => sum + elements * 4, 0);
}

export async function compileProgram(host: ProgramHost, graph: Graph, options: CompileOptions): Promise<Program> {
  const { nodes, lowerings, plan } = planGraph(host.profile, graph, options.outputs);
  const memory = ownMemory(host);
  const inputs = allocateTogether(memory, 'inputs', graph.inputs);
  const regions = persistentRegions(memory, graph, nodes, options);
  for (const [name, tensor] of graph.inputs) regions.set(tensor.id, regionNamed(inputs, name));
  const computed = new Map([...(options.outputs ?? [])].filter(([, { id }]) => !regions.has(id)));
  const outputMemory = allocateTogether(memory, 'outputs', computed);
  for (const [name, { id }] of computed) regions.set(id, regionNamed(outputMemory, name));
  const arenas = plan.arenaElements.map((elements, index) => host.arena(index, elements));
  const inArena = (place: { arena: number; offsetElements: number; lengthElements: number } | undefined): Region => {
    const arena = place && arenas[place.arena];
    invariant(arena !== undefined, () => 'a tensor is used before it is computed');
    return { buffer: arena.buffer, offsetElements: place?.offsetElements ?? 0, lengthElements: place?.lengthElements ?? 0 };
  };
  for (const [id, place] of plan.tensors) regions.set(id, inArena(place));

  const uniforms = uniformRegions(memory, lowerings.flatMap(({ dispatches: all }) => all));
  const requests = nodes.flatMap((node, position) => {
    const locate = (ref: BindingRef): Region => {
      const tensor = (ref.kind === 'output' ? node.outputs : node.inputs)[ref.index];
      const place = ref.kind === 'scratch' ? inArena(plan.scratch[position]?.[ref.index]) : tensor && regions.get(tensor.id);
      invariant(place !== undefined, () => `${node.op.name}: ${ref.kind} ${ref.index} has no memory`);
      return regionOf(place, ref.offsetElements, ref.lengthElements);
    };
    return (lowerings[position]?.dispatches ?? []).map((dispatch): DirectDispatch => directDispatch(dispatch, locate, uniforms));
  });
  const dispatches = await Promise.all(requests.map((request) => host.kernels.prepare(request)));
  const outputs = new Map(
    [...(options.outputs ?? [])].flatMap(([name, tensor]) => {
      const place = regions.get(tensor.id);
      return place ? [[name, { tensor, memory: place }] as const] : [];
    }),
  );
  const stats = {
    dispatchesPerRun: dispatches.length,
    arenaBytes: arenaBytesOf(plan),
    arenaLowerBoundBytes: plan.lowerBoundElements * 4,
  };
  return new GpuProgram(host, dispatches, inputs, outputs, stats, memory.owned);
}

/** What a program allocates through, so that it can give it back. */
type OwnMemory = Pick<Engine, 'allocate' | 'write'>;

function ownMemory(host: ProgramHost): OwnMemory & { readonly owned: readonly Region[] } {
  const owned: Region[] = [];
  return {
    owned,
    allocate(label, lengthElements) {
      const region = host.allocate(label, lengthElements);
      owned.push(region);
      return region;
    },
    write: (memory, data, offsetElements) => {
      host.write(memory, data, offsetElements);
    },
  };
}

interface ProgramOutput {
  readonly tensor: Tensor;
  readonly memory: Memory;
}

class GpuProgram implements Program {
  readonly stats: ProgramStats;
  readonly #host: ProgramHost;
  readonly #dispatches: readonly ReadyDispatch[];
  readonly #inputs: ReadonlyMap<string, Region>;
  readonly #outputs: ReadonlyMap<string, ProgramOutput>;
  readonly #owned: readonly Region[];

  constructor(
    host: ProgramHost,
    dispatches: readonly ReadyDispatch[],
    inputs: ReadonlyMap<string, Region>,
    outputs: ReadonlyMap<string, ProgramOutput>,
    stats: ProgramStats,
    owned: readonly Region[],
  ) {
    this.#owned = owned;
    this.#host = host;
    this.#dispatches = dispatches;
    this.#inputs = inputs;
    this.#outputs = outputs;
    this.stats = stats;
  }

  setInput(name: string, data: Float32Array | Uint32Array): void {
    const region = regionNamed(this.#inputs, name);
    invariant(data.length === region.lengthElements, () => `input ${name} has ${data.length} elements, not ${region.lengthElements}`);
    this.#host.write(region, data);
  }

  run(): void {
    submitDispatches(this.#host.device, this.#host.counters, 'program', this.#dispatches);
  }

  timings(): Promise<readonly DispatchTiming[]> {
    return timeDispatches(this.#host.device, this.#dispatches);
  }

  release(): void {
    this.#host.release(...this.#owned);
  }

  async readOutput(name: string): Promise<Float32Array> {
    const output = this.#outputs.get(name);
    if (!output) throw new EngineError(`the program has no output ${name}`);
    const bytes = await this.#host.read(output.memory);
    return output.tensor.dtype === 'f16' ? widenHalves(new Uint16Array(bytes, 0, elementCount(output.tensor.shape))) : new Float32Array(bytes);
  }
}

function lowerNode(adapter: AdapterProfile, graph: Graph, node: GraphNode): Lowering {
  const accumulate = node.outputs.map(({ id }) => graph.accumulations.has(id));
  accumulate.forEach((wanted, index) => {
    invariant(!wanted || node.op.accumulates?.[index] === true, () => `${node.op.name} can't accumulate output ${index}`);
  });
  const { inputs, outputs, attrs } = node;
  return node.op.lower({ inputs, outputs, attrs, accumulate, adapter });
}

/** Regions of everything that outlives a run, by tensor id: parameters, states, constants, gradients and totals. */
function persistentRegions(
  own: OwnMemory,
  graph: Graph,
  nodes: readonly GraphNode[],
  options: CompileOptions,
): Map<number, Memory> {
  const regions = new Map<number, Memory>();
  const inLayout = (memory: Memory, name: string, tensor: Tensor): Memory => {
    const entry = options.layout.byName.get(name);
    invariant(
      entry?.lengthElements === wordCount(tensor),
      () => `parameter ${name} [${tensor.shape.join()}] is not in the layout with that size`,
    );
    return { parts: sliceOf(memory, entry.offsetElements, entry.lengthElements), lengthElements: entry.lengthElements };
  };
  for (const [name, tensor] of graph.parameters) regions.set(tensor.id, inLayout(options.parameters, name, tensor));
  for (const [id, name] of graph.stateOf) {
    const region = options.states?.get(name);
    const state = graph.states.get(name);
    invariant(region !== undefined && state !== undefined && region.lengthElements === wordCount(state), () => `no region of that size for the state ${name}`);
    regions.set(id, region);
  }
  const constants = allocateTogether(
    own,
    'constants',
    new Map([...graph.constants].map(([key, { tensor }]) => [key, tensor])),
  );
  for (const [key, { tensor, values }] of graph.constants) {
    const region = regionNamed(constants, key);
    own.write(region, Float32Array.from(values));
    regions.set(tensor.id, region);
  }
  for (const tensor of nodes.flatMap(({ outputs }) => outputs)) {
    const target = graph.accumulations.get(tensor.id);
    if (!target) continue;
    const { kind, name } = target;
    if (kind === 'gradient') {
      const { gradients } = options;
      if (!gradients) throw new EngineError(`the graph has gradients (${name}) but no region for them is given`);
      regions.set(tensor.id, inLayout(gradients, name, tensor));
    } else {
      const total = options.totals?.get(name);
      invariant(total?.lengthElements === wordCount(tensor), () => `no region of that size for the total ${name}`);
      regions.set(tensor.id, total);
    }
  }
  return regions;
}

/** One buffer with an aligned region for each tensor. */
function allocateTogether(host: OwnMemory, label: string, tensors: ReadonlyMap<string, Tensor>): Map<string, Region> {
  let total = 0;
  const offsets = [...tensors].map(([name, tensor]) => {
    const offsetElements = total;
    const lengthElements = wordCount(tensor);
    total += Math.ceil(lengthElements / alignmentElements) * alignmentElements;
    return { name, offsetElements, lengthElements };
  });
  if (total === 0) return new Map();
  const { buffer } = host.allocate(label, total);
  return new Map(offsets.map(({ name, offsetElements, lengthElements }) => [name, { buffer, offsetElements, lengthElements }]));
}

function regionNamed(regions: ReadonlyMap<string, Region>, name: string): Region {
  const region = regions.get(name);
  if (!region) throw new EngineError(`the program has no input ${name}`);
  return region;
}

/** Every uniform that the dispatches want, in one buffer, by its contents: equal ones are shared. */
export function uniformRegions(host: OwnMemory, dispatches: readonly Dispatch[]): ReadonlyMap<string, Region> {
  const distinct = new Map(dispatches.flatMap(({ uniform }) => (uniform ? [[uniform.join(), uniform] as const] : [])));
  if (distinct.size === 0) return new Map();
  const memory = host.allocate('uniforms', distinct.size * alignmentElements);
  return new Map(
    [...distinct].map(([key, words], index) => {
      invariant(words.length <= alignmentElements, () => `a uniform of ${words.length} words; there is room for ${alignmentElements}`);
      const region = { ...memory, offsetElements: index * alignmentElements, lengthElements: alignmentElements };
      host.write(region, Uint32Array.from(words));
      return [key, region];
    }),
  );
}

/** A dispatch whose bindings have found their regions; its uniform comes from `uniformRegions`. */
export function directDispatch(
  dispatch: Dispatch,
  locate: (ref: BindingRef) => Region,
  uniforms: ReadonlyMap<string, Region>,
): DirectDispatch {
  const { bindings, uniform, ...rest } = dispatch;
  const sizes = uniform && uniforms.get(uniform.join());
  return { ...rest, bindings: [...bindings.map(locate), ...(sizes ? [sizes] : [])] };
}

/** In-place pairs that the op allows and whose shader can be merged: one dispatch that binds both as a whole. */
function inPlaceShares(node: GraphNode, lowering: Lowering | undefined, graph: Graph): { output: number; input: number }[] {
  const dispatch = lowering?.dispatches[0];
  if (!node.op.inPlace || !dispatch || lowering.dispatches.length !== 1) return [];
  const source = specialise(dispatch.shader, dispatch.constants);
  const declarations = bindingsOf(source, dispatch.entryPoint);
  const declarationOf = (kind: BindingRef['kind'], index: number) => {
    const bound = dispatch.bindings.flatMap((ref, binding) => (ref.kind === kind && ref.index === index ? [{ ref, binding }] : []));
    const [only, another] = bound;
    if (!only || another || only.ref.offsetElements !== undefined || only.ref.lengthElements !== undefined) return undefined;
    return declarations.find(({ binding }) => binding === only.binding);
  };
  return node.op.inPlace.flatMap((input, output) => {
    const outputTensor = node.outputs[output];
    if (input === null || !outputTensor || graph.accumulations.has(outputTensor.id)) return [];
    const reader = declarationOf('input', input);
    const writer = declarationOf('output', output);
    return reader && writer && canMerge(source, reader, writer) ? [{ output, input }] : [];
  });
}
