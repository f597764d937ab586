/**
 * A graph run once with every value kept, to find out which op went wrong: the first that gave a number that is none, or
 * how far each kernel is from its op's meaning in f64. For trouble and tests; it takes the memory of all activations.
 */
import type { CompileOptions, Engine } from './engine.ts';
import { invariant } from './errors.ts';
import { elementCount } from './graph.ts';
import type { Graph, GraphNode } from './graph.ts';
import { sliceOf } from './memory.ts';
import type { ReferenceArray, Tensor } from './op.ts';

export type HostInputs = ReadonlyMap<string, Float32Array | Uint32Array>;

export interface InspectedNode {
  readonly op: string;
  /** The parameters it reads, which say where in the model it stands. */
  readonly parameters: readonly string[];
  /** How many elements of its outputs are infinite or not a number. */
  readonly nonFinite: number;
  /** By output: ‖GPU − reference‖ / ‖reference‖ for the inputs that the GPU had; empty unless asked for. */
  readonly errors: readonly number[];
}

/** Runs the graph on some inputs and yields what each node gives, in the order they run. */
export type Inspection = (inputs: HostInputs) => AsyncGenerator<InspectedNode>;

/**
 * Outputs that are accumulated have no value of their own and are left out. The regions of gradients and totals hold
 * garbage after an inspection. Memory for every value is taken until the engine is destroyed.
 */
export async function compileInspection(
  engine: Engine,
  graph: Graph,
  options: Omit<CompileOptions, 'outputs'>,
  { compares }: { readonly compares: boolean },
): Promise<Inspection> {
  const kept = graph.nodes.flatMap(({ outputs }) => outputs).filter(({ id }) => !graph.accumulations.has(id));
  const program = await engine.compile(graph, { ...options, outputs: new Map(kept.map((tensor) => [String(tensor.id), tensor])) });
  const parameterNames = new Map([...graph.parameters].map(([name, { id }]) => [id, name]));

  return async function* inspect(inputs) {
    for (const [name, data] of inputs) program.setInput(name, data);
    program.run();
    const values = new Map<number, ReferenceArray>();
    for (const [name, { id }] of graph.inputs) values.set(id, Float64Array.from(inputs.get(name) ?? []));
    for (const { tensor, values: table } of graph.constants.values()) values.set(tensor.id, table.map(Math.fround));
    const valueOf = async (tensor: Tensor): Promise<ReferenceArray> => {
      const known = values.get(tensor.id);
      if (known) return known;
      const parameter = parameterNames.get(tensor.id);
      const bits = parameter === undefined ? await program.readOutput(String(tensor.id)) : await readParameter(engine, options, parameter);
      const value = Float64Array.from(tensor.dtype === 'u32' ? new Uint32Array(bits.buffer) : bits);
      invariant(value.length === elementCount(tensor.shape), () => `${tensor.name} has ${value.length} elements`);
      values.set(tensor.id, value);
      return value;
    };
    for (const node of graph.nodes) {
      const parameters = node.inputs.flatMap(({ id }) => parameterNames.get(id) ?? []);
      yield { op: node.op.name, parameters, ...(await inspectNode(graph, node, valueOf, compares)) };
    }
  };
}

async function inspectNode(
  graph: Graph,
  { op, inputs, outputs, attrs }: GraphNode,
  valueOf: (tensor: Tensor) => Promise<ReferenceArray>,
  compares: boolean,
): Promise<Pick<InspectedNode, 'nonFinite' | 'errors'>> {
  const given: ReferenceArray[] = [];
  if (compares) for (const input of inputs) given.push(await valueOf(input));
  const expected = compares ? op.reference(given, attrs, { inputs, outputs }) : [];
  let nonFinite = 0;
  const errors: number[] = [];
  for (const [index, output] of outputs.entries()) {
    if (graph.accumulations.has(output.id)) continue;
    const actual = await valueOf(output);
    nonFinite += actual.reduce((count, value) => count + Number(!Number.isFinite(value)), 0);
    if (compares) errors.push(relativeError(actual, expected[index] ?? new Float64Array(0)));
  }
  return { nonFinite, errors };
}

function relativeError(actual: ReferenceArray, expected: ReferenceArray): number {
  let difference = 0;
  let size = 0;
  for (const [index, value] of actual.entries()) {
    difference += (value - (expected[index] ?? 0)) ** 2;
    size += (expected[index] ?? 0) ** 2;
  }
  return Math.sqrt(size > 0 ? difference / size : difference);
}

async function readParameter(engine: Engine, { layout, parameters }: Omit<CompileOptions, 'outputs'>, name: string): Promise<Float32Array> {
  const entry = layout.byName.get(name);
  invariant(entry !== undefined, () => `parameter ${name} is not in the layout`);
  const { offsetElements, lengthElements } = entry;
  const parts = sliceOf(parameters, offsetElements, lengthElements);
  return new Float32Array(await engine.read({ parts, lengthElements }));
}
