/** Transfers timed in the page: our blobs against a bare RTCDataChannel between two connections of the same page. */
import type { Connection } from '../../../src/transport/types.ts';
import { pattern, Recorder, type OpenPair } from '../../unit/transport-conformance.ts';

export interface RateOptions {
  /** Of each transfer. */
  readonly bytes: number;
  readonly rounds: number;
  /** Transfers of this length find the bare channel's best message size; 0: its usual one is taken. */
  readonly scoutBytes: number;
}

export interface Rates {
  /** Bytes per second of each message size of the bare channel, one short transfer each. */
  readonly scouted: Readonly<Record<number, number>>;
  /** The size that did best there: what ours is compared with. */
  readonly bareMessageBytes: number;
  /** Bytes per second, one entry per round; the two transfers of a round ran back to back. */
  readonly ours: readonly number[];
  readonly bare: readonly number[];
  /** The same in both directions at once, of which the bytes are added. */
  readonly oursBoth: readonly number[];
  readonly bareBoth: readonly number[];
  /** How long control messages took, one way, beside blobs in both directions. */
  readonly controlMs: readonly number[];
  /** Connections of our link at the end. */
  readonly connections: number;
}

const bareMessageSizes = [16 * 1024, 64 * 1024, 128 * 1024, 256 * 1024];
const usualMessageBytes = 64 * 1024;
const bareHighWaterBytes = 1024 * 1024;
const bareLowWaterBytes = 256 * 1024;
const controlIntervalMs = 100;

/** Keeps blobs for a moment and of control messages only how long they took. */
class Watch extends Recorder {
  readonly controlMs: number[] = [];
  override control(sentAtMs: number): void {
    this.controlMs.push(performance.now() - sentAtMs);
  }
}

export async function measureRates(openPair: OpenPair, { bytes, rounds, scoutBytes }: RateOptions): Promise<Rates> {
  const [atCaller, atCallee] = [new Watch(), new Watch()];
  const pair = openPair({ key: 'k', handlers: atCaller }, { key: 'k', handlers: atCallee });
  const [caller, callee] = await Promise.all([pair.caller, pair.callee]);
  const bareChannels = await openBarePair();
  const ourRate = async (blob: ArrayBuffer, from: Connection = caller, to: Recorder = atCallee): Promise<number> => {
    const startedMs = performance.now();
    const before = to.arrivals.length;
    await from.sendBlob({}, blob);
    await to.until(before + 1);
    const rate = (blob.byteLength / (performance.now() - startedMs)) * 1000;
    to.arrivals[before] = { type: 'closed', reason: 'counted' }; // Lets go of the blob's memory.
    return rate;
  };
  const inTurn = { from: bareChannels.to, to: bareChannels.from, close: bareChannels.close };
  /** Of two transfers that begin together. */
  const together = async (transfers: readonly Promise<number>[], blob: ArrayBuffer): Promise<number> => {
    const startedMs = performance.now();
    await Promise.all(transfers);
    return (transfers.length * blob.byteLength * 1000) / (performance.now() - startedMs);
  };

  // Congestion windows open, further connections too, and code gets compiled before anything counts.
  const warmUp = pattern(scoutBytes === 0 ? bytes : scoutBytes, 2);
  await ourRate(warmUp);
  await bareRate(bareChannels, warmUp, usualMessageBytes);
  const scouted: Record<number, number> = {};
  let bareMessageBytes = scoutBytes === 0 ? usualMessageBytes : 0;
  for (const size of scoutBytes === 0 ? [] : bareMessageSizes) {
    scouted[size] = await bareRate(bareChannels, warmUp, size);
    if (scouted[size] > (scouted[bareMessageBytes] ?? 0)) bareMessageBytes = size;
  }

  const blob = pattern(bytes, 1);
  const ours: number[] = [];
  const bare: number[] = [];
  const oursBoth: number[] = [];
  const bareBoth: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    bare.push(await bareRate(bareChannels, blob, bareMessageBytes));
    ours.push(await ourRate(blob));
    const talking = setInterval(() => caller.sendControl(performance.now()), controlIntervalMs);
    oursBoth.push(await together([ourRate(blob), ourRate(blob, callee, atCaller)], blob));
    clearInterval(talking);
    bareBoth.push(await together([bareRate(bareChannels, blob, bareMessageBytes), bareRate(inTurn, blob, bareMessageBytes)], blob));
  }
  const { connections } = await caller.stats();
  caller.close('measured');
  bareChannels.close();
  return { scouted, bareMessageBytes, ours, bare, oursBoth, bareBoth, controlMs: atCallee.controlMs, connections };
}

/** Opens a pair and makes a blob; what it resolves to sends that one both ways at once. */
export async function prepareExchange(openPair: OpenPair, bytes: number): Promise<() => Promise<void>> {
  const recorders = [new Recorder(), new Recorder()] as const;
  const pair = openPair({ key: 'k', handlers: recorders[0] }, { key: 'k', handlers: recorders[1] });
  const [caller, callee] = await Promise.all([pair.caller, pair.callee]);
  const blob = pattern(bytes, 1);
  return async () => {
    await Promise.all([caller.sendBlob({}, blob), callee.sendBlob({}, blob), ...recorders.map((recorder) => recorder.until(1))]);
    caller.close('done');
  };
}

interface BarePair {
  readonly from: RTCDataChannel;
  readonly to: RTCDataChannel;
  close(): void;
}

async function openBarePair(): Promise<BarePair> {
  const [a, b] = [new RTCPeerConnection(), new RTCPeerConnection()];
  a.addEventListener('icecandidate', ({ candidate }) => void b.addIceCandidate(candidate ?? undefined));
  b.addEventListener('icecandidate', ({ candidate }) => void a.addIceCandidate(candidate ?? undefined));
  const from = a.createDataChannel('bare', { negotiated: true, id: 1 });
  const to = b.createDataChannel('bare', { negotiated: true, id: 1 });
  for (const channel of [from, to]) channel.binaryType = 'arraybuffer';
  await a.setLocalDescription();
  await b.setRemoteDescription(a.localDescription ?? { type: 'offer' });
  await b.setLocalDescription();
  await a.setRemoteDescription(b.localDescription ?? { type: 'answer' });
  for (const channel of [from, to]) {
    if (channel.readyState !== 'open') await new Promise((resolve) => channel.addEventListener('open', resolve, { once: true }));
  }
  return {
    from,
    to,
    close: () => {
      a.close();
      b.close();
    },
  };
}

async function bareRate({ from, to }: BarePair, blob: ArrayBuffer, messageBytes: number): Promise<number> {
  from.bufferedAmountLowThreshold = bareLowWaterBytes;
  let received = 0;
  const startedMs = performance.now();
  const arrived = new Promise<void>((resolve) => {
    to.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
      received += data.byteLength;
      if (received === blob.byteLength) resolve();
    };
  });
  for (let offset = 0; offset < blob.byteLength; offset += messageBytes) {
    if (from.bufferedAmount > bareHighWaterBytes) await new Promise((resolve) => from.addEventListener('bufferedamountlow', resolve, { once: true }));
    from.send(new Uint8Array(blob, offset, Math.min(messageBytes, blob.byteLength - offset)));
  }
  await arrived;
  to.onmessage = null;
  return (blob.byteLength / (performance.now() - startedMs)) * 1000;
}
