/**
 * Llama and Qwen3 decoders as graphs: RMSNorm, rotary embedding, grouped-query causal attention (with normed queries and
 * keys in Qwen3), SwiGLU, tied or untied head. Only what is computed: gradients are the engine's, weights come by name.
 */
import { Graph, valueAndGrad } from '../engine/index.ts';
import type { FloatType, Tensor } from '../engine/index.ts';
import { attention } from '../engine/ops/attention.ts';
import { cacheWrite, cachedAttention } from '../engine/ops/cached-attention.ts';
import { cast } from '../engine/ops/cast.ts';
import { dropout } from '../engine/ops/dropout.ts';
import { embedding } from '../engine/ops/embedding.ts';
import { linearCrossEntropy } from '../engine/ops/linear-cross-entropy.ts';
import { linear } from '../engine/ops/matmul.ts';
import { rmsNorm } from '../engine/ops/rms-norm.ts';
import { rope, ropeAngles, ropeBy } from '../engine/ops/rope.ts';
import { swiglu } from '../engine/ops/swiglu.ts';
import { add } from '../engine/ops/elementwise.ts';
import { nothingFrozen } from './frozen.ts';
import type { Frozen } from './frozen.ts';
import { cacheNames, embeddingName, finalNormName, frozenNames, headName, layerNames, parameterShapes } from './parameters.ts';
import type { DecoderConfig } from './types.ts';

export interface GraphOptions {
  /**
   * Rows are packed with documents that don't see each other, which needs one input more: `documentStarts` u32 [N], for each
   * position the place in its row where its document starts. Rotary positions go on through a row: only differences count.
   */
  readonly documents?: boolean;
}

export interface TrainingOptions extends GraphOptions {
  /** Keep only what enters each layer and compute the rest again on the way back: less memory, a forward pass more. */
  readonly recomputesLayers?: boolean;
  /** Default `f32`. */
  readonly precision?: Precision;
  /** Share of each target that is spread evenly over the vocabulary, in the loss too. Default 0. */
  readonly labelSmoothing?: number;
  /** Default: nothing. */
  readonly frozen?: Frozen;
}

/**
 * `mixed`: copies of weights, activations and their gradients are f16; weights, the residual stream, sums, norms, softmax
 * and loss stay f32 (Micikevicius et al., Mixed Precision Training, 2018). Small gradients vanish in f16, so loss weights
 * should come scaled up, and the sums be scaled down.
 */
export type Precision = 'f32' | 'mixed';

/** Every graph adds its loss here. */
const lossTotal = 'loss';

/**
 * One micro-batch forward and backward. Inputs, with N = rows · contextLength: `ids` u32 [N], `targets` u32 [N],
 * `lossWeights` f32 [N], `seed` u32 [4] (dropout's: run seed, step, micro-batch, 0; not read when dropout is 0). A run adds
 * the weighted sum of losses to the total `loss` and gradients of that sum to the gradient of every parameter that is not frozen.
 */
export function trainingGraph(config: DecoderConfig, rows: number, contextLength: number, options: TrainingOptions = {}): Graph {
  const graph = new Graph({ differentiates: true });
  const decoder = new DecoderTrace(graph, config, rows, contextLength, options);
  const seed = graph.input('seed', [4], 'u32');
  valueAndGrad(graph, decoder.loss(seed), lossTotal, frozenNames(config, options.frozen ?? nothingFrozen));
  return graph;
}

/** The same inputs but `seed`, and no gradients, dropout or label smoothing: a run adds the weighted sum of losses to the total `loss`. */
export function evaluationGraph(config: DecoderConfig, rows: number, contextLength: number, options: GraphOptions = {}): Graph {
  const graph = new Graph({ differentiates: false });
  const decoder = new DecoderTrace(graph, config, rows, contextLength, options);
  graph.accumulate(decoder.loss(null), { kind: 'total', name: lossTotal });
  return graph;
}

/**
 * What follows one position of each row, for sampling. Inputs: `ids` u32 [rows · length] and `position` u32 [rows],
 * counted through all rows (row · length + place in the row). `logits` is f32 [rows, vocabulary].
 */
