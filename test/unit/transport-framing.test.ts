/** Frames: round trips of anything, and a hundred thousand ways of being wrong. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { closeFrame, ControlReader, controlFrames, frameBytes, FrameError, maxControlBytes, receivedFrame, subflowFrame } from '../../src/transport/framing.ts';

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

describe('receipts and messages about subflows', () => {
  it('come back as they were, also between the parts of a message', () => {
    const reader = new ControlReader();
    const [part = new Uint8Array(), ...rest] = controlFrames('x'.repeat(frameBytes));
    const receipt = { flow: 65_535, frames: 4_294_967_295, blobs: 7 };
    expect(reader.read(part)).toBeNull();
    expect(reader.read(receivedFrame(receipt))).toEqual({ type: 'received', ...receipt });
    expect(reader.read(subflowFrame({ type: 'ask' }) ?? part)).toEqual({ type: 'subflow', message: { type: 'ask' } });
    expect(rest.map((frame) => reader.read(frame)?.type)).toEqual(['message']);
  });

  it('have limits', () => {
    expect(subflowFrame('x'.repeat(16 * 1024))).toBeNull();
    expect(() => new ControlReader().read(new Uint8Array(20_000).fill(6))).toThrow(/too long/);
    expect(() => new ControlReader().read(new Uint8Array([5, 0, 1]))).toThrow(/malformed/);
  });
});

describe('the reader', () => {
  const maxBytes = 500;

  /** Every answer to arbitrary bytes is an event, nothing yet, or a FrameError. */
  function survives(read: (frame: Uint8Array) => unknown, frames: readonly Uint8Array[]): void {
    try {
      for (const frame of frames) read(frame);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
    }
  }

  const kindByte = fc.oneof(fc.constantFrom(1, 2, 3, 4, 5, 6), fc.nat(255));
  const content = fc.oneof(
    { weight: 5, arbitrary: fc.uint8Array({ maxLength: 24 }) },
    { weight: 1, arbitrary: fc.nat(2 * maxBytes).map((length) => new Uint8Array(length).fill(length)) },
  );
  const anyFrame = fc.tuple(kindByte, content).map(([kind, bytes]) => new Uint8Array([kind, ...bytes]));

  it('survives 60,000 sequences of arbitrary frames, some over the limits', () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 6 }), (frames) => {
        const control = new ControlReader(maxBytes);
        survives((frame) => control.read(frame), frames);
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

  it.each([1, 2, 30, 1000])('keeps little more than what was sent, in pieces of %i bytes', (pieceBytes) => {
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
  });

  it('survives 20,000 valid streams with bytes changed, cut or put in another order', () => {
    const valid = [...controlFrames({ type: 'ping', nonce: 7 }), ...controlFrames('ä'), receivedFrame({ flow: 1, frames: 2, blobs: 3 }), closeFrame('closed', 'bye')];
    const damage = fc.record({ frame: fc.nat(10), at: fc.nat(120), byte: fc.nat(255), cut: fc.boolean(), swap: fc.nat(10) });
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
        const damaged = valid.map((frame) => frame.slice());
        for (const { frame, at, byte, cut, swap } of damages) {
          const index = frame % damaged.length;
          const target = damaged[index] ?? new Uint8Array();
          target[at % target.length] = byte;
          if (cut) damaged[index] = target.subarray(0, at % (target.length + 1));
          [damaged[index], damaged[swap % damaged.length]] = [damaged[swap % damaged.length] ?? target, damaged[index] ?? target];
        }
        const reader = new ControlReader(maxBytes);
        survives((frame) => reader.read(frame), damaged);
      }),
      { numRuns: 20_000 },
    );
  });
});
