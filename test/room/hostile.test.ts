import { expect, test } from 'vitest';
import type { Lie } from './member-host.ts';
import { Random } from './random.ts';
import { longTestMs, seeds, Simulation } from './simulator.ts';
import { tinyRun, undisturbedLosses } from './tiny-run.ts';

const steps = 20;

/** What can be found out is found out: wrong sizes, numbers that are not finite, wrong weights, repeats, made-up claims. */
const lies: Readonly<Record<string, Lie>> = {
  'bytes cut short': (header, bytes) => [{ header, bytes: bytes.slice(0, bytes.byteLength - 4) }],
  'a value that is not a number': (header, bytes) => {
    const values = new Float32Array(bytes.slice(0));
    values[3] = Number.NaN;
    return [{ header, bytes: values.buffer }];
  },
  'another sum of loss weights': (header, bytes) => [{ header: { ...header, weightSum: header.weightSum * 2 }, bytes }],
  'a negative loss': (header, bytes) => [{ header: { ...header, lossSum: -1 }, bytes }],
};

/** Lies that leave the true contribution in place: they must change nothing at all. */
const harmlessLies: Readonly<Record<string, Lie>> = {
  'everything three times': (header, bytes) => [1, 2, 3].map(() => ({ header, bytes })),
  'extra contributions for other steps, terms and assignments': (header, bytes) => [
    { header: { ...header, assignment: `${header.assignment}0` }, bytes },
    { header: { ...header, step: (header.step + 1) as typeof header.step }, bytes },
    { header: { ...header, term: (header.term + 1) as typeof header.term }, bytes },
    { header, bytes },
  ],
};

async function roomWith(seed: number, lie: Lie): Promise<Simulation> {
  const run = tinyRun(seed, steps);
  const room = new Simulation({ seed, run, undisturbed: await undisturbedLosses(run) });
  await room.lead('ada', { startPaused: true });
  room.join('bob');
  room.join('eve', { lie });
  await room.until('all are ready', 10_000, () => room.coordinator.view.peers.filter((peer) => peer.state === 'ready').length === 3);
  room.coordinator.dispatch({ type: 'command', command: 'resume' });
  return room;
}

test.each(Object.entries(lies))('a peer that sends %s is made a watcher, and no loss is touched', async (_what, lie) => {
  for (const seed of seeds(3)) {
    const room = await roomWith(seed, lie);
    await room.untilFinished(60_000);
    expect(room.world.ledger.countedBy.has('eve')).toBe(false);
    expect(room.coordinator.view.peers.find((peer) => peer.name === 'eve')).toMatchObject({ role: 'watcher', note: expect.stringContaining('refused') as string });
    expect(room.member('eve').view.role).toBe('watcher');
  }
});

test.each(Object.entries(harmlessLies))('a peer that sends %s changes nothing', async (_what, lie) => {
  for (const seed of seeds(3)) {
    const room = await roomWith(seed, lie);
    await room.untilFinished(60_000);
    expect(room.world.ledger.countedBy.get('eve')).toBeGreaterThan(0);
  }
});

test('a peer that lies only now and then does no harm either', { timeout: longTestMs }, async () => {
  for (const seed of seeds(12)) {
    const random = new Random(seed);
    const all = [...Object.values(lies), ...Object.values(harmlessLies)];
    const room = await roomWith(seed, (header, bytes) => (random.chance(0.3) ? random.pick(all)(header, bytes) : [{ header, bytes }]));
    await room.untilFinished(60_000);
  }
});

test('messages damaged in any way break neither the machines nor the count of micro-batches', { timeout: longTestMs }, async () => {
  for (const seed of seeds(25)) {
    const run = tinyRun(seed, 10);
    const room = new Simulation({ seed, run, undisturbed: await undisturbedLosses(run), countsOnly: true });
    room.world.network.faults = { ...room.world.network.faults, corrupt: 0.1, duplicate: 0.05 };
    await room.lead('ada');
    for (const name of ['bob', 'cid', 'dan']) room.join(name);
    await room.pass(10_000);
    // A damaged "pause" is a pause.
    room.coordinator.dispatch({ type: 'command', command: 'resume' });
    room.world.network.faults = { ...room.world.network.faults, corrupt: 0 };
    await room.until('all steps are done', 60_000, () => room.coordinator.state.phase === 'finished');
  }
});
