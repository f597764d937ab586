/**
 * A room whose peers have no direct way to each other: everything goes through a real coturn, and to and from it through a
 * network with 20 ms of delay and 1 % of loss, so that a datagram from page to page meets both twice.
 */
import type { Page } from '@playwright/test';
import type { PageStatus } from '../../src/session/page-api.ts';
import type { CreateSettings } from '../../src/session/types.ts';
import { findTurnServer } from '../setup.mjs';
import { expect, test } from './fixtures.ts';
import { startServer } from './server.ts';
import { createPausedRoom, createRoom, expectNoProblem, joinRoom, largestDifference, statusWhen } from './support.ts';
import { startTurnServer } from './turn-server.ts';
import { startUdpProxy } from './udp-proxy.ts';

const delayMs = 20;
const loss = 0.01;
const run: CreateSettings = {
  preset: 'counting-list',
  codec: 'fp32',
  steps: 15,
  rowsPerStep: 4,
  rowsPerMicrobatch: 1,
  contextLength: 32,
  // Few weights: on such a way TCP-like transports get some 100 kB/s, and each step takes the weights there and back.
  model: { hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 1, num_key_value_heads: 1, head_dim: 16 },
};

declare global {
  interface Window {
    /** Every connection that the page has made. */
    rtcConnections: RTCPeerConnection[];
  }
}

/** In the page: as in a network that lets nothing through but the way to a relay. */
function relayOnly(): void {
  const Original = RTCPeerConnection;
  window.rtcConnections = [];
  window.RTCPeerConnection = class extends Original {
    constructor(configuration?: RTCConfiguration) {
      super({ ...configuration, iceTransportPolicy: 'relay' });
      window.rtcConnections.push(this);
    }
  };
}

interface Way {
  readonly local: string;
  readonly remote: string;
}

/** Of each connection that is open: the kinds of candidates that it goes by. */
function waysOf(page: Page): Promise<readonly Way[]> {
  return page.evaluate(async () => {
    const open = window.rtcConnections.filter(({ connectionState }) => connectionState === 'connected');
    const reports = await Promise.all(open.map((connection) => connection.getStats()));
    return reports.map((report) => {
      const entries = new Map<string, { type: string; selectedCandidatePairId?: string; localCandidateId?: string; remoteCandidateId?: string; candidateType?: string }>();
      report.forEach((entry: { id: string; type: string }) => entries.set(entry.id, entry));
      const chosen = [...entries.values()].find(({ type }) => type === 'transport')?.selectedCandidatePairId ?? '';
      const { localCandidateId = '', remoteCandidateId = '' } = entries.get(chosen) ?? {};
      return { local: entries.get(localCandidateId)?.candidateType ?? 'unknown', remote: entries.get(remoteCandidateId)?.candidateType ?? 'unknown' };
    });
  });
}

const finished = (page: Page): Promise<PageStatus> =>
  statusWhen(page, 'finished', ({ phase, history, steps }) => phase === 'finished' && history.length === steps, 100_000);

const turnProgram = findTurnServer();

test('a room trains through a relay alone, over a slow network that loses packets', async ({ openPage }) => {
  test.skip(turnProgram === null, 'there is no turnserver on this machine (Debian: apt-get install coturn)');
  test.setTimeout(240_000);
  const turn = await startTurnServer(turnProgram ?? '');
  const proxy = await startUdpProxy({ targetPort: turn.port, delayMs, loss, seed: 1 });
  const server = await startServer({ args: ['--turn-url', `turn:127.0.0.1:${proxy.port}?transport=udp`, '--turn-secret', turn.secret] });
  const pages: Page[] = [];
  try {
    const open = (): Promise<Page> => openPage({ at: server.url, before: relayOnly });
    const [ada, ben] = await Promise.all([open(), open()]);
    pages.push(ada, ben);
    const link = await createPausedRoom(ada, { ...run, name: 'Ada' });
    await joinRoom(ben, link, { name: 'Ben' });
    await statusWhen(ada, 'Ben has the weights', ({ peers }) => peers.some(({ name, state }) => name === 'Ben' && state === 'ready'));
    await ada.evaluate(() => window.cotrain.resume());
    await statusWhen(ada, 'both at work', ({ peers }) => peers.every(({ microbatches }) => microbatches > 0));

    for (const page of [ada, ben]) {
      expect(await waysOf(page)).toEqual([{ local: 'relay', remote: 'relay' }]);
      const connection = page.getByTestId('peer-connection');
      await expect(connection).toHaveText(/^relayed · \d+\sms/);
      // There and back, through the proxy four times.
      expect(Number(/(\d+)\sms/.exec(await connection.innerText())?.[1]), 'round-trip time, ms').toBeGreaterThanOrEqual(4 * delayMs);
    }

    const [led, followed] = await Promise.all([finished(ada), finished(ben)]);
    expect(led.history.map(({ step }) => step)).toEqual(led.history.map((_, index) => index));
    expect(followed.history).toEqual(led.history);
    expect(followed.replicaHash).toBe(led.replicaHash);
    for (const page of pages) await expectNoProblem(page);

    const { clients, delivered, dropped, bytes } = proxy.traffic;
    console.log(`relayed ${delivered} datagrams, ${(bytes / 1e6).toFixed(1)} MB, for ${clients} sockets; lost ${dropped}`);
    expect(dropped).toBeGreaterThan(0);
    // Every step's update and contributions went this way, to the relay and back.
    expect(bytes).toBeGreaterThan(led.history.reduce((sum, point) => sum + 2 * (point.bytesUp + point.bytesDown), 0));

    await ada.evaluate(() => window.cotrain.leave());
    await createRoom(ada, run);
    const alone = await finished(ada);
    expect(largestDifference(led, alone), 'largest relative difference of losses to a room of one').toBeLessThan(1e-4);
  } finally {
    // First, or they would miss the server.
    await Promise.all(pages.map((page) => page.context().close()));
    proxy.close();
    await Promise.all([turn.stop(), server.stop()]);
  }
});
