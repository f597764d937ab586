/** Who leads: claims and the lease's keeper against a real directory over HTTP, through conflicts, outages and a server that forgets. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeCertificate } from '../../signaling/certificate.ts';
import { startServer } from '../../signaling/server.ts';
import type { RunningServer } from '../../signaling/server.ts';
import { createDirectoryClient, DirectoryError, holderHash, newHolder } from '../../src/session/directory-client.ts';
import type { DirectoryClient, Lease, Renewal } from '../../src/session/directory-client.ts';
import { createRoom, LeaseKeeper, takeOver } from '../../src/session/lease.ts';
import { newRoomAddress } from '../../src/session/link.ts';

const certificate = makeCertificate(['localhost'], new Date());
const address = newRoomAddress();
let server: RunningServer;
let directory: DirectoryClient;

function start(port: number): Promise<RunningServer> {
  return startServer({ port, host: '127.0.0.1', certificate, ice: { turnUrls: [], turnSecret: null, stunUrls: [] }, pageDirectory: null });
}

beforeEach(async () => {
  server = await start(0);
  directory = createDirectoryClient(new URL(`http://127.0.0.1:${server.port}/`), address.room, address.key);
});
afterEach(() => server.close());

/** What somebody says to get a lease; everybody's step is 40. */
function claimOf(peerId: string, holder = newHolder()): { readonly peerId: string; readonly holder: string; readonly step: number } {
  return { peerId, holder, step: 40 };
}

/** Things that happen, each to be awaited once, in their order. */
class Happenings<T> {
  readonly all: T[] = [];
  #awaited = 0;
  #wake: () => void = () => undefined;

  readonly add = (happening: T): void => {
    this.all.push(happening);
    this.#wake();
  };

  async next(): Promise<T> {
    const index = this.#awaited;
    this.#awaited += 1;
    while (this.all.length <= index) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    // Whoever told of it comes to an end first: a keeper tells before it is ready for its next renewal.
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    return this.all[index] as T;
  }
}

interface Kept {
  readonly keeper: LeaseKeeper;
  readonly clock: { nowMs: number };
  /** So much time passes that a renewal is due. */
  readonly tick: () => void;
  readonly reachable: Happenings<boolean>;
  readonly named: Happenings<string | null>;
  readonly heldUntil: Happenings<number>;
  readonly deposed: Happenings<Lease | null>;
  readonly led: { peerId: string; step: number };
}

function keep(peerId: string, holder: string, term: number, through: DirectoryClient = directory, wasForgotten = false): Kept {
  const clock = { nowMs: 5000 };
  const reachable = new Happenings<boolean>();
  const named = new Happenings<string | null>();
  const heldUntil = new Happenings<number>();
  const deposed = new Happenings<Lease | null>();
  const led = { peerId, step: 40 };
  const keeper = new LeaseKeeper(
    {
      directory: through,
      holder,
      peerId: () => led.peerId,
      step: () => led.step,
      nowMs: () => clock.nowMs,
      reachable: reachable.add,
      named: named.add,
      heldUntil: heldUntil.add,
      deposed: deposed.add,
    },
    { term, wasForgotten },
  );
  const tick = (): void => {
    clock.nowMs += 1500;
    keeper.tick();
  };
  return { keeper, clock, tick, reachable, named, heldUntil, deposed, led };
}

interface Sent {
  readonly renewal: Renewal;
  readonly answer: () => void;
  readonly refuse: (error: DirectoryError) => void;
}

/** A directory that answers a renewal when the test lets it. */
function slowDirectory(): { readonly slow: DirectoryClient; readonly sent: Happenings<Sent> } {
  const sent = new Happenings<Sent>();
  const lease = { coordinator: 'ada', term: 1, expiresInMs: 6000, isReleased: false, step: 40, successor: true };
  const slow: DirectoryClient = {
    ...directory,
    renew: (renewal) =>
      new Promise((resolve, reject) => {
        sent.add({
          renewal,
          answer: () => {
            resolve(lease);
          },
          refuse: reject,
        });
      }),
    release: async () => undefined,
  };
  return { slow, sent };
}

