/** Coordinator and member as the session drives them, over real links: what the machines' own tests cannot show. */
import { afterEach, describe, expect, it } from 'vitest';
import type { HistoryPoint, Step } from '../../src/room/messages.ts';
import { DriverRoom } from './session-room.ts';
import type { RoomOptions } from './session-room.ts';
import type { Trainer } from '../../src/trainer/types.ts';

/** Figures with all their digits, as a run really has them. */
function historyOf(steps: number): HistoryPoint[] {
  return Array.from({ length: steps }, (_, at) => ({
    step: at as Step,
    loss: 1 + Math.exp(-at / 1000),
    gradNorm: Math.SQRT2 / (at + 1),
    lr: 3e-4 / (1 + at / 7),
    ms: 100 + Math.sin(at),
    tokens: 2048,
    bytesDown: 4 * at,
    bytesUp: 7 * at,
    ...(at % 100 === 99 && { validationLoss: 2 + Math.cos(at) }),
    replicaHash: (at * 0x9e3779b9).toString(16).padStart(16, '0').slice(-16),
  }));
}

type Replica = Awaited<ReturnType<Trainer['replica']>>;

/** A trainer whose first replicas come out otherwise; then it is as it was. */
function firstReplicas(...others: readonly ((real: Replica) => Promise<Replica>)[]) {
  return (trainer: Trainer): Trainer => {
    const left = [...others];
    const replica = async (): Promise<Replica> => {
      const real = await trainer.replica();
      return left.shift()?.(real) ?? real;
    };
    return { ...trainer, replica };
  };
}

let room: DriverRoom;
async function opened(options: RoomOptions): Promise<DriverRoom> {
  room = await DriverRoom.open(options);
  return room;
}
afterEach(() => room.close());

describe('joining late', () => {
  it('brings the whole history, whatever its length, and every step committed while it was on its way', async () => {
    const before = historyOf(60_000);
    const { lead } = await opened({ history: before, steps: before.length + 12, evalEvery: 4 });
    const bob = room.join('bob', {
      wires: (wires) => {
        wires.bulk[1].stalled = true;
      },
    });
    await room.until('Bob is welcomed', () => bob.driver.view.wasWelcomed);
    room.command('resume');
    await room.until('six steps more', () => lead.view.step >= before.length + 6);
    bob.wires.bulk[1].stalled = false;
    await room.until('both are at the end', () => lead.view.phase === 'finished' && bob.driver.view.replica?.step === lead.view.step);
    expect(bob.driver.view.history).toHaveLength(before.length + 12);
    expect(bob.driver.view.history).toEqual(lead.view.history);
    expect(room.notices).toEqual([]);
  });

  it('fetches a history again that is not what was announced', async () => {
    const before = historyOf(100);
    await opened({ history: before, steps: 200 });
    let isDamaged = false;
    const eye = room.join('eye', {
      watch: true,
      wires: ({ bulk }) => {
        bulk[1].tap = (frame) => {
          if (!isDamaged) frame.set([1 ^ (frame.at(-1) ?? 0)], frame.byteLength - 1);
          isDamaged = true;
          return frame;
        };
      },
    });
    await room.until('Eye hangs up', () => eye.notices.length > 0);
    expect(eye.notices.join()).toMatch(/sent a history that this page does not understand/);
    expect(eye.driver.view.history).toEqual([]);
    room.pass(1_000);
    await room.until('Eye sees the curve', () => eye.driver.view.history.length > 0);
    expect(eye.driver.view.history).toEqual(before);
  });
});

describe('weights that can’t be read for a newcomer', () => {
  const fails = (): Promise<Replica> => Promise.reject(new Error('no memory left to read them into'));
  const isOfAnotherStep = async (real: Replica): Promise<Replica> => ({ ...real, step: real.step + 1 });

  it.each([
    ['fails', fails],
    ['gives those of another step', isOfAnotherStep],
  ])('are read again when the reading %s', async (_what, otherwise) => {
    const { lead } = await opened({ steps: 4, trainer: firstReplicas(otherwise) });
    const bob = room.join('bob');
    await room.until('Bob waits for the weights', () => bob.driver.view.connection === 'fetching');
    await room.until('they are due again', () => lead.view.peers.some((peer) => peer.name === 'bob' && peer.state === 'joining'));
    room.pass(2_500);
    await room.until('Bob has them', () => bob.driver.view.connection === 'joined');
    expect(bob.driver.view.replica).toMatchObject({ step: lead.view.step });
    room.command('resume');
    await room.until('the run is over', () => bob.driver.view.replica?.step === 4);
  });

  it('are given up after some attempts, and the newcomer is told why', async () => {
    const { lead } = await opened({ steps: 4, trainer: firstReplicas(fails, fails, fails) });
    const bob = room.join('bob');
    for (let attempt = 1; bob.driver.view.connection !== 'refused'; attempt += 1) {
      expect(attempt).toBeLessThanOrEqual(3);
      const isOver = () => bob.driver.view.connection === 'refused' || lead.view.peers.some((peer) => peer.name === 'bob' && peer.state === 'joining');
      await room.until(`attempt ${attempt} has failed`, isOver);
      room.pass(2_500);
    }
    expect(bob.problems.at(-1)).toMatchObject({
      code: 'weights-unreadable',
      message: expect.stringContaining('no memory left') as unknown,
      whatToDo: expect.stringContaining('join again') as unknown,
    });
    room.pass(2_500);
    expect(lead.view.peers).toHaveLength(1);
  });
});

