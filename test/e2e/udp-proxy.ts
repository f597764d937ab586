/**
 * A bad network in front of a UDP server: what passes, in either direction, comes later and sometimes not at all. This stands
 * where netem would, which needs a kernel that has it. It knows nothing of what the datagrams say, and never reorders them.
 */
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { once } from 'node:events';
import { Random } from '../room/random.ts';

export interface UdpProxyOptions {
  /** Of this machine's own; the proxy itself is reached at it too. */
  readonly host?: string;
  readonly targetPort: number;
  /** Each way. */
  readonly delayMs: number;
  /** Share of datagrams that are lost, each way. */
  readonly loss: number;
  /** Of the generator that says which: the n-th datagram fares alike in every run. */
  readonly seed: number;
}

export interface UdpTraffic {
  readonly delivered: number;
  readonly dropped: number;
  readonly bytes: number;
  /** Addresses that have sent anything to the server. */
  readonly clients: number;
}

export interface UdpProxy {
  readonly port: number;
  readonly traffic: UdpTraffic;
  close(): void;
}

export async function startUdpProxy({ host = '127.0.0.1', targetPort, delayMs, loss, seed }: UdpProxyOptions): Promise<UdpProxy> {
  const random = new Random(seed);
  const front = createSocket('udp4');
  /** One socket for each client, so that the server tells them apart, by the client's address. */
  const backs = new Map<string, Socket>();
  let [delivered, dropped, bytes, isClosed] = [0, 0, 0, false];

  /** Timers of one length fire in the order in which they were set, so datagrams keep theirs. */
  const pass = (datagram: Buffer, send: () => void): void => {
    if (random.next() < loss) {
      dropped += 1;
      return;
    }
    setTimeout(() => {
      if (isClosed) return;
      delivered += 1;
      bytes += datagram.byteLength;
      send();
    }, delayMs);
  };

  front.on('message', (datagram, { address, port }) => {
    const client = `${address}:${port}`;
    let back = backs.get(client);
    if (back === undefined) {
      back = createSocket('udp4');
      back.on('message', (answer) => pass(answer, () => front.send(answer, port, address)));
      // A server that is gone or not there yet: a lost datagram, as any other.
      back.on('error', () => undefined);
      backs.set(client, back);
    }
    const towards = back;
    pass(datagram, () => towards.send(datagram, targetPort, host));
  });

  front.bind(0, host);
  await once(front, 'listening');
  return {
    port: front.address().port,
    get traffic() {
      return { delivered, dropped, bytes, clients: backs.size };
    },
    close() {
      isClosed = true;
      for (const socket of [front, ...backs.values()]) socket.close();
    },
  };
}
