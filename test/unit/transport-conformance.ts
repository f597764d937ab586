/**
 * What every transport must do, as scenarios that need no test framework: run in Node over channels in memory, and in
 * real Chromium inside a page. Each registers them in a few lines.
 */
import { TransportError, type Connection, type ConnectionHandlers } from '../../src/transport/types.ts';

export interface Side {
  readonly key: string;
  readonly handlers: ConnectionHandlers;
}

/** Opens a connection between two fresh sides. `callee` may stay pending when the handshake fails. */
export type OpenPair = (caller: Side, callee: Side) => { readonly caller: Promise<Connection>; readonly callee: Promise<Connection> };

export interface Scenario {
  readonly name: string;
  run(openPair: OpenPair): Promise<void>;
}

export type Arrival =
  | { readonly type: 'control'; readonly message: unknown }
  | { readonly type: 'blob'; readonly header: unknown; readonly bytes: ArrayBuffer }
  | { readonly type: 'closed'; readonly reason: string };

/** Handlers that keep what arrives, and a way to wait for it. */
export class Recorder implements ConnectionHandlers {
  readonly arrivals: Arrival[] = [];
  maxBlobBytes = 2 ** 30;
  #waiters: { count: number; resolve: () => void }[] = [];

  control(message: unknown): void {
    this.#add({ type: 'control', message });
  }
  blob(header: unknown, bytes: ArrayBuffer): void {
    this.#add({ type: 'blob', header, bytes });
  }
  closed(reason: string): void {
    this.#add({ type: 'closed', reason });
  }

  async until(count: number): Promise<readonly Arrival[]> {
    if (this.arrivals.length < count) await new Promise<void>((resolve) => this.#waiters.push({ count, resolve }));
    return this.arrivals;
  }

  #add(arrival: Arrival): void {
    this.arrivals.push(arrival);
    this.#waiters = this.#waiters.filter((waiter) => {
      if (this.arrivals.length < waiter.count) return true;
      waiter.resolve();
      return false;
    });
  }
}

const key = 'the key of this room';

async function openRecorded(openPair: OpenPair, maxBlobBytes?: number) {
  const [atCaller, atCallee] = [new Recorder(), new Recorder()];
  if (maxBlobBytes !== undefined) for (const recorder of [atCaller, atCallee]) recorder.maxBlobBytes = maxBlobBytes;
  const pair = openPair({ key, handlers: atCaller }, { key, handlers: atCallee });
  const [caller, callee] = await Promise.all([pair.caller, pair.callee]);
  return { caller, callee, atCaller, atCallee };
}

/** Bytes that differ from one place to the next, so that a lost or swapped piece shows. */
export function pattern(length: number, seed: number): ArrayBuffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed >>> 0 || 1;
  for (let index = 0; index < words.length; index += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    words[index] = state;
  }
  return words.buffer.slice(0, length);
}

function check(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`Expected that ${what}.`);
}

function same(actual: unknown, expected: unknown, what: string): void {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  check(a === b, `${what} is ${b.slice(0, 300)}, not ${a.slice(0, 300)}`);
}

