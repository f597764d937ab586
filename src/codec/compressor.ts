/**
 * Flat buffers on the GPU as bytes of a lossy codec: gradients, of which what was dropped stays here and goes along with the next
 * ones, or the way from a replica to the master weights, of which it stays between the two.
 */
import shader from '../../shaders/codec.wgsl?raw';
import { partOf } from '../engine/index.ts';
import type { DirectDispatch, Engine, Memory, ParameterLayout, Sequence } from '../engine/index.ts';
import { allocatePlanes, kernelRanges } from './planes.ts';
import type { LossyCodecName, Planes } from './planes.ts';

export class Compressor {
  readonly #engine: Engine;
  readonly #planes: Planes;
  readonly #sequence: Sequence;
  /** Null where what is dropped is no memory of its own. */
  readonly #residual: Memory | null;

  private constructor(engine: Engine, planes: Planes, sequence: Sequence, residual: Memory | null) {
    this.#engine = engine;
    this.#planes = planes;
    this.#sequence = sequence;
    this.#residual = residual;
  }

  static ofGradients(engine: Engine, codec: LossyCodecName, layout: ParameterLayout, gradients: Memory): Promise<Compressor> {
    const residual = engine.allocateFlat('codec residual', layout);
    return Compressor.#create(engine, codec, { source: gradients, kept: residual, isChange: false }, residual);
  }

  /** Each encoding takes the replica along, as `Expander` takes everybody else's. */
  static ofChange(engine: Engine, codec: LossyCodecName, master: Memory, replica: Memory): Promise<Compressor> {
    return Compressor.#create(engine, codec, { source: master, kept: replica, isChange: true }, null);
  }

  static async #create(
    engine: Engine,
    codec: LossyCodecName,
    { source, kept, isChange }: { readonly source: Memory; readonly kept: Memory; readonly isChange: boolean },
    residual: Memory | null,
  ): Promise<Compressor> {
    const label = isChange ? 'encode change' : 'encode gradients';
    const planes = allocatePlanes(engine, codec, label, source);
    const [scales, values] = codec === 'int8' ? [planes[0], planes[1]] : [undefined, planes[0]];
    const dispatches = kernelRanges(engine, source).map(({ range, constants }): DirectDispatch => ({
      label: `${label} as ${codec}`,
      shader,
      entryPoint: codec === 'int8' ? 'encodeInt8' : 'encodeBf16',
      constants: { ...constants, CHANGE: isChange },
      bindings: [partOf(source, range), partOf(kept, range), ...[values, scales].flatMap((plane) => plane?.of(range) ?? [])],
      workgroups: range.workgroups,
    }));
    return new Compressor(engine, planes, await engine.sequence(label, dispatches), residual);
  }

  /** Queues the encoding of what is there when everything queued before is done. */
  run(): void {
    this.#engine.clear(...this.#planes.map(({ memory }) => memory));
    this.#sequence.run();
  }

  /** What `run` made last. */
  async read(): Promise<ArrayBuffer> {
    const planes = await Promise.all(this.#planes.map(({ memory }) => this.#engine.read(memory)));
    const [only, ...more] = planes;
    return only !== undefined && more.length === 0 ? only : concatenated(planes);
  }

  /** What was dropped belongs to gradients that nobody waits for any more. */
  forget(): void {
    if (this.#residual !== null) this.#engine.clear(this.#residual);
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
