/** Further connections of a link, over channels in memory: the conformance suite, what happens when some are lost, and peers that overdo it. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { receivedFrame, subflowFrame } from '../../src/transport/framing.ts';
import { maxSubflows } from '../../src/transport/subflows.ts';
import { pattern, Recorder, scenarios } from './transport-conformance.ts';
import { makeWires, MemorySubflows, openAll, side } from './transport-memory.ts';

afterEach(() => {
  vi.useRealTimers();
});

async function openRecorded(roundTripMs = 50) {
  const [wires, subflows, atCaller, atCallee] = [makeWires(), new MemorySubflows(), new Recorder(), new Recorder()];
  const links = [
    side(wires, 'caller', { key: 'k', handlers: atCaller }, subflows.options(roundTripMs)),
    side(wires, 'callee', { key: 'k', handlers: atCallee }, subflows.options(roundTripMs)),
  ] as const;
  openAll(wires);
  const [caller, callee] = await Promise.all([links[0].opened, links[1].opened]);
  return { wires, subflows, caller, callee, atCaller, atCallee };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** With all their subflows open. */
async function openWide() {
  const opened = await openRecorded();
  const { caller, callee, atCallee } = opened;
  await caller.sendBlob('first', new ArrayBuffer(100));
  await atCallee.until(1);
  for (const end of [caller, callee]) while ((await end.stats()).connections <= maxSubflows) await turn();
  return opened;
}

const mebibyte = 1024 * 1024;

describe('over further channels in memory', () => {
  it.each(scenarios)('$name', async (scenario) => {
    await scenario.run((caller, callee) => {
      const [wires, subflows] = [makeWires(), new MemorySubflows()];
      const links = { caller: side(wires, 'caller', caller, subflows.options()), callee: side(wires, 'callee', callee, subflows.options()) };
      openAll(wires);
      return { caller: links.caller.opened, callee: links.callee.opened };
    });
  });
});

describe('subflows', () => {
  it('are opened by the caller, also when it is the callee that has much to send', async () => {
    const { caller, callee, atCaller } = await openRecorded();
    await callee.sendBlob({}, new ArrayBuffer(mebibyte));
    await atCaller.until(1);
    for (const end of [caller, callee]) while ((await end.stats()).connections <= maxSubflows) await turn();
    caller.close('done');
  });

  it('are not opened where the round trip is short', async () => {
    const { caller, atCallee, subflows } = await openRecorded(49);
    await caller.sendBlob({}, new ArrayBuffer(4 * mebibyte));
    await atCallee.until(1);
    expect(subflows.pairs).toEqual([]);
    caller.close('done');
  });

  it('carry what is long, share it, and leave the first connection to what is short', async () => {
    const { caller, atCallee, subflows, wires } = await openWide();
    const bytesBy = new Map<unknown, number>();
    for (const channel of [wires.bulk[0], ...subflows.pairs.map(([own]) => own)]) {
      channel.tap = (frame) => {
        bytesBy.set(channel, (bytesBy.get(channel) ?? 0) + frame.byteLength);
        return frame;
      };
    }
    await caller.sendBlob('long', new ArrayBuffer(4 * mebibyte));
    await caller.sendBlob('short', new ArrayBuffer(1000));
    await atCallee.until(3);
    expect(atCallee.arrivals.map((arrival) => arrival.type === 'blob' && arrival.header)).toEqual(['first', 'long', 'short']);
    expect(bytesBy.get(wires.bulk[0])).toBeLessThan(1100);
    for (const [own] of subflows.pairs) expect(bytesBy.get(own)).toBeGreaterThan(mebibyte / 2);
    caller.close('done');
  });

  it.each([1, 2, 3, 4])('of which %i are lost with what is on its way lose nothing', async (count) => {
    const { caller, callee, atCaller, atCallee, subflows } = await openWide();
    const blobs = [3 * mebibyte, 70_000, 2 * mebibyte, 10].map((length, index) => pattern(length, index + 1));
    const sent = blobs.flatMap((blob, index) => [caller.sendBlob(index, blob), callee.sendBlob(index, blob)]);
    for (const pair of subflows.pairs.slice(0, count)) {
      let frames = 0;
      for (const channel of pair) {
        channel.tap = (frame) => {
          frames += 1;
          if (frames === 20) setImmediate(() => pair[0].close());
          // The last of them are lost.
          return frames > 10 ? null : frame;
        };
      }
    }
    await Promise.all([...sent, atCaller.until(blobs.length), atCallee.until(1 + blobs.length)]);
    for (const arrivals of [atCaller.arrivals, atCallee.arrivals.slice(1)]) {
      expect(arrivals.map((arrival) => arrival.type === 'blob' && [arrival.header, Buffer.from(arrival.bytes).equals(Buffer.from(blobs[arrival.header as number] ?? new ArrayBuffer(0)))])).toEqual(
        blobs.map((_, index) => [index, true]),
      );
    }
    expect((await caller.stats()).connections).toBe(1 + maxSubflows - count);
    caller.close('done');
  });

  it('that take nothing for 10 s are given up, on both sides', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'], shouldAdvanceTime: true });
    const { caller, callee, atCallee, subflows } = await openWide();
    const [stuck] = subflows.pairs;
    if (stuck !== undefined) stuck[0].stalled = true;
    const blob = pattern(3 * mebibyte, 5);
    await caller.sendBlob({}, blob);
    for (let turns = 0; turns < 200; turns += 1) await turn();
    expect(atCallee.arrivals).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(20_000);
    const arrival = (await atCallee.until(2))[1];
    expect(arrival?.type === 'blob' && Buffer.from(arrival.bytes).equals(Buffer.from(blob))).toBe(true);
    for (const end of [caller, callee]) while ((await end.stats()).connections > maxSubflows) await turn();
    caller.close('done');
  });

  it('end with their link', async () => {
    const { caller, atCallee, subflows } = await openWide();
    caller.close('bye');
    await atCallee.until(2);
    expect(subflows.pairs.flat().map(({ readyState }) => readyState)).toEqual(Array.from({ length: 2 * maxSubflows }, () => 'closed'));
  });
});