/** A new room that this one leads. */
async function leading(peerId: string, holder = newHolder()): Promise<Kept> {
  expect(await createRoom(directory, { ...claimOf(peerId, holder), term: 1 })).toEqual({ kind: 'led', term: 1 });
  return keep(peerId, holder, 1);
}

describe('a claim to a room', () => {
  it('that is new makes its sender the leader; another learns who leads', async () => {
    await leading('ada');
    const ben = claimOf('ben');
    expect(await createRoom(directory, { ...ben, term: 1 })).toMatchObject({ kind: 'led-by-other', lease: { coordinator: 'ada', term: 1, step: 40 } });
    expect(await takeOver(directory, { ...ben, expectedTerm: 1, isWarm: true })).toMatchObject({ kind: 'led-by-other', lease: { coordinator: 'ada', term: 1 } });
  });

  it('is granted to the named successor once the lease was released; whoever asks later learns who leads', async () => {
    const ada = await leading('ada');
    const ben = claimOf('ben');
    ada.keeper.name(await holderHash(ben.holder));
    await ada.named.next();
    await ada.keeper.release();
    expect(await takeOver(directory, { ...ben, expectedTerm: 1, isWarm: true })).toEqual({ kind: 'led', term: 2 });
    expect(await takeOver(directory, { ...claimOf('cid'), expectedTerm: 1, isWarm: false })).toMatchObject({ kind: 'led-by-other', lease: { coordinator: 'ben', term: 2 } });
  });

  it('has to wait, and says how long, while others are heard', async () => {
    const ada = await leading('ada');
    await ada.keeper.release();
    const outcome = await takeOver(directory, { ...claimOf('ben'), expectedTerm: 1, isWarm: false });
    expect(outcome).toEqual({ kind: 'wait', retryInMs: expect.closeTo(3000) as number });
  });

  it('of a successor that goes on from what it has saved has to wait too', async () => {
    const ada = await leading('ada');
    const ben = claimOf('ben');
    ada.keeper.name(await holderHash(ben.holder));
    await ada.named.next();
    await ada.keeper.release();
    expect(await takeOver(directory, { ...ben, expectedTerm: 1, isWarm: false })).toMatchObject({ kind: 'wait' });
  });

  it('whose answer was lost is granted when it is sent again', async () => {
    const ada = { ...claimOf('ada'), term: 1 };
    await createRoom(directory, ada);
    expect(await createRoom(directory, ada)).toEqual({ kind: 'led', term: 1 });
    const again = { ...claimOf('ada-reloaded', ada.holder), expectedTerm: 1, isWarm: false };
    await takeOver(directory, again);
    expect(await takeOver(directory, again)).toEqual({ kind: 'led', term: 2 });
    await directory.release({ holder: ada.holder, term: 2, step: 40 });
    expect(await takeOver(directory, again)).toMatchObject({ kind: 'led-by-other', lease: { term: 2, expiresInMs: 0 } });
  });

  it('tells a forgotten room, a wrong key and a server that is gone apart', async () => {
    const ada = claimOf('ada');
    expect(await takeOver(directory, { ...ada, expectedTerm: 1, isWarm: false })).toEqual({ kind: 'forgotten' });
    await createRoom(directory, { ...ada, term: 1 });
    const stranger = createDirectoryClient(new URL(`http://127.0.0.1:${server.port}/`), address.room, 'another key');
    await expect(takeOver(stranger, { ...ada, expectedTerm: 1, isWarm: false })).rejects.toMatchObject({ kind: 'forbidden' });
    await server.close();
    expect(await takeOver(directory, { ...ada, expectedTerm: 1, isWarm: false })).toEqual({ kind: 'unreachable' });
    expect(await createRoom(directory, { ...ada, term: 1 })).toEqual({ kind: 'unreachable' });
    server = await start(0);
  });
});

