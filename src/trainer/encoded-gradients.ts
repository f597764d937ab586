/**
 * Flat buffers to and from the wire, in whichever codec the room wants at the moment: what one codec dropped of a peer's contributions goes
 * along with the next, also in another.
 */
import { codecOfBytes, Compressor, Expander, fp32Codec } from '../codec/index.ts';
import type { CodecName, LossyCodecName } from '../codec/index.ts';
import type { Engine, Memory, ParameterLayout, Sequence } from '../engine/index.ts';
import { ContributionAdder, uncheckedAdder } from '../optim/index.ts';

/** A member's contributions. */
export class ContributionEncoder {
  readonly #engine: Engine;
  readonly #layout: ParameterLayout;
  readonly #gradients: Memory;
  readonly #compressors = new Map<LossyCodecName, Compressor>();
  /** What was dropped so far; from the first lossy codec on. */
  #residual: Memory | null = null;
  /** Of the residual to the gradients. */
  #addition: Sequence | null = null;

  constructor(engine: Engine, layout: ParameterLayout, gradients: Memory) {
    this.#engine = engine;
    this.#layout = layout;
    this.#gradients = gradients;
  }

  /** What the gradient region holds. Once for each contribution. */
  async encode(codec: CodecName): Promise<ArrayBuffer> {
    if (codec !== 'fp32') {
      const compressor = await this.#compressor(codec);
      compressor.run();
      return compressor.read();
    }
    if (this.#residual !== null) {
      this.#addition ??= await uncheckedAdder(this.#engine, 'what was dropped', this.#gradients, this.#residual);
      this.#addition.run();
      this.#engine.clear(this.#residual);
    }
    return fp32Codec.encode(new Float32Array(await this.#engine.read(this.#gradients)));
  }

  /** What was dropped belongs to gradients that nobody waits for any more. */
  forget(): void {
    if (this.#residual !== null) this.#engine.clear(this.#residual);
  }

  async #compressor(codec: LossyCodecName): Promise<Compressor> {
    this.#residual ??= this.#engine.allocateFlat('codec residual', this.#layout);
    const compressor = this.#compressors.get(codec) ?? (await Compressor.ofGradients(this.#engine, codec, this.#gradients, this.#residual));
    this.#compressors.set(codec, compressor);
    return compressor;
  }
}

/** Adds what others sent to one flat buffer. */
export class EncodedAdder {
  readonly #engine: Engine;
  readonly #layout: ParameterLayout;
  readonly #sum: Memory;
  readonly #codecs: readonly CodecName[];
  readonly #expanders = new Map<LossyCodecName, Expander>();
  #exact: { readonly memory: Memory; readonly adder: ContributionAdder } | null = null;

  /** Bytes of other codecs than these are refused: each takes memory of its own. */
  constructor(engine: Engine, layout: ParameterLayout, sum: Memory, codecs: readonly CodecName[]) {
    this.#engine = engine;
    this.#layout = layout;
    this.#sum = sum;
    this.#codecs = codecs;
  }

  /** What queues the addition; nothing is changed before. Throws `CodecError` when the bytes, called `what`, can't be added. */
  async prepare(bytes: ArrayBuffer, what: string): Promise<() => void> {
    const { name } = codecOfBytes(bytes, this.#layout.totalElements, what, this.#codecs);
    if (name === 'fp32') {
      const values = fp32Codec.decode(bytes, this.#layout.totalElements, what);
      const { memory, adder } = await this.#exactly();
      return () => {
        this.#engine.write(memory, values);
        adder.add();
      };
    }
    const expander = this.#expanders.get(name) ?? (await Expander.create(this.#engine, name, this.#sum));
    this.#expanders.set(name, expander);
    expander.check(bytes, what);
    return () => {
      expander.add(bytes);
    };
  }

  async #exactly(): Promise<{ readonly memory: Memory; readonly adder: ContributionAdder }> {
    if (this.#exact === null) {
      const memory = this.#engine.allocateFlat('contribution', this.#layout);
      this.#exact = { memory, adder: await ContributionAdder.create(this.#engine, this.#sum, memory) };
    }
    return this.#exact;
  }
}
