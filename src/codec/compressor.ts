/** Gradients on the GPU as bytes of a lossy codec. What it drops is kept here and goes along with the next ones. */
import shader from '../../shaders/codec.wgsl?raw';
import { partOf } from '../engine/index.ts';
import type { DirectDispatch, Engine, Memory, ParameterLayout, Sequence } from '../engine/index.ts';
import { allocatePlanes, kernelRanges } from './planes.ts';
import type { LossyCodecName, Planes } from './planes.ts';

export class Compressor {
  readonly #engine: Engine;
  readonly #residual: Memory;
  readonly #planes: Planes;
  readonly #sequence: Sequence;

  private constructor(engine: Engine, residual: Memory, planes: Planes, sequence: Sequence) {
    this.#engine = engine;
    this.#residual = residual;
    this.#planes = planes;
    this.#sequence = sequence;
  }

  static async create(engine: Engine, codec: LossyCodecName, layout: ParameterLayout, gradients: Memory): Promise<Compressor> {
    const residual = engine.allocateFlat('codec residual', layout);
    const planes = allocatePlanes(engine, codec, 'encoded gradients', gradients);
    const [scales, values] = codec === 'int8' ? [planes[0], planes[1]] : [undefined, planes[0]];
    const dispatches = kernelRanges(engine, gradients).map(({ range, constants }): DirectDispatch => {
      const bound = [partOf(gradients, range), partOf(residual, range), ...[values, scales].flatMap((plane) => plane?.of(range) ?? [])];
      return { label: `encode ${codec}`, shader, entryPoint: codec === 'int8' ? 'encodeInt8' : 'encodeBf16', constants, bindings: bound, workgroups: range.workgroups };
    });
    return new Compressor(engine, residual, planes, await engine.sequence(`encode ${codec}`, dispatches));
  }

  /** Of the gradients as they are when everything queued before is done. */
  async encode(): Promise<ArrayBuffer> {
    this.#engine.clear(...this.#planes.map(({ memory }) => memory));
    this.#sequence.run();
    const planes = await Promise.all(this.#planes.map(({ memory }) => this.#engine.read(memory)));
    const [only, ...more] = planes;
    if (only !== undefined && more.length === 0) return only;
    return concatenated(planes);
  }

  /** What was dropped belongs to gradients that nobody waits for any more. */
  forget(): void {
    this.#engine.clear(this.#residual);
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