describe('the keeper of a lease', () => {
  it('renews every 1.5 s, with the peer id and the step as they are by then', async () => {
    const ada = await leading('ada');
    ada.keeper.tick();
    await ada.reachable.next();
    ada.led.step = 41;
    ada.led.peerId = 'ada-later';
    ada.clock.nowMs += 1499;
    ada.keeper.tick();
    expect(await directory.lookUp()).toMatchObject({ step: 40, coordinator: 'ada' });
    ada.clock.nowMs += 1;
    ada.keeper.tick();
    expect(await ada.reachable.next()).toBe(true);
    expect(await directory.lookUp()).toMatchObject({ step: 41, coordinator: 'ada-later' });
    expect(ada.reachable.all).toEqual([true, true]);
  });

  it('tells when the same browser, reloaded, leads under a higher term', async () => {
    const holder = newHolder();
    const ada = await leading('ada', holder);
    await takeOver(directory, { ...claimOf('ada-reloaded', holder), expectedTerm: 1, isWarm: false });
    ada.tick();
    expect(await ada.deposed.next()).toMatchObject({ coordinator: 'ada-reloaded', term: 2 });
    ada.tick();
    ada.keeper.name(null);
    await ada.keeper.release();
    expect(await directory.lookUp()).toMatchObject({ isReleased: false });
    expect(ada.deposed.all).toHaveLength(1);
  });

  it('hands the lease back with the newest step', async () => {
    const ada = await leading('ada');
    ada.led.step = 44;
    await ada.keeper.release();
    expect(await directory.lookUp()).toMatchObject({ isReleased: true, step: 44, expiresInMs: 0 });
  });

  it('sends nothing more once it has handed the lease back', async () => {
    const ada = await leading('ada');
    const sent: Renewal[] = [];
    const watched: DirectoryClient = {
      ...directory,
      renew: (renewal) => {
        sent.push(renewal);
        return directory.renew(renewal);
      },
    };
    const { keeper, tick } = keep('ada', newHolder(), ada.keeper.term, watched);
    await keeper.release();
    tick();
    keeper.name(null);
    expect(sent).toEqual([]);
  });

  it('leads on when the directory cannot be reached, and claims the term when it is back', async () => {
    const { port } = server;
    await server.close();
    const ada = keep('ada', newHolder(), 8);
    ada.tick();
    expect(await ada.reachable.next()).toBe(false);
    server = await start(port);
    ada.tick();
    expect(await ada.reachable.next()).toBe(true);
    expect(await directory.lookUp()).toMatchObject({ coordinator: 'ada', term: 8, step: 40 });
    expect(ada.deposed.all).toEqual([]);
  });

  it('takes a room back that its directory has forgotten and somebody with a lower term was first to bring back', async () => {
    const [ada, ben] = [keep('ada', newHolder(), 8), keep('ben', newHolder(), 7)];
    ben.tick();
    await ben.reachable.next();
    ada.tick();
    expect(await ada.reachable.next()).toBe(true);
    expect(await directory.lookUp()).toMatchObject({ coordinator: 'ada', term: 8 });
    ben.tick();
    expect(await ben.deposed.next()).toMatchObject({ coordinator: 'ada', term: 8 });
    expect(ada.deposed.all).toEqual([]);
  });

  it('does not bring a forgotten room back that it has just left', async () => {
    const { slow, sent } = slowDirectory();
    const created: unknown[] = [];
    const watched: DirectoryClient = {
      ...slow,
      create: (claim) => {
        created.push(claim);
        return directory.create(claim);
      },
    };
    const { keeper } = keep('ada', newHolder(), 8, watched);
    keeper.tick();
    const renewal = await sent.next();
    await keeper.release();
    renewal.refuse(new DirectoryError('not-found', { refusal: 'not-found', lease: null, retryInMs: null }));
    expect(await directory.lookUp()).toBeNull();
    expect(created).toEqual([]);
  });
});