describe('a peer that overdoes it with subflows is hung up on', () => {
  const say = (message: unknown): Uint8Array<ArrayBuffer> => subflowFrame(message) ?? new Uint8Array();
  const begin = (flow: number): Uint8Array<ArrayBuffer> => say({ type: 'begin', flow });

  it.each([
    ['begins more than are allowed', () => [begin(5)], /out of turn/],
    ['leaves out numbers', () => [say({ type: 'end', flow: 4 }), begin(6)], /out of turn/],
    ['begins one again', () => [say({ type: 'end', flow: 4 }), begin(4)], /out of turn/],
    ['counts without end', () => [begin(33)], /malformed/],
    ['speaks of one that nobody began', () => [say({ type: 'said', flow: 5, said: 1 })], /nobody began/],
    ['never stops speaking', () => Array.from({ length: 101 }, () => say({ type: 'said', flow: 1, said: 'more' })), /too many words/],
    ['asks though it is the caller', () => [say({ type: 'ask' })], /its own to begin/],
    ['says nonsense', () => [say({ type: 'please' })], /malformed/],
    ['confirms a blob that was not sent', () => [receivedFrame({ flow: 0, frames: 0, blobs: 1 })], /was not sent/],
    ['confirms a frame that was not sent', () => [receivedFrame({ flow: 1, frames: 1, blobs: 0 })], /was not sent/],
  ] as const)('when it %s', async (_what, frames, reason) => {
    const { wires, subflows, atCaller, atCallee } = await openWide();
    for (const pair of subflows.pairs) for (const channel of pair) channel.open = () => undefined;
    for (const frame of frames()) wires.control[0].send(frame);
    await Promise.all([atCaller.until(1), atCallee.until(2)]);
    expect(atCallee.arrivals[1]).toMatchObject({ type: 'closed', reason: expect.stringMatching(reason) as unknown });
  });

  it('when what it sends there is no piece of a blob', async () => {
    const { subflows, atCaller } = await openWide();
    subflows.pairs[0]?.[1].send(new Uint8Array([17, 1]));
    expect(await atCaller.until(1)).toMatchObject([{ type: 'closed', reason: expect.stringMatching(/unknown kind/) as unknown }]);
  });

  it('when it begins one at its own callee', async () => {
    const { wires, atCaller } = await openWide();
    wires.control[1].send(begin(5));
    expect(await atCaller.until(1)).toMatchObject([{ type: 'closed', reason: expect.stringMatching(/out of turn/) as unknown }]);
  });
});
