/** Pieces of blobs: round trips by any way and in any order, and thousands of ways of being wrong. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { frameBytes, FrameError } from '../../src/transport/framing.ts';
import { BlobReader, maxHeaderBytes, maxOpenBlobs, maxOpenBytes, PieceWriter, unitBytes, unitsPerFrame } from '../../src/transport/pieces.ts';

const scratch = new Uint8Array(frameBytes);

function piecesOf(blob: number, header: unknown, bytes: Uint8Array, units = unitsPerFrame): Uint8Array[] {
  const writer = new PieceWriter(blob, header, bytes.slice().buffer);
  const pieces: Uint8Array[] = [];
  while (writer.leftBytes > 0) pieces.push(writer.next(units, scratch).slice());
  return pieces;
}

/** A piece by hand. */
function piece({ blob = 0, headerBytes = 2, blobBytes = 0, offset = 0 }, data: Uint8Array): Uint8Array {
  const frame = new Uint8Array(21 + data.byteLength);
  const view = new DataView(frame.buffer);
  view.setUint8(0, 16);
  view.setUint32(1, blob);
  view.setUint32(5, headerBytes);
  for (const [at, value] of [
    [9, blobBytes],
    [15, offset],
  ] as const) {
    view.setUint16(at, Math.floor(value / 2 ** 32));
    view.setUint32(at + 2, value % 2 ** 32);
  }
  frame.set(data, 21);
  return frame;
}

const fed =
  (...frames: Uint8Array[]) =>
  () => {
    const reader = new BlobReader();
    return frames.flatMap((frame) => reader.read(frame));
  };

const someBlob = fc.record({
  header: fc.oneof(fc.record({ kind: fc.string(), step: fc.nat() }), fc.constant('h'.repeat(frameBytes))),
  length: fc.oneof(fc.nat(40), fc.integer({ min: unitBytes - 80, max: unitBytes + 80 }), fc.integer({ min: frameBytes - 80, max: 2 * frameBytes + 40 })),
  fill: fc.nat(255),
  units: fc.integer({ min: 1, max: unitsPerFrame }),
});