describe('a successor’s name', () => {
  it('reaches the directory at once, is told once, and stays with every renewal', async () => {
    const ada = await leading('ada');
    const secret = newHolder();
    const hash = await holderHash(secret);
    ada.keeper.name(hash);
    expect(await ada.named.next()).toBe(hash);
    expect(await directory.lookUp()).toMatchObject({ successor: true });
    await ada.reachable.next();
    ada.tick();
    await ada.reachable.next();
    expect(ada.named.all).toEqual([hash]);
    await ada.keeper.release();
    // Not so to anybody else.
    expect(await takeOver(directory, { ...claimOf('ben', secret), expectedTerm: 1, isWarm: true })).toEqual({ kind: 'led', term: 2 });
  });

  it('is taken back by naming nobody', async () => {
    const ada = await leading('ada');
    ada.keeper.name(await holderHash(newHolder()));
    await ada.named.next();
    ada.keeper.name(null);
    expect(await ada.named.next()).toBeNull();
    expect(await directory.lookUp()).toMatchObject({ successor: false });
  });

  it('is tried again at every renewal until the directory has it', async () => {
    const { port } = server;
    const ada = await leading('ada');
    ada.tick();
    const held = await ada.heldUntil.next();
    await ada.reachable.next();
    await server.close();
    const hash = await holderHash(newHolder());
    ada.keeper.name(hash);
    expect(await ada.reachable.next()).toBe(false);
    ada.tick();
    expect(await ada.reachable.next()).toBe(false);
    expect(ada.named.all).toEqual([]);
    server = await start(port);
    ada.tick();
    expect(await ada.reachable.next()).toBe(true);
    for (const whileForgottenLeadersMayComeForward of [1500, 3000, 4500]) {
      ada.tick();
      expect(await ada.reachable.next(), `${whileForgottenLeadersMayComeForward} ms`).toBe(true);
    }
    expect([ada.named.all, ada.heldUntil.all]).toEqual([[], [held]]);
    ada.tick();
    expect(await ada.named.next()).toBe(hash);
    expect(ada.keeper.heldUntilMs).toBe(ada.clock.nowMs + 5400);
    expect(await directory.lookUp()).toMatchObject({ coordinator: 'ada', term: 1, successor: true });
  });

  it('counts only after half a minute where the directory forgot a lease that had run out: another, forgotten too, may lead by a newer one', async () => {
    const { port } = server;
    const ada = await leading('ada');
    ada.tick();
    const held = await ada.heldUntil.next();
    await ada.reachable.next();
    await server.close();
    ada.clock.nowMs += 6_000;
    server = await start(port);
    do ada.tick();
    while (!(await ada.reachable.next()));
    const claimedMs = ada.clock.nowMs;
    ada.keeper.name(null);
    while (ada.clock.nowMs + 1_500 < claimedMs + 30_000) {
      await ada.reachable.next();
      ada.tick();
    }
    await ada.reachable.next();
    expect([ada.named.all, ada.heldUntil.all]).toEqual([[], [held]]);
    ada.tick();
    expect(await ada.named.next()).toBeNull();
  });

  it('is said again to a directory that was restarted, and told no second time', async () => {
    const { port } = server;
    const ada = await leading('ada');
    const hash = await holderHash(newHolder());
    ada.keeper.name(hash);
    await ada.named.next();
    await ada.reachable.next();
    await server.close();
    server = await start(port);
    // A connection that the old server left behind may fail first.
    do ada.tick();
    while (!(await ada.reachable.next()));
    expect(await directory.lookUp()).toMatchObject({ term: 1, successor: false });
    ada.tick();
    expect(await ada.reachable.next()).toBe(true);
    expect(await directory.lookUp()).toMatchObject({ term: 1, successor: true });
    expect(ada.named.all).toEqual([hash]);
  });

  it('replaces an older one that is still on its way: only the newer is told, and its renewal counts as the newer', async () => {
    await leading('ada');
    const { slow, sent } = slowDirectory();
    const ada = keep('ada', newHolder(), 1, slow);
    ada.keeper.name('ben');
    const first = await sent.next();
    ada.keeper.name('cid');
    ada.keeper.name('dan');
    ada.tick();
    expect(sent.all).toHaveLength(1);
    first.answer();
    const second = await sent.next();
    expect(ada.named.all).toEqual([]);
    second.answer();
    expect(await ada.named.next()).toBe('dan');
    expect(sent.all.map(({ renewal: { successorHash, sequence } }) => [successorHash, sequence])).toEqual([['ben', 1], ['dan', 2]]);
  });
});

