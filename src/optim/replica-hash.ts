/**
 * Fingerprint of a replica, equal on every device that holds the same bits, by GPU or CPU. It detects replicas that have
 * drifted apart; it is no defence against someone who forges one.
 */
import shader from '../../shaders/replica-hash.wgsl?raw';
import { flatRanges, mixed, partOf } from '../engine/index.ts';
import type { DirectDispatch, Engine, Memory, Region, Sequence } from '../engine/index.ts';

export class ReplicaHash {
  readonly #engine: Engine;
  readonly #hash: Region;
  readonly #sequence: Sequence;

  private constructor(engine: Engine, hash: Region, sequence: Sequence) {
    this.#engine = engine;
    this.#hash = hash;
    this.#sequence = sequence;
  }

  /** Of a flat buffer, padding included. */
  static async create(engine: Engine, weights: Memory): Promise<ReplicaHash> {
    const ranges = flatRanges(weights, engine.profile);
    const parts = ranges.reduce((total, { groups }) => total + groups, 0);
    const partSums = engine.allocate('hash parts', 2 * parts);
    const hash = engine.allocate('hash', 2);
    const dispatch = (entryPoint: string, range: (typeof ranges)[number]): DirectDispatch => ({
      label: `hash ${entryPoint}`,
      shader,
      entryPoint,
      constants: {
        COUNT: range.count,
        START: range.start,
        FIRST_PART: range.firstGroup,
        GROUPS_X: range.groupsX,
        PARTS: parts,
      },
      bindings: [partOf(weights, range), partSums, hash],
      workgroups: entryPoint === 'total' ? [1, 1, 1] : range.workgroups,
    });
    const sequence = await engine.sequence('replica hash', [
      ...ranges.map((range) => dispatch('terms', range)),
      ...ranges.slice(0, 1).map((range) => dispatch('total', range)),
    ]);
    return new ReplicaHash(engine, hash, sequence);
  }

  /** 16 hexadecimal characters. Waits for everything queued before. */
  async compute(): Promise<string> {
    this.#sequence.run();
    const [first = 0, second = 0] = new Uint32Array(await this.#engine.read(this.#hash));
    return hexOf(first, second);
  }
}

/** The same fingerprint of weights in host memory. */
export function replicaHashOf(weights: Float32Array): string {
  const bits = new Uint32Array(weights.buffer, weights.byteOffset, weights.length);
  let first = 0;
  let second = 0;
  for (let i = 0; i < bits.length; i++) {
    const value = bits[i] ?? 0;
    first = (first + Math.imul(value, 2 * i + 1)) >>> 0;
    second = (second + mixed(value + Math.imul(i, 0x9e3779b9))) >>> 0;
  }
  return hexOf(first, second);
}

function hexOf(first: number, second: number): string {
  return [first, second].map((word) => word.toString(16).padStart(8, '0')).join('');
}