function sameBytes(actual: ArrayBuffer, expected: ArrayBuffer, what: string): void {
  check(actual.byteLength === expected.byteLength, `${what} has ${expected.byteLength} bytes, not ${actual.byteLength}`);
  const [a, b] = [new Uint8Array(actual), new Uint8Array(expected)];
  const different = a.findIndex((byte, index) => byte !== b[index]);
  check(different === -1, `${what} is the same at byte ${different}`);
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'control messages of any size arrive whole and in order, in both directions at once',
    async run(openPair) {
      const { caller, callee, atCaller, atCallee } = await openRecorded(openPair);
      const messages = [0, 1, 65_530, 65_535, 65_536, 300_000, 3, 2_500_000].map((length, index) => ({ index, text: 'ä€𝄞x'.repeat(length / 5) }));
      for (const message of messages) {
        caller.sendControl(message);
        callee.sendControl([message]);
      }
      await Promise.all([atCaller.until(messages.length), atCallee.until(messages.length)]);
      for (const [index, message] of messages.entries()) {
        same(atCallee.arrivals[index], { type: 'control', message }, `message ${index} to the callee`);
        same(atCaller.arrivals[index], { type: 'control', message: [message] }, `message ${index} to the caller`);
      }
      caller.close('done');
    },
  },
  {
    name: 'blobs of any size arrive whole, with their headers, in order, in both directions at once',
    async run(openPair) {
      const { caller, callee, atCaller, atCallee } = await openRecorded(openPair);
      const sizes = [0, 1, 65_523, 65_524, 65_525, 65_536, 131_072, 3_000_001];
      const longHeader = { microbatches: Array.from({ length: 30_000 }, (_, index) => index) };
      const sent: Promise<void>[] = [];
      for (const size of sizes) {
        sent.push(caller.sendBlob({ size, ...(size === 131_072 ? longHeader : {}) }, pattern(size, size + 1)));
        sent.push(callee.sendBlob({ size }, pattern(size, size + 2)));
      }
      await Promise.all(sent);
      await Promise.all([atCaller.until(sizes.length), atCallee.until(sizes.length)]);
      for (const [index, size] of sizes.entries()) {
        const [there, back] = [atCallee.arrivals[index], atCaller.arrivals[index]];
        check(there?.type === 'blob' && back?.type === 'blob', 'only blobs arrive');
        same(there.header, { size, ...(size === 131_072 ? longHeader : {}) }, 'the header');
        sameBytes(there.bytes, pattern(size, size + 1), `the blob of ${size} bytes`);
        sameBytes(back.bytes, pattern(size, size + 2), `the blob of ${size} bytes on the way back`);
      }
      caller.close('done');
    },
  },
  {
    name: 'a message overtakes a blob that is on its way',
    async run(openPair) {
      const { caller, atCallee } = await openRecorded(openPair);
      const blob = caller.sendBlob({ kind: 'large' }, new ArrayBuffer(24 * 1024 * 1024));
      caller.sendControl('quick');
      await Promise.all([blob, atCallee.until(2)]);
      same(
        atCallee.arrivals.map((arrival) => arrival.type),
        ['control', 'blob'],
        'the order of arrival',
      );
      caller.close('done');
    },
  },
  {
    name: 'closing tells both sides why, once, and rejects what was not sent',
    async run(openPair) {
      const { caller, callee, atCaller, atCallee } = await openRecorded(openPair);
      const pending = caller.sendBlob({}, new ArrayBuffer(64 * 1024 * 1024)).then(
        () => 'sent',
        (error: unknown) => (error instanceof TransportError ? error.problem.code : 'another error'),
      );
      caller.close('the lid was closed');
      caller.close('again');
      same(await pending, 'connection-closed', 'the fate of the blob');
      await Promise.all([atCaller.until(1), atCallee.until(1)]);
      same(atCaller.arrivals, [{ type: 'closed', reason: 'the lid was closed' }], 'what the caller heard');
      same(atCallee.arrivals, [{ type: 'closed', reason: 'the lid was closed' }], 'what the callee heard');
      callee.sendControl('into the void');
      const late = await callee.sendBlob({}, new ArrayBuffer(1)).catch((error: unknown) => error);
      check(late instanceof TransportError, 'a blob for a closed connection is refused');
    },
  },
  {
    name: 'a blob over the limit ends the connection with the reason on both sides',
    async run(openPair) {
      const { caller, atCaller, atCallee } = await openRecorded(openPair, 100_000);
      await caller.sendBlob({}, new ArrayBuffer(100_000));
      await caller.sendBlob({}, new ArrayBuffer(100_001)).catch(() => undefined);
      await Promise.all([atCaller.until(1), atCallee.until(2)]);
      const [atSender] = atCaller.arrivals;
      check(atSender?.type === 'closed' && atSender.reason.includes('100001'), 'the sender hears what was too large');
      check(atCallee.arrivals[1]?.type === 'closed', 'the receiver hears that it is over');
    },
  },
  {
    name: 'a message that is not JSON or too large is refused to its sender and harms nothing',
    async run(openPair) {
      const { caller, atCallee } = await openRecorded(openPair);
      for (const bad of [undefined, 'x'.repeat(9 * 1024 * 1024)]) {
        let refused = false;
        try {
          caller.sendControl(bad);
        } catch (error) {
          refused = error instanceof RangeError;
        }
        check(refused, 'sendControl throws a RangeError');
      }
      const badHeader = await caller.sendBlob(undefined, new ArrayBuffer(1)).catch((error: unknown) => error);
      check(badHeader instanceof RangeError, 'sendBlob rejects with a RangeError');
      caller.sendControl('still here');
      same(await atCallee.until(1), [{ type: 'control', message: 'still here' }], 'what arrives');
      caller.close('done');
    },
  },
  {
    name: 'without the room’s key nothing is delivered, and the caller is told that the key is wrong',
    async run(openPair) {
      const [atCaller, atCallee] = [new Recorder(), new Recorder()];
      const pair = openPair({ key: 'a guess', handlers: atCaller }, { key, handlers: atCallee });
      pair.callee.catch(() => undefined);
      const error = await pair.caller.then(
        () => null,
        (reason: unknown) => reason,
      );
      check(error instanceof TransportError && error.problem.code === 'wrong-key', 'the caller gets "wrong-key"');
      same([...atCaller.arrivals, ...atCallee.arrivals], [], 'what was delivered');
    },
  },
  {
    name: 'bytes are counted, and the rate is known after a transfer that took its time',
    async run(openPair) {
      const { caller, callee, atCallee } = await openRecorded(openPair);
      await caller.sendBlob({}, new ArrayBuffer(1_000_000));
      await atCallee.until(1);
      const [sender, receiver] = await Promise.all([caller.stats(), callee.stats()]);
      check(sender.bytesSent >= 1_000_000 && sender.bytesSent < 1_010_000, 'the sender counts a megabyte and little more');
      check(receiver.bytesReceived === sender.bytesSent, 'the receiver counts the same');
      caller.close('done');
    },
  },
];
