/**
 * Flat buffers on the GPU as bytes of a lossy codec: gradients, of which what was dropped stays with the sender and goes along with
 * the next ones, the way from a replica to the master weights, of which it stays between the two, or a sum, which is rounded to what is said of it.
 */
import type { Engine, Memory, Sequence } from '../engine/index.ts';
import { allocatePlanes, codecDispatches } from './planes.ts';
import type { LossyCodecName, Planes } from './planes.ts';
import type { RoundingCodecName } from './types.ts';

export class Compressor {
  readonly #engine: Engine;
  readonly #planes: Planes;
  readonly #sequence: Sequence;

  private constructor(engine: Engine, planes: Planes, sequence: Sequence) {
    this.#engine = engine;
    this.#planes = planes;
    this.#sequence = sequence;
  }

  /** Each encoding takes along what is in `residual`, and leaves there what it drops. */
  static ofGradients(engine: Engine, codec: LossyCodecName, gradients: Memory, residual: Memory): Promise<Compressor> {
    return Compressor.#create(engine, codec, { what: 'encode', flat: [gradients, residual] });
  }

  /** Each encoding takes the replica along, as `Expander` takes everybody else's. */
  static ofChange(engine: Engine, codec: LossyCodecName, master: Memory, replica: Memory): Promise<Compressor> {
    return Compressor.#create(engine, codec, { what: 'encode', flat: [master, replica], isChange: true });
  }

  /** Rounds a sum of gradients, dithered, to what its bytes say. */
  static ofSum(engine: Engine, codec: RoundingCodecName, sum: Memory): Promise<Compressor> {
    return Compressor.#create(engine, codec, { what: 'round', flat: [sum] });
  }

  static async #create(
    engine: Engine,
    codec: LossyCodecName,
    kernel: { readonly what: 'encode' | 'round'; readonly flat: readonly [Memory, ...Memory[]]; readonly isChange?: boolean },
  ): Promise<Compressor> {
    const { what, flat, isChange = false } = kernel;
    const planes = allocatePlanes(engine, codec, isChange ? 'encoded change' : 'encoded gradients', flat[0]);
    const dispatches = codecDispatches(engine, codec, { ...kernel, planes });
    return new Compressor(engine, planes, await engine.sequence(`${what} ${codec}`, dispatches));
  }

  /** Queues the encoding of what is there when everything queued before is done. */
  run(): void {
    this.#engine.clear(...this.#planes.cleared);
    this.#sequence.run();
  }

  /** What `run` made last. */
  async read(): Promise<ArrayBuffer> {
    const planes = await Promise.all(this.#planes.memories.map((memory) => this.#engine.read(memory)));
    const [only, ...more] = planes;
    return only !== undefined && more.length === 0 ? only : concatenated(planes);
  }
}

function concatenated(planes: readonly ArrayBuffer[]): ArrayBuffer {
  const bytes = new Uint8Array(planes.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let offset = 0;
  for (const plane of planes) {
    bytes.set(new Uint8Array(plane), offset);
    offset += plane.byteLength;
  }
  return bytes.buffer;
}
