/** Adds what is encoded in a lossy codec to a flat buffer on the GPU: contributions to a sum, changes to a replica. */
import type { Engine, Memory, Sequence } from '../engine/index.ts';
import { checkHalves } from './bf16.ts';
import { checkLevels } from './int2.ts';
import { checkBlocks } from './int8.ts';
import { allocatePlanes, codecDispatches } from './planes.ts';
import type { LossyCodecName, Planes } from './planes.ts';

const checks = { bf16: checkHalves, int8: checkBlocks, int2: checkLevels } as const;

export class Expander {
  readonly #engine: Engine;
  readonly #codec: LossyCodecName;
  readonly #flatElements: number;
  readonly #planes: Planes;
  readonly #sequence: Sequence;

  private constructor(engine: Engine, codec: LossyCodecName, flatElements: number, planes: Planes, sequence: Sequence) {
    this.#engine = engine;
    this.#codec = codec;
    this.#flatElements = flatElements;
    this.#planes = planes;
    this.#sequence = sequence;
  }

  static async create(engine: Engine, codec: LossyCodecName, sum: Memory): Promise<Expander> {
    const planes = allocatePlanes(engine, codec, `${codec} to add`, sum);
    const dispatches = codecDispatches(engine, codec, { what: 'add', flat: [sum], planes });
    return new Expander(engine, codec, sum.lengthElements, planes, await engine.sequence(`add ${codec}`, dispatches));
  }

  /** Throws `CodecError`, in which they are called `what`, when the bytes are mis-sized or hold what is not finite. */
  check(bytes: ArrayBuffer, what: string): void {
    checks[this.#codec](bytes, this.#flatElements, what);
  }

  /** Queues the addition of bytes that were checked. */
  add(bytes: ArrayBuffer): void {
    let offset = 0;
    for (const memory of this.#planes.memories) {
      this.#engine.write(memory, new Uint32Array(bytes, offset, memory.lengthElements));
      offset += memory.lengthElements * Uint32Array.BYTES_PER_ELEMENT;
    }
    this.#sequence.run();
  }
}
