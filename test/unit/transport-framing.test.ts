/** Frames: round trips of anything, and a hundred thousand ways of being wrong. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlobReader, BlobWriter, ControlReader, controlFrames, frameBytes, FrameError, maxControlBytes, maxHeaderBytes } from '../../src/transport/framing.ts';

const scratch = new Uint8Array(frameBytes);

function blobFrames(header: unknown, bytes: Uint8Array): Uint8Array[] {
  const writer = new BlobWriter(header, bytes.slice().buffer, scratch);
  const frames: Uint8Array[] = [];
  while (!writer.done) frames.push(writer.next().slice());
  return frames;
}

describe('control messages', () => {
  it('come back as they were, whatever JSON they are', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (message) => {
        const reader = new ControlReader();
        const events = controlFrames(message).map((frame) => reader.read(frame));
        expect(events.at(-1)).toEqual({ type: 'message', message: JSON.parse(JSON.stringify(message)) as unknown });
      }),
      { numRuns: 5000 },
    );
  });

  it('are cut into frames of the agreed size, inside characters too', () => {
    const message = `x${'€'.repeat(100_000)}`;
    const frames = controlFrames(message);
    expect(frames.length).toBe(5);
    expect(Math.max(...frames.map((frame) => frame.byteLength))).toBe(frameBytes);
    const reader = new ControlReader();
    expect(frames.map((frame) => reader.read(frame)).filter((event) => event !== null)).toEqual([{ type: 'message', message }]);
  });

  it('have a limit that holds on both sides', () => {
    expect(() => controlFrames('x'.repeat(maxControlBytes - 2))).not.toThrow();
    expect(() => controlFrames('x'.repeat(maxControlBytes - 1))).toThrow(RangeError);
    const reader = new ControlReader();
    const part = new Uint8Array(frameBytes);
    part[0] = 2;
    expect(() => {
      for (let index = 0; index < 200; index += 1) reader.read(part);
    }).toThrow(/too long/);
  });
});

describe('blobs', () => {
  it('come back as they were, with headers and bytes of any length, one after another', () => {
    const blob = fc.record({
      header: fc.oneof(fc.record({ kind: fc.string(), step: fc.nat() }), fc.constant('h'.repeat(frameBytes))),
      length: fc.oneof(fc.nat(40), fc.integer({ min: frameBytes - 80, max: frameBytes + 80 }), fc.integer({ min: 2 * frameBytes - 40, max: 2 * frameBytes + 40 })),
      fill: fc.nat(255),
    });
    fc.assert(
      fc.property(fc.array(blob, { maxLength: 3 }), (blobs) => {
        const reader = new BlobReader();
        const arrived: unknown[] = [];
        for (const { header, length, fill } of blobs) {
          for (const frame of blobFrames(header, new Uint8Array(length).fill(fill))) {
            expect(frame.byteLength).toBeLessThanOrEqual(frameBytes);
            const whole = reader.read(frame);
            if (whole !== null) arrived.push({ header: whole.header, length: whole.bytes.byteLength, fill: new Uint8Array(whole.bytes).every((byte) => byte === fill) });
          }
        }
        expect(arrived).toEqual(blobs.map(({ header, length }) => ({ header, length, fill: true })));
      }),
      { numRuns: 500 },
    );
  });

  it('are refused at their announcement when they are over the limit, before memory is taken', () => {
    const [begin] = blobFrames({}, new Uint8Array(100));
    expect(new BlobReader(100).read(begin ?? scratch)).not.toBeNull();
    expect(() => new BlobReader(99).read(begin ?? scratch)).toThrow(/100 bytes was announced, and 99 is the limit/);
    const huge = new Uint8Array([16, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    const reader = new BlobReader();
    reader.read((begin ?? scratch).slice(0, -1));
    expect(() => reader.limit(99), 'it has begun already').toThrow(/99 is the limit/);
    expect(() => new BlobReader().read(huge)).toThrow(/281474976710655 bytes/);
    expect(() => new BlobReader(Number.MAX_SAFE_INTEGER).read(huge)).toThrow(/no memory/);
    expect(() => new BlobReader().read(new Uint8Array([16, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0]))).toThrow(/header of/);
    expect(() => new BlobWriter('x'.repeat(maxHeaderBytes), new ArrayBuffer(0), scratch)).toThrow(RangeError);
  });

  it('must neither overlap nor overrun nor come in empty pieces', () => {
    const frames = blobFrames({ a: 1 }, new Uint8Array(frameBytes));
    const [begin = scratch, rest = scratch] = frames;
    const fed = (...all: Uint8Array[]) => () => {
      const reader = new BlobReader();
      for (const frame of all) reader.read(frame);
    };
    expect(fed(begin, rest)).not.toThrow();
    expect(fed(begin, begin)).toThrow(/before the last one ended/);
    expect(fed(begin, rest, rest)).toThrow(/piece of no blob/);
    expect(fed(begin, new Uint8Array(frameBytes).fill(17))).toThrow(/longer than announced/);
    expect(fed(begin, new Uint8Array([17]))).toThrow(/empty piece/);
  });
});

describe('readers', () => {
  const maxBytes = 500;

  /** Every answer to arbitrary bytes is an event, nothing yet, or a FrameError. */
  function survives(read: (frame: Uint8Array) => unknown, frames: readonly Uint8Array[]): void {
    try {
      for (const frame of frames) read(frame);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
    }
  }

  const kindByte = fc.oneof(fc.constantFrom(1, 2, 3, 4, 16, 17), fc.nat(255));
  const content = fc.oneof(
    { weight: 5, arbitrary: fc.uint8Array({ maxLength: 24 }) },
    { weight: 1, arbitrary: fc.nat(2 * maxBytes).map((length) => new Uint8Array(length).fill(length)) },
  );
  const anyFrame = fc.tuple(kindByte, content).map(([kind, bytes]) => new Uint8Array([kind, ...bytes]));

  it('survive 60,000 sequences of arbitrary frames, some over the limits', () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 6 }), (frames) => {
        const control = new ControlReader(maxBytes);
        survives((frame) => control.read(frame), frames);
        const bulk = new BlobReader(maxBytes);
        survives((frame) => bulk.read(frame), frames);
      }),
      { numRuns: 60_000 },
    );
  });

  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;

  /** Bytes that are kept alive by what `make` returns. */
  function bytesKept(make: () => unknown): number {
    const used = (): number => {
      // What one collection finds unused the next one frees.
      for (let round = 0; round < 3; round += 1) collectGarbage();
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      return heapUsed + arrayBuffers;
    };
    const before = used();
    const kept = make();
    const bytes = used() - before;
    // Named once more, so that it lives until here.
    return kept === undefined ? 0 : bytes;
  }

  it.each([1, 2, 30, 1000])('keep little more than what was sent, in pieces of %i bytes', (pieceBytes) => {
    const sentBytes = 2 ** 19;
    const frameOf = (kind: number): Uint8Array => {
      const frame = new Uint8Array(new ArrayBuffer(1 + pieceBytes));
      frame[0] = kind;
      return frame;
    };
    const control = bytesKept(() => {
      const reader = new ControlReader();
      for (let bytes = 0; bytes < sentBytes; bytes += pieceBytes) reader.read(frameOf(2));
      return reader;
    });
    expect(control).toBeLessThan(4 * sentBytes);
    const bulk = bytesKept(() => {
      const reader = new BlobReader(2 * sentBytes);
      reader.read(new Uint8Array([16, 0, 0, 0, 2, 0, 0, 0, 16, 0, 0]));
      for (let bytes = 0; bytes < sentBytes; bytes += pieceBytes) reader.read(frameOf(17));
      return reader;
    });
    expect(bulk).toBeLessThan(4 * sentBytes);
  });

  it('survive 20,000 valid streams with bytes changed, cut or put in another order', () => {
    const valid = [...blobFrames({ kind: 'update', step: 3 }, new Uint8Array(100)), ...blobFrames([1], new Uint8Array(0))];
    const validControl = [...controlFrames({ type: 'ping', nonce: 7 }), ...controlFrames('ä')];
    const damage = fc.record({ frame: fc.nat(10), at: fc.nat(120), byte: fc.nat(255), cut: fc.boolean(), swap: fc.nat(10) });
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
        for (const [reader, frames] of [
          [new BlobReader(maxBytes), valid],
          [new ControlReader(maxBytes), validControl],
        ] as const) {
          const damaged = frames.map((frame) => frame.slice());
          for (const { frame, at, byte, cut, swap } of damages) {
            const index = frame % damaged.length;
            const target = damaged[index] ?? scratch;
            target[at % target.length] = byte;
            if (cut) damaged[index] = target.subarray(0, at % (target.length + 1));
            [damaged[index], damaged[swap % damaged.length]] = [damaged[swap % damaged.length] ?? target, damaged[index] ?? target];
          }
          survives((frame) => reader.read(frame), damaged);
        }
      }),
      { numRuns: 20_000 },
    );
  });
});
