/**
 * One reply's work on the GPU: the cache of keys and values, the programs that extend it, and when it is made anew. What is
 * drawn from the logits is `sampling.ts`'s affair.
 */
import type { Engine, FlatMemory, Memory, ParameterLayout, Program } from '../engine/index.ts';
import { elementCount, partsOf } from '../engine/index.ts';
import { decodeGraph } from '../model/decoder.ts';
import { cacheShapes } from '../model/parameters.ts';
import type { DecoderConfig } from '../model/types.ts';

/** What a reply is computed on. */
export interface DecodingMachine {
  readonly engine: Engine;
  readonly model: DecoderConfig;
  readonly layout: ParameterLayout;
  readonly weights: Memory;
  /** Most tokens that one is predicted from. */
  readonly contextLength: number;
  /** Changes whenever the weights do. */
  readonly revision: () => number;
  /**
   * Asked before every run of so many tokens; what it gives is called when the run has ended. Rejects when there can be no more; may
   * take its time, which leaves the GPU to others.
   */
  readonly turn: (length: number) => Promise<() => void>;
}

/**
 * Lengths in which a prompt is computed, so that three sets of pipelines serve all prompts. From `longFrom` tokens on the long
 * one wastes less than half.
 */
const longChunk = 128;
const longFrom = 65;
const shortChunk = 16;

function chunkLength(remaining: number): number {
  if (remaining === 1) return 1;
  return remaining >= longFrom ? longChunk : shortChunk;
}

/**
 * While the weights change under a reply, its cache is made anew once as many tokens were drawn as this share of what it holds:
 * that costs about as much again as the tokens themselves (chunks of 128 take a few times as long as one token).
 */
const renewedShare = 1 / 16;

/** Positions that a cache can have: a layer's keys fit one binding and one buffer. */
export function cacheCapacity({ engine: { profile }, model, contextLength }: Pick<DecodingMachine, 'engine' | 'model' | 'contextLength'>): number {
  const bytesPerPosition = 4 * model.num_key_value_heads * model.head_dim;
  const mostBytes = Math.min(profile.maxStorageBufferBindingBytes, profile.maxBufferBytes);
  return Math.max(1, Math.min(contextLength, Math.floor(mostBytes / bytesPerPosition)));
}

/** Gives the logits of the next token, reusing what it computed for the tokens before. Must be closed. */
export class Decoding {
  readonly capacity: number;
  readonly #machine: DecodingMachine;
  readonly #memory: FlatMemory;
  readonly #programs = new Map<number, Promise<Program>>();
  /** The tokens whose keys and values are in the cache: `ids[start]` up to but not including `ids[start + held]`. */
  #start = 0;
  #held = 0;
  #revision: number;
  /** Tokens since the weights that the cache began with. */
  #sinceRenewed = 0;

  private constructor(machine: DecodingMachine, capacity: number, memory: FlatMemory) {
    this.#machine = machine;
    this.capacity = capacity;
    this.#memory = memory;
    this.#revision = machine.revision();
  }

  /** Throws `EngineError` of code `out-of-memory` where there is no memory for the cache. */
  static async open(machine: DecodingMachine): Promise<Decoding> {
    const capacity = cacheCapacity(machine);
    const lengths = [...cacheShapes(machine.model, capacity).values()].map(elementCount);
    return new Decoding(machine, capacity, await machine.engine.allocateSpare('cache', lengths));
  }

  /**
   * Logits [vocabulary] of the token that follows `ids`, seen from `start` on, which counts as the first position. `ids` must go on
   * from what they were at the last call; a new `start` begins anew.
   */
  async logitsAfter(ids: readonly number[], start: number): Promise<Float32Array> {
    if (start !== this.#start || this.#isStale()) this.#forget(start);
    this.#sinceRenewed++;
    for (;;) {
      const remaining = ids.length - start - this.#held;
      const length = chunkLength(remaining);
      const program = await this.#program(length);
      const ended = await this.#machine.turn(length);
      const count = Math.min(length, remaining);
      const from = start + this.#held;
      this.#run(program, length, ids.slice(from, from + count));
      // Read even where it is not wanted: one run at a time leaves the GPU to others in between.
      const logits = await program.readOutput('logits');
      ended();
      if (count === remaining) return logits;
    }
  }

  /** Frees its memory. Nothing may be under way. */
  async close(): Promise<void> {
    const { engine } = this.#machine;
    for (const program of await Promise.allSettled(this.#programs.values())) if (program.status === 'fulfilled') program.value.release();
    engine.release(this.#memory);
  }

  #run(program: Program, length: number, ids: readonly number[]): void {
    const padded = new Uint32Array(length);
    padded.set(ids);
    const lastPosition = this.capacity - 1;
    program.setInput('ids', padded);
    program.setInput('positions', Uint32Array.from({ length }, (_, index) => Math.min(this.#held + index, lastPosition)));
    program.setInput('span', Uint32Array.of(this.#held, ids.length));
    program.setInput('last', Uint32Array.of(ids.length - 1));
    program.run();
    this.#held += ids.length;
  }

  #isStale(): boolean {
    return this.#machine.revision() !== this.#revision && this.#sinceRenewed >= this.#held * renewedShare;
  }

  #forget(start: number): void {
    this.#start = start;
    this.#held = 0;
    this.#sinceRenewed = 0;
    this.#revision = this.#machine.revision();
  }

  #program(length: number): Promise<Program> {
    const known = this.#programs.get(length);
    if (known) return known;
    const { engine, model, layout, weights } = this.#machine;
    const { graph, logits } = decodeGraph(model, length, this.capacity);
    const regions = partsOf(this.#memory);
    const states = new Map([...graph.states.keys()].flatMap((name, index) => {
      const region = regions[index];
      return region ? [[name, region] as const] : [];
    }));
    const compiled = engine.compile(graph, { parameters: weights, layout, states, outputs: new Map([['logits', logits]]) });
    this.#programs.set(length, compiled);
    return compiled;
  }
}