export function logitsGraph(config: DecoderConfig, rows: number, length: number): { readonly graph: Graph; readonly logits: Tensor } {
  const graph = new Graph({ differentiates: false });
  const decoder = new DecoderTrace(graph, config, rows, length);
  const hidden = decoder.hidden(null);
  // Picking rows of a matrix is what an embedding does.
  const last = embedding(graph, graph.input('position', [rows], 'u32'), hidden);
  return { graph, logits: linear(graph, last, decoder.head()) };
}

/**
 * `length` tokens behind those that a cache of `capacity` positions holds, whose keys and values it keeps (`cacheShapes`). Inputs:
 * `ids` u32 [length]; `positions` u32 [length], below the capacity; `span` u32 [2], how many positions the cache holds and how
 * many of these tokens count, for the last ones may be padding; `last` u32 [1], which of them `logits` f32 [1, vocabulary] is
 * wanted for. Everything that changes from token to token is data: one program decodes at every position.
 */
export function decodeGraph(config: DecoderConfig, length: number, capacity: number): { readonly graph: Graph; readonly logits: Tensor } {
  const graph = new Graph({ differentiates: false });
  const decoder = new DecoderTrace(graph, config, 1, length, {}, capacity);
  const hidden = decoder.hidden(null);
  const last = embedding(graph, graph.input('last', [1], 'u32'), hidden);
  return { graph, logits: linear(graph, last, decoder.head()) };
}

/** What the layers of a decode graph share. */
interface Decoding {
  readonly capacity: number;
  readonly span: Tensor;
  /** Of the rotary embedding, at the tokens' positions. */
  readonly turns: Tensor;
}

class DecoderTrace {
  readonly #graph: Graph;
  readonly #config: DecoderConfig;
  readonly #rows: number;
  readonly #length: number;
  readonly #shapes: ReadonlyMap<string, readonly number[]>;
  readonly #recomputesLayers: boolean;
  readonly #labelSmoothing: number;
  readonly #hasFrozenHead: boolean;
  /** What activations and the weights that they meet are stored as. */
  readonly #stored: FloatType;
  /** [rows, length] */
  readonly #documentStarts: Tensor | undefined;
  /** Null where attention is over what the graph computes itself. */
  readonly #decoding: Decoding | null;
  /** Counts the places where dropout is applied, so that no two share a mask. */
  #dropoutSites = 0;

  constructor(graph: Graph, config: DecoderConfig, rows: number, length: number, options: TrainingOptions = {}, cacheCapacity: number | null = null) {
    this.#recomputesLayers = options.recomputesLayers ?? false;
    this.#labelSmoothing = options.labelSmoothing ?? 0;
    this.#hasFrozenHead = config.tie_word_embeddings && options.frozen?.embeddings === true;
    this.#stored = options.precision === 'mixed' ? 'f16' : 'f32';
    const starts = options.documents === true ? graph.input('documentStarts', [rows * length], 'u32') : undefined;
    this.#documentStarts = starts && graph.reshape(starts, [rows, length]);
    this.#graph = graph;
    this.#config = config;
    this.#rows = rows;
    this.#length = length;
    this.#shapes = new Map(parameterShapes(config));
    this.#decoding = cacheCapacity === null ? null : this.#decodingIn(cacheCapacity);
  }

  #decodingIn(capacity: number): Decoding {
    const { head_dim: headSize, rope_theta: theta } = this.#config;
    const positions = this.#graph.input('positions', [this.#length], 'u32');
    return {
      capacity,
      span: this.#graph.input('span', [2], 'u32'),
      turns: ropeAngles(this.#graph, positions, capacity, headSize, theta),
    };
  }

