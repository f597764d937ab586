/** Who leads: the lease keeper against a real directory over HTTP, through conflicts and a server that forgets. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeCertificate } from '../../signaling/certificate.ts';
import { startServer } from '../../signaling/server.ts';
import type { RunningServer } from '../../signaling/server.ts';
import { createDirectoryClient, newHolder } from '../../src/session/directory-client.ts';
import type { Lease } from '../../src/session/directory-client.ts';
import { LeaseKeeper } from '../../src/session/lease.ts';
import { newRoomAddress } from '../../src/session/link.ts';

const certificate = makeCertificate(['localhost'], new Date());
let server: RunningServer;

function start(port: number): Promise<RunningServer> {
  return startServer({ port, host: '127.0.0.1', certificate, ice: { turnUrls: [], turnSecret: null, stunUrls: [] }, pageDirectory: null });
}

beforeEach(async () => {
  server = await start(0);
});
afterEach(() => server.close());

const address = newRoomAddress();

interface Watched {
  readonly keeper: LeaseKeeper;
  readonly reachable: boolean[];
  /** Resolves with the lease of whoever leads instead. */
  readonly deposed: Promise<Lease | null>;
  /** Resolves when the directory's next answer (or silence) was told. */
  readonly told: () => Promise<boolean>;
}

function keeperOf(peerId: string, holder: string, port: number): Watched {
  const reachable: boolean[] = [];
  let waiting: ((isReachable: boolean) => void) | null = null;
  let depose: (lease: Lease | null) => void = () => undefined;
  const deposed = new Promise<Lease | null>((resolve) => {
    depose = resolve;
  });
  const keeper = new LeaseKeeper({
    directory: createDirectoryClient(new URL(`http://127.0.0.1:${port}/`), address.room, address.key),
    holder,
    peerId: () => peerId,
    reachable: (isReachable) => {
      reachable.push(isReachable);
      waiting?.(isReachable);
    },
    deposed: depose,
  });
  const told = (): Promise<boolean> =>
    new Promise((resolve) => {
      waiting = resolve;
    });
  return { keeper, reachable, deposed, told };
}

const longAfter = Number.MAX_SAFE_INTEGER;

describe('the lease of a room', () => {
  it('goes to one peer; another learns who has it', async () => {
    const first = keeperOf('ada', newHolder(), server.port);
    const second = keeperOf('ben', newHolder(), server.port);
    expect(await first.keeper.acquire('ada', 0)).toBeNull();
    expect(first.keeper.term).toBe(1);
    const other = await second.keeper.acquire('ben', 1);
    expect(other).toMatchObject({ coordinator: 'ada', term: 1 });
  });

  it('is taken over at once, with a higher term, by the browser that holds it', async () => {
    const holder = newHolder();
    const before = keeperOf('ada-1', holder, server.port);
    await before.keeper.acquire('ada-1', 0);
    const after = keeperOf('ada-2', holder, server.port);
    expect(await after.keeper.acquire('ada-2', 1)).toBeNull();
    expect(after.keeper.term).toBe(2);
    before.keeper.tick(longAfter);
    expect(await before.deposed).toMatchObject({ coordinator: 'ada-2', term: 2 });
  });

  it('is free for others once it was released', async () => {
    const first = keeperOf('ada', newHolder(), server.port);
    await first.keeper.acquire('ada', 0);
    await first.keeper.release();
    const second = keeperOf('ben', newHolder(), server.port);
    expect(await second.keeper.acquire('ben', 1)).toBeNull();
    expect(second.keeper.term).toBe(2);
  });

  it('is claimed again, with the same term, from a server that was restarted', async () => {
    const port = server.port;
    const first = keeperOf('ada', newHolder(), port);
    await first.keeper.acquire('ada', 0);
    await server.close();
    const silence = first.told();
    first.keeper.tick(longAfter);
    expect(await silence).toBe(false);
    server = await start(port);
    const answer = first.told();
    first.keeper.tick(2 * longAfter);
    expect(await answer).toBe(true);
    const seen = await createDirectoryClient(new URL(`http://127.0.0.1:${port}/`), address.room, address.key).lookUp();
    expect(seen).toMatchObject({ coordinator: 'ada', term: 1 });
  });

  it('does not stand in the way of training when there is no server', async () => {
    const port = server.port;
    await server.close();
    const alone = keeperOf('ada', newHolder(), port);
    expect(await alone.keeper.acquire('ada', 0)).toBeNull();
    expect(alone.keeper.term).toBe(1);
    expect(alone.reachable).toEqual([false]);
    server = await start(port);
  });
});