describe('pieces of blobs', () => {
  it('make the blobs again, whatever their lengths, in the order of their numbers, in whatever order they come and how often', () => {
    fc.assert(
      fc.property(fc.array(someBlob, { maxLength: 4 }), fc.infiniteStream(fc.nat(1000)), (blobs, random) => {
        const frames = blobs.flatMap(({ header, length, fill, units }, blob) => piecesOf(blob, header, new Uint8Array(length).fill(fill), units));
        expect(frames.every((frame) => frame.byteLength <= frameBytes)).toBe(true);
        const twice = frames.flatMap((frame) => ((random.next().value ?? 0) % 5 === 0 ? [frame, frame] : [frame]));
        const shuffled = twice.map((frame) => [random.next().value ?? 0, frame] as const).sort(([a], [b]) => a - b);
        const reader = new BlobReader();
        const arrived = shuffled.flatMap(([, frame]) => reader.read(frame));
        expect(arrived.map(({ header, bytes }) => ({ header, length: bytes.byteLength, intact: new Uint8Array(bytes).every((byte) => byte === blobs[arrived.findIndex((each) => each.bytes === bytes)]?.fill) }))).toEqual(
          blobs.map(({ header, length }) => ({ header, length, intact: true })),
        );
        expect(reader.delivered).toBe(blobs.length);
      }),
      { numRuns: 100 },
    );
  });

  it('are refused at the first one when the blob is over the limit, before memory is taken', () => {
    const [only = scratch] = piecesOf(0, {}, new Uint8Array(100));
    expect(new BlobReader(100).read(only)).toHaveLength(1);
    expect(() => new BlobReader(99).read(only)).toThrow(/100 bytes was announced, and 99 is the limit/);
    const reader = new BlobReader();
    reader.read(piecesOf(0, {}, new Uint8Array(2 * unitBytes), 1)[0] ?? scratch);
    expect(() => reader.limit(99), 'it has begun already').toThrow(/99 is the limit/);
    const huge = piece({ blobBytes: 2 ** 48 - 1 }, new Uint8Array(unitBytes));
    expect(() => new BlobReader().read(huge)).toThrow(/281474976710655 bytes/);
    expect(() => new BlobReader(Number.MAX_SAFE_INTEGER).read(huge)).toThrow(/no memory/);
    expect(fed(piece({ headerBytes: 2 ** 31 }, new Uint8Array(1)))).toThrow(/header of/);
    expect(fed(piece({ headerBytes: 0 }, new Uint8Array(1)))).toThrow(/header of/);
    expect(() => new PieceWriter(0, 'x'.repeat(maxHeaderBytes), new ArrayBuffer(0))).toThrow(RangeError);
  });

  it('must have their place, agree with each other, and not be empty', () => {
    const [begin = scratch, rest = scratch] = piecesOf(0, { a: 1 }, new Uint8Array(frameBytes));
    expect(fed(begin, rest)()).toHaveLength(1);
    expect(fed(begin, begin, rest, rest)()).toHaveLength(1);
    expect(fed(begin, piece({ headerBytes: 8, blobBytes: frameBytes, offset: 0 }, new Uint8Array(unitBytes)))).toThrow(/do not agree/);
    expect(fed(piece({ blobBytes: 3 }, new Uint8Array(6)))).toThrow(/longer than announced/);
    expect(fed(piece({ blobBytes: 3, offset: 1 }, new Uint8Array(4)))).toThrow(/no place/);
    expect(fed(piece({ blobBytes: 3 }, new Uint8Array(4)))).toThrow(/no place/);
    expect(fed(piece({}, new Uint8Array(0)))).toThrow(/empty piece/);
    expect(fed(new Uint8Array([17, 1]))).toThrow(/unknown kind/);
  });

  it('of later blobs are taken only as far as memory for them stays within bounds', () => {
    const waiting = (blob: number, blobBytes: number): Uint8Array => piece({ blob, blobBytes }, new Uint8Array(unitBytes));
    const some = Array.from({ length: maxOpenBlobs }, (_, blob) => waiting(blob, 100_000));
    expect(fed(...some)()).toEqual([]);
    expect(fed(...some, waiting(maxOpenBlobs, 100_000))).toThrow(/too long before its turn/);
    expect(fed(waiting(0, maxOpenBytes - 200_000), waiting(1, 100_000))()).toEqual([]);
    expect(fed(waiting(0, maxOpenBytes - 200_000), waiting(1, 200_000))).toThrow(/before others ended/);
    expect(fed(waiting(0, 2 * maxOpenBytes))(), 'a large one alone').toEqual([]);
  });

  it('are answered with blobs or a FrameError, 4,000 damaged streams long', () => {
    const valid = [...piecesOf(0, { kind: 'update' }, new Uint8Array(2 * unitBytes), 1), ...piecesOf(1, [1], new Uint8Array(0))];
    const damage = fc.record({ frame: fc.nat(10), at: fc.nat(24), byte: fc.nat(255), cut: fc.boolean(), swap: fc.nat(10) });
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
        const damaged = valid.map((frame) => frame.subarray(0));
        for (const { frame, at, byte, cut, swap } of damages) {
          const index = frame % damaged.length;
          let target = damaged[index] ?? scratch;
          target = target.slice(0, cut ? at : target.length);
          target[at] = byte;
          damaged[index] = target;
          [damaged[index], damaged[swap % damaged.length]] = [damaged[swap % damaged.length] ?? target, target];
        }
        const reader = new BlobReader(100_000);
        try {
          for (const frame of damaged) reader.read(frame);
        } catch (error) {
          if (!(error instanceof FrameError)) throw error;
        }
      }),
      { numRuns: 4000 },
    );
  });
});
