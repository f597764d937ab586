/** The conformance suite over channels in memory, and what a link does with a peer that breaks the rules. */
import { describe, expect, it, vi } from 'vitest';
import { closeFrame, controlFrames, handshakeFrame } from '../../src/transport/framing.ts';
import { transportVersion } from '../../src/transport/handshake.ts';
import { TransportError } from '../../src/transport/types.ts';
import { Recorder, scenarios } from './transport-conformance.ts';
import { makeWires, openAll, side } from './transport-memory.ts';

async function openRecorded(wires = makeWires()) {
  const [atCaller, atCallee] = [new Recorder(), new Recorder()];
  const links = [side(wires, 'caller', { key: 'k', handlers: atCaller }), side(wires, 'callee', { key: 'k', handlers: atCallee })] as const;
  openAll(wires);
  const [caller, callee] = await Promise.all([links[0].opened, links[1].opened]);
  return { wires, caller, callee, atCaller, atCallee };
}

describe('over channels in memory', () => {
  it.each(scenarios)('$name', async (scenario) => {
    await scenario.run((caller, callee) => {
      const wires = makeWires();
      const links = { caller: side(wires, 'caller', caller), callee: side(wires, 'callee', callee) };
      openAll(wires);
      return { caller: links.caller.opened, callee: links.callee.opened };
    });
  });
});

describe('a link', () => {
  it('takes no message and no blob before the key is proved', async () => {
    for (const [channel, frame] of [
      ['control', controlFrames('let me in')[0]],
      ['control', new Uint8Array([2, 1, 2, 3])],
      ['bulk', new Uint8Array([16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 123, 125])],
      ['control', handshakeFrame({ type: 'proof', proof: 'A'.repeat(43) })],
      ['control', handshakeFrame({ type: 'hello', version: transportVersion })],
      ['control', handshakeFrame('x'.repeat(5000))],
    ] as const) {
      const wires = makeWires();
      const recorder = new Recorder();
      const link = side(wires, 'callee', { key: 'k', handlers: recorder });
      openAll(wires);
      wires[channel][0].send(frame ?? new Uint8Array());
      await expect(link.opened).rejects.toBeInstanceOf(TransportError);
      expect(recorder.arrivals).toEqual([]);
    }
  });

  it('asks for a reload when the other side is of another version, and says which', async () => {
    const wires = makeWires();
    const link = side(wires, 'callee', { key: 'k', handlers: new Recorder() });
    openAll(wires);
    wires.control[0].send(handshakeFrame({ type: 'hello', version: transportVersion + 1, anything: ['new'] }));
    await expect(link.opened).rejects.toMatchObject({ problem: { code: 'version-mismatch', whatToDo: expect.stringMatching(/Reload this page/) as unknown } });
  });

  it('gives up on a side that says nothing', async () => {
    vi.useFakeTimers();
    const wires = makeWires();
    const link = side(wires, 'callee', { key: 'k', handlers: new Recorder() });
    openAll(wires);
    const outcome = link.opened.catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(10_000);
    vi.useRealTimers();
    expect(String(await outcome)).toMatch(/did not prove the room key within 10 s/);
  });

  it.each([
    ['an unknown kind of frame', 'control', new Uint8Array([99])],
    ['an empty frame', 'control', new Uint8Array()],
    ['bytes that are no UTF-8', 'control', new Uint8Array([3, 0xff, 0xfe])],
    ['text that is no JSON', 'control', new Uint8Array([3, 123])],
    ['a second handshake', 'control', handshakeFrame({ type: 'hello', version: transportVersion })],
    ['a malformed farewell', 'control', new Uint8Array([4, 91, 93])],
    ['a piece of no blob', 'bulk', new Uint8Array([17, 1])],
    ['a blob that is announced as too large', 'bulk', new Uint8Array([16, 0, 0, 0, 2, 0, 255, 0, 0, 0, 0])],
    ['a header that is no JSON', 'bulk', new Uint8Array([16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x7b])],
  ] as const)('hangs up on %s, with the reason for both sides', async (_what, channel, frame) => {
    const { wires, atCaller, atCallee } = await openRecorded();
    wires[channel][0].send(frame);
    await Promise.all([atCaller.until(1), atCallee.until(1)]);
    expect(atCallee.arrivals).toEqual(atCaller.arrivals);
    expect(atCallee.arrivals).toEqual([{ type: 'closed', reason: expect.any(String) as unknown }]);
  });

  it('ends when a channel closes under it, and when the other side says goodbye', async () => {
    const lost = await openRecorded();
    lost.wires.bulk[0].close();
    expect(await lost.atCallee.until(1)).toEqual([{ type: 'closed', reason: 'the connection was lost' }]);
    const left = await openRecorded();
    left.wires.control[0].send(closeFrame('closed', 'bye'));
    expect(await left.atCallee.until(1)).toEqual([{ type: 'closed', reason: 'bye' }]);
  });

  it('waits for a slow side as long as it takes something, and gives up after 30 s of nothing', async () => {
    const { wires, caller, atCaller } = await openRecorded();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    wires.bulk[0].stalled = true;
    const fate = caller.sendBlob({}, new ArrayBuffer(8 * 1024 * 1024)).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(29_000);
    wires.bulk[0].bufferedAmount -= 1;
    await vi.advanceTimersByTimeAsync(2000);
    expect(atCaller.arrivals).toEqual([]);
    await vi.advanceTimersByTimeAsync(30_000);
    vi.useRealTimers();
    expect(await fate).toMatchObject({ problem: { code: 'connection-closed', message: expect.stringMatching(/took nothing for 30 s/) as unknown } });
    expect(atCaller.arrivals).toHaveLength(1);
  });

  it('never holds much more than its high-water mark in the channel', async () => {
    const { wires, caller, atCallee } = await openRecorded();
    let highest = 0;
    wires.bulk[0].tap = (frame) => {
      highest = Math.max(highest, wires.bulk[0].bufferedAmount);
      return frame;
    };
    await caller.sendBlob({}, new ArrayBuffer(20 * 1024 * 1024));
    await atCallee.until(1);
    expect(highest).toBeGreaterThan(256 * 1024);
    expect(highest).toBeLessThan(1200 * 1024);
  });
});