it('a step that comes to no number pauses the room, and the page says which op went wrong first', async () => {
  const spoiled = (trainer: Trainer): Trainer => ({
    ...trainer,
    computeGradients: async (job) => ({ ...(await trainer.computeGradients(job)), lossSum: Number.NaN }),
    explainNonFinite: async ({ step, microbatches }) => `the op of step ${step}, in ${microbatches.length} micro-batches`,
  });
  const { lead } = await opened({ steps: 4, trainer: spoiled });
  room.command('resume');
  await room.until('the cause is known', () => room.problems.length > 1);
  expect(lead.view.phase).toBe('paused');
  const [first, second] = room.problems;
  expect(second).toEqual({ ...first, message: `${first?.message ?? ''} What happened first: the op of step 0, in 2 micro-batches.` });
});

it('a newcomer who can’t get in is told what to do by whoever knows', async () => {
  await opened({ steps: 4 });
  const eve = room.join('eve', { key: 'another key' });
  await room.until('Eve is turned away', () => eve.driver.view.connection === 'refused');
  expect(eve.problems.at(-1)).toMatchObject({ code: 'wrong-key', whatToDo: expect.stringContaining('whole invitation link') as unknown });
});

describe('the connections of a page', () => {
  it.each(['ada', 'ada-after-signalling-was-lost'])('go by the ids that peers have in the table, on both ends, where the coordinator is reached as %s', async (leadAt) => {
    const { lead } = await opened({ steps: 3 });
    expect(lead.connections.size).toBe(0);
    const bob = room.join('bob', { leadAt });
    expect(bob.driver.connections.size).toBe(0);
    await room.until('Bob has joined', () => bob.driver.view.connection === 'joined');
    room.pass(1000);
    await room.until('Bob is in the table', () => bob.driver.view.peers.length === 2);
    const idsOf = (role: string): readonly string[] => lead.view.peers.filter((peer) => peer.role === role).map(({ id }) => id);
    expect([...lead.connections.keys()]).toEqual(idsOf('member'));
    expect([...bob.driver.connections.keys()]).toEqual(idsOf('coordinator'));
    bob.driver.close('the test says so');
    expect(bob.driver.connections.size).toBe(0);
    await room.until('Ada has heard of it', () => lead.connections.size === 0);
  });

  it('are closed one after another when the page goes, and no peer is told that another one is gone', async () => {
    const { lead } = await opened({ steps: 3 });
    const [bob, cid] = [room.join('bob'), room.join('cid')];
    await room.until('both have joined', () => [bob, cid].every(({ driver }) => driver.view.connection === 'joined'));
    room.pass(1000);
    await room.until('both see the table', () => [bob, cid].every(({ driver }) => driver.view.peers.length === 3));
    room.pass(1000);
    const connections = [...lead.connections.values()];
    void lead.close('the tab was closed');
    for (const connection of connections) connection.close('the tab was closed');
    await room.until('both look for the room', () => [bob, cid].every(({ driver }) => driver.view.connection === 'finding'));
    expect([bob, cid].flatMap(({ driver }) => driver.view.gone)).toEqual([]);
  });
});

describe('updates through members', () => {
  const names = ['bob', 'cid', 'dan', 'eve'];

  it('reach everybody in pieces from one another, and from the coordinator when whoever forwards them is gone', async () => {
    const { lead } = await opened({ steps: 40, evalEvery: 0, relaysFrom: 3 });
    const guests = names.map((name) => room.join(name));
    const relays = () => lead.view.peers.filter(({ forwardsTo = 0 }) => forwardsTo > 0);
    await room.until('all have the weights', () => lead.view.peers.filter(({ state }) => state === 'ready').length === names.length + 1);
    room.pass(500);
    await room.until('three are fed', () => relays().reduce((sum, { forwardsTo = 0 }) => sum + forwardsTo, 0) === 3);
    const bytesOf = (at: number): number => lead.view.history[at]?.bytesDown ?? 0;
    room.command('resume');
    await room.until('some steps', () => lead.view.step >= 10);
    expect(bytesOf(lead.view.step - 1), 'three of four updates are not the coordinator’s to send').toBeLessThan((4 * bytesOf(0)) / 2);
    const relay = guests.find(({ driver }) => driver.view.self === relays()[0]?.id);
    await relay?.driver.leave();
    const others = guests.filter((guest) => guest !== relay);
    await room.until('the end', () => lead.view.phase === 'finished' && others.every(({ driver }) => driver.view.replica?.step === 40));
    for (const { driver, problems } of others) {
      expect(driver.view.replica?.hash).toBe(lead.view.history.at(-1)?.replicaHash);
      expect(problems.filter((problem) => problem !== null)).toEqual([]);
    }
  });
});