  /** Weighted sum of losses [1]. */
  loss(seed: Tensor | null): Tensor {
    const positions = this.#rows * this.#length;
    const hidden = this.hidden(seed);
    const targets = this.#graph.input('targets', [positions], 'u32');
    const lossWeights = this.#graph.input('lossWeights', [positions], 'f32');
    const options = { labelSmoothing: this.#labelSmoothing, isWeightFrozen: this.#hasFrozenHead };
    return linearCrossEntropy(this.#graph, hidden, this.head(), targets, lossWeights, options);
  }

  /** What the head reads: [rows · length, hidden]. */
  hidden(seed: Tensor | null): Tensor {
    const ids = this.#graph.input('ids', [this.#rows * this.#length], 'u32');
    let stream = this.#drop(embedding(this.#graph, ids, this.#weight(embeddingName)), seed);
    const layers = this.#config.num_hidden_layers;
    for (let layer = 0; layer < layers; layer++) {
      const enter = stream;
      const build = (): Tensor => this.#feedForward(this.#attend(enter, layer, seed), layer, seed);
      // The backward pass starts with the last layer: what it needs may as well stay.
      stream = this.#recomputesLayers && layer < layers - 1 ? this.#graph.recomputed(build) : build();
    }
    return this.#norm(stream, finalNormName);
  }

  /** [vocabulary, hidden] */
  head(): Tensor {
    return this.#matrix(this.#config.tie_word_embeddings ? embeddingName : headName);
  }

  #attend(stream: Tensor, layer: number, seed: Tensor | null): Tensor {
    const names = layerNames(layer);
    const { num_attention_heads: heads, num_key_value_heads: keyHeads, rope_theta: theta } = this.#config;
    const normed = this.#norm(stream, names.inputNorm);
    let query = this.#heads(this.#project(normed, names.query), heads);
    let key = this.#heads(this.#project(normed, names.key), keyHeads);
    const value = this.#heads(this.#project(normed, names.value), keyHeads);
    if (this.#config.model_type === 'qwen3') {
      query = this.#norm(query, names.queryNorm);
      key = this.#norm(key, names.keyNorm);
    }
    const mixed =
      this.#decoding === null
        ? attention(this.#graph, rope(this.#graph, query, theta), rope(this.#graph, key, theta), value, this.#documentStarts)
        : this.#attendToCache(this.#decoding, layer, query, key, value);
    const flat = this.#graph.reshape(mixed, [this.#rows * this.#length, heads * this.#config.head_dim]);
    return this.#addTo(stream, flat, names.output, seed);
  }

  #attendToCache({ capacity, span, turns }: Decoding, layer: number, query: Tensor, key: Tensor, value: Tensor): Tensor {
    const names = cacheNames(layer);
    const shape = [capacity, this.#config.num_key_value_heads, this.#config.head_dim];
    const before = { keys: this.#graph.state(names.keys, shape), values: this.#graph.state(names.values, shape) };
    const cache = cacheWrite(this.#graph, before, ropeBy(this.#graph, key, turns), value, span);
    return cachedAttention(this.#graph, ropeBy(this.#graph, query, turns), cache, span);
  }

  #feedForward(stream: Tensor, layer: number, seed: Tensor | null): Tensor {
    const names = layerNames(layer);
    const normed = this.#norm(stream, names.feedForwardNorm);
    const inner = swiglu(this.#graph, this.#project(normed, names.gate), this.#project(normed, names.up));
    return this.#addTo(stream, inner, names.down, seed);
  }

  /** stream + dropout(x · weightᵀ); in one kernel where nothing is dropped. */
  #addTo(stream: Tensor, x: Tensor, name: string, seed: Tensor | null): Tensor {
    if (!this.#drops(seed)) return linear(this.#graph, x, this.#matrix(name), stream);
    return add(this.#graph, stream, this.#drop(linear(this.#graph, x, this.#matrix(name), undefined, 'f32'), seed));
  }

  #drops(seed: Tensor | null): seed is Tensor {
    return seed !== null && this.#config.dropout > 0;
  }

  #drop(x: Tensor, seed: Tensor | null): Tensor {
    return this.#drops(seed) ? dropout(this.#graph, x, seed, this.#config.dropout, this.#dropoutSites++) : x;
  }

  #project(x: Tensor, name: string): Tensor {
    return linear(this.#graph, x, this.#matrix(name));
  }

  #norm(x: Tensor, name: string): Tensor {
    return rmsNorm(this.#graph, x, this.#weight(name), this.#config.rms_norm_eps, this.#stored);
  }

  /** [rows · length, heads · head size] seen as [rows, length, heads, head size]. */
  #heads(x: Tensor, heads: number): Tensor {
    return this.#graph.reshape(x, [this.#rows, this.#length, heads, this.#config.head_dim]);
  }

  /** A weight that a product reads. */
  #matrix(name: string): Tensor {
    return cast(this.#graph, this.#weight(name), this.#stored);
  }

  #weight(name: string): Tensor {
    const shape = this.#shapes.get(name);
    if (shape === undefined) throw new RangeError(`a ${this.#config.model_type} model has no ${name}`);
    return this.#graph.parameter(name, shape);
  }
}