describe('a lease can be relied on', () => {
  /** Ada's first renewal was sent at 10 s and answered at once. */
  async function renewedAt10s(): Promise<Kept & { readonly sent: Happenings<Sent> }> {
    const { slow, sent } = slowDirectory();
    const ada = keep('ada', newHolder(), 1, slow);
    ada.clock.nowMs = 10_000;
    ada.keeper.tick();
    (await sent.next()).answer();
    await ada.heldUntil.next();
    return { ...ada, sent };
  }

  it('for 5.4 s from when a renewal was sent, however long its answer took, and not before the first', async () => {
    const { slow, sent } = slowDirectory();
    const ada = keep('ada', newHolder(), 1, slow);
    expect(ada.keeper.heldUntilMs).toBeLessThanOrEqual(ada.clock.nowMs);
    ada.clock.nowMs = 10_000;
    ada.keeper.tick();
    const renewal = await sent.next();
    ada.clock.nowMs = 11_900;
    expect(ada.heldUntil.all).toEqual([]);
    renewal.answer();
    expect(await ada.heldUntil.next()).toBe(15_400);
    expect(ada.keeper.heldUntilMs).toBe(15_400);
  });

  it('not for 30 s where the room had been forgotten: whoever led it may come forward', async () => {
    const { slow, sent } = slowDirectory();
    const ada = keep('ada', newHolder(), 7, slow, true);
    for (const nowMs of [5_000, 20_000, 33_400]) {
      ada.clock.nowMs = nowMs;
      ada.tick();
      (await sent.next()).answer();
      await ada.reachable.next();
    }
    expect(ada.heldUntil.all).toEqual([]);
    ada.tick();
    (await sent.next()).answer();
    expect(await ada.heldUntil.next()).toBe(ada.clock.nowMs + 5_400);
  });

  it('no longer because a renewal was refused or had no answer', async () => {
    const ada = await renewedAt10s();
    ada.tick();
    (await ada.sent.next()).refuse(new DirectoryError('unreachable', { refusal: 'no answer', lease: null, retryInMs: null }));
    expect([await ada.reachable.next(), await ada.reachable.next()]).toEqual([true, false]);
    expect(ada.keeper.heldUntilMs).toBe(15_400);
    expect(ada.heldUntil.all).toEqual([15_400]);
  });

  it('for 1.8 s after the signalling socket closed, until a renewal that was sent later', async () => {
    const ada = await renewedAt10s();
    ada.tick();
    const before = await ada.sent.next();
    ada.clock.nowMs = 12_000;
    ada.keeper.socketClosed();
    expect(await ada.heldUntil.next()).toBe(13_800);
    // The directory may have had it before it missed the socket.
    before.answer();
    await ada.reachable.next();
    await ada.reachable.next();
    expect(ada.keeper.heldUntilMs).toBe(13_800);
    ada.clock.nowMs = 13_000;
    ada.keeper.tick();
    (await ada.sent.next()).answer();
    expect(await ada.heldUntil.next()).toBe(18_400);
  });

  it('no longer than before when the socket closes shortly before its end', async () => {
    const ada = await renewedAt10s();
    ada.clock.nowMs = 15_000;
    ada.keeper.socketClosed();
    expect(await ada.heldUntil.next()).toBe(15_400);
  });

  it('not from the moment in which it is handed back, nor after a renewal that is answered late', async () => {
    const ada = await renewedAt10s();
    ada.tick();
    const renewal = await ada.sent.next();
    ada.clock.nowMs = 12_000;
    const released = ada.keeper.release();
    expect(await ada.heldUntil.next()).toBe(12_000);
    renewal.answer();
    await released;
    expect(ada.keeper.heldUntilMs).toBe(12_000);
  });

  it('not from the moment in which somebody else is found to lead', async () => {
    const ada = await renewedAt10s();
    ada.tick();
    (await ada.sent.next()).refuse(new DirectoryError('conflict', { refusal: 'stale-term', lease: null, retryInMs: null }));
    await ada.deposed.next();
    expect(ada.keeper.heldUntilMs).toBe(11_500);
    ada.keeper.socketClosed();
    expect(ada.keeper.heldUntilMs).toBe(11_500);
  });
});
