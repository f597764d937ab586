/** The transport alone in a page, driven by `transport.spec.ts`, `hostile.spec.ts` and `test/bench/transport.ts` through `window.transportTest`. */
import { openEndpoint } from '../../../src/transport/peerjs.ts';
import { TransportError, type Connection, type Endpoint, type TransportProblem } from '../../../src/transport/types.ts';
import { pattern, Recorder, scenarios, type Arrival, type OpenPair, type Side } from '../../unit/transport-conformance.ts';
import { measureRates, prepareExchange, type RateOptions } from './transport-rates.ts';

interface Place {
  readonly room: string;
  readonly signallingUrl: string;
}

const room = 'room-of-tests';
const ownPlace: Place = { room, signallingUrl: new URL('/signal', location.href).href };

interface PageConnection {
  readonly connection: Connection;
  readonly recorder: Recorder;
}

interface PageEndpoint {
  readonly endpoint: Endpoint;
  readonly signalling: string[];
  /** In the order they opened, by either side's wish. */
  readonly connections: PageConnection[];
}

export type ArrivalShown = Exclude<Arrival, { type: 'blob' }> | { readonly type: 'blob'; readonly header: unknown; readonly bytes: number };

const endpoints: PageEndpoint[] = [];
let opened: (() => void)[] = [];
let exchange = (): Promise<void> => Promise.resolve();

/** A caller may be done a moment before its callee is: this waits for the connection. */
async function connectionAt(index: number): Promise<PageConnection> {
  for (;;) {
    const found = endpoints[0]?.connections[index];
    if (found !== undefined) return found;
    await new Promise<void>((resolve) => opened.push(resolve));
  }
}

function keep(connections: PageConnection[], connection: PageConnection): void {
  connections.push(connection);
  const waiting = opened;
  opened = [];
  for (const resolve of waiting) resolve();
}

async function open(key: string, place = ownPlace): Promise<PageEndpoint> {
  const signalling: string[] = [];
  const connections: PageEndpoint['connections'] = [];
  const endpoint = await openEndpoint({
    signallingUrl: new URL(place.signallingUrl),
    iceServers: () => Promise.resolve([]),
    key: () => key,
    room: place.room,
    accept: (connection) => {
      const recorder = new Recorder();
      keep(connections, { connection, recorder });
      return recorder;
    },
    signallingChanged: (state) => signalling.push(state),
    idChanged: (id) => signalling.push(`id ${id}`),
  });
  return { endpoint, signalling, connections };
}

async function problemOf(action: () => Promise<unknown>): Promise<TransportProblem | null> {
  try {
    await action();
    return null;
  } catch (error) {
    if (error instanceof TransportError) return error.problem;
    throw error;
  }
}

/** Two endpoints of this page, joined through the real signalling server. */
const openPair: OpenPair = (caller, callee) => {
  let accepted: (connection: Connection) => void;
  const calleeOpened = new Promise<Connection>((resolve) => (accepted = resolve));
  const make = (side: Side): Promise<Endpoint> =>
    openEndpoint({
      signallingUrl: new URL('/signal', location.href),
      iceServers: () => Promise.resolve([]),
      key: () => side.key,
      room,
      accept: (connection) => {
        accepted(connection);
        return side.handlers;
      },
      signallingChanged: () => undefined,
    });
  const callerOpened = Promise.all([make(caller), make(callee)]).then(([from, to]) => from.connect(to.id, caller.handlers));
  return { caller: callerOpened, callee: calleeOpened };
};

const transportTest = {
  runScenario: async (name: string): Promise<void> => {
    const scenario = scenarios.find((candidate) => candidate.name === name);
    if (scenario === undefined) throw new Error(`there is no scenario "${name}"`);
    await scenario.run(openPair);
  },
  openProblem: (signallingUrl: string): Promise<TransportProblem | null> => problemOf(() => open('key', { room, signallingUrl })),
  /** Opens an endpoint of this page, here or in a room of another server, and returns its id. */
  open: async (key: string, place?: Place): Promise<string> => {
    const made = await open(key, place);
    endpoints.push(made);
    return made.endpoint.id;
  },
  id: (): string => endpoints[0]?.endpoint.id ?? '',
  signalling: (): readonly string[] => endpoints[0]?.signalling ?? [],
  connect: (remoteId: string): Promise<TransportProblem | null> =>
    problemOf(async () => {
      const [own] = endpoints;
      if (own === undefined) throw new Error('open an endpoint first');
      const recorder = new Recorder();
      keep(own.connections, { connection: await own.endpoint.connect(remoteId, recorder), recorder });
    }),
  say: async (index: number, message: unknown): Promise<void> => (await connectionAt(index)).connection.sendControl(message),
  sendPattern: async (index: number, length: number, seed: number): Promise<void> =>
    (await connectionAt(index)).connection.sendBlob({ length, seed }, pattern(length, seed)),
  /** Waits for that many arrivals and describes them. */
  heard: async (index: number, count: number): Promise<readonly unknown[]> => {
    const arrivals = await (await connectionAt(index)).recorder.until(count);
    return arrivals.map((arrival) => {
      if (arrival.type !== 'blob') return arrival;
      const { length, seed } = arrival.header as { length: number; seed: number };
      const expected = new Uint8Array(pattern(length, seed));
      const bytes = new Uint8Array(arrival.bytes);
      return { type: 'blob', length: bytes.length, intact: bytes.length === expected.length && bytes.every((byte, at) => byte === expected[at]) };
    });
  },
  /** What has come by now, as far as JSON can say it. */
  arrivals: async (index: number): Promise<readonly ArrivalShown[]> =>
    (await connectionAt(index)).recorder.arrivals.map((arrival) =>
      arrival.type === 'blob' ? { type: 'blob', header: arrival.header, bytes: arrival.bytes.byteLength } : arrival,
    ),
  sendBytes: async (index: number, header: unknown, bytes: number): Promise<void> => (await connectionAt(index)).connection.sendBlob(header, new ArrayBuffer(bytes)),
  connections: (): number => endpoints[0]?.connections.length ?? 0,
  stats: async (index: number) => (await connectionAt(index)).connection.stats(),
  close: async (index: number, reason: string): Promise<void> => (await connectionAt(index)).connection.close(reason),
  destroy: (): void => endpoints[0]?.endpoint.destroy(),
  prepareExchange: async (bytes: number): Promise<void> => {
    exchange = await prepareExchange(openPair, bytes);
  },
  exchange: (): Promise<void> => exchange(),
  measureRates: (options: RateOptions) => measureRates(openPair, options),
};

declare global {
  interface Window {
    transportTest: typeof transportTest;
  }
}
window.transportTest = transportTest;
