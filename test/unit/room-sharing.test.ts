/** How a step is divided where contributions have to pass the coordinator's link, and how the link is measured. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { linkMsAfter, unused, usedBy } from '../../src/room/link.ts';
import { trialEverySteps } from '../../src/room/limits.ts';
import { shareOfStep } from '../../src/room/sharing.ts';
import type { Worker } from '../../src/room/sharing.ts';
import { believedComputeMs } from '../../src/room/speed.ts';
import { CoordinatorBench, peer } from '../room/bench.ts';

const self: Worker = { id: peer('ada'), perSecond: 2, updateMs: 0, wayMs: 0, isSelf: true, outstanding: 0, isNew: false, idleSteps: 0 };
const member = (name: string, change: Partial<Worker> = {}): Worker => ({ ...self, id: peer(name), isSelf: false, ...change });
const members = (count: number, change: Partial<Worker> = {}): Worker[] => Array.from({ length: count }, (_, at) => member(`m${at}`, change));

/** If the link takes contributions one after another, the first to be ready first. */
function stepMs(shares: ReadonlyMap<string, number>, workers: readonly Worker[], linkMs: number): number {
  const readyMs = workers.filter(({ id, isSelf }) => !isSelf && (shares.get(id) ?? 0) > 0).map(({ id, perSecond, updateMs }) => updateMs + (1000 * (shares.get(id) ?? 0)) / perSecond);
  const throughMs = readyMs.sort((a, b) => a - b).reduce((busyMs, ms) => Math.max(busyMs, ms) + linkMs, 0);
  const own = workers.find(({ isSelf }) => isSelf);
  return Math.max(throughMs, own === undefined ? 0 : (1000 * (shares.get(own.id) ?? 0)) / own.perSecond);
}

const counted = (shares: ReadonlyMap<string, number>): number => [...shares.values()].reduce((sum, share) => sum + share, 0);

describe('shares of a step', () => {
  it('are equal among equals where ways take no time', () => {
    const { shares } = shareOfStep(8, [self, ...members(3)], 0, 0);
    expect([...shares.values()]).toEqual([2, 2, 2, 2]);
  });

  it('are nobody’s but the coordinator’s where a contribution takes as long as the whole step', () => {
    const { shares } = shareOfStep(8, [self, ...members(3)], 0, 5_000);
    expect(Object.fromEntries(shares)).toEqual({ ada: 8 });
  });

  it('are so many that each member’s contribution finds the link free', () => {
    const workers = [self, ...members(15)];
    const { shares } = shareOfStep(64, workers, 0, 800);
    expect(counted(shares)).toBe(64);
    expect(stepMs(shares, workers, 800)).toBeLessThan(0.4 * (64 / 2) * 1000);
    expect(shares.size, 'some are left out').toBeLessThan(16);
  });

  it('try one that was left out again after a while, with one micro-batch', () => {
    const { shares } = shareOfStep(8, [self, ...members(3, { idleSteps: trialEverySteps })], 0, 5_000);
    expect(Object.fromEntries(shares)).toEqual({ ada: 7, m0: 1 });
  });

  it('never make a step clearly longer than it is for the coordinator alone', () => {
    const worker = fc.record({ perSecond: fc.double({ min: 0.1, max: 20, noNaN: true }), updateMs: fc.double({ min: 0, max: 20_000, noNaN: true }) });
    fc.assert(
      fc.property(fc.array(worker, { minLength: 1, maxLength: 12 }), fc.integer({ min: 1, max: 60 }), fc.double({ min: 0, max: 30_000, noNaN: true }), (others, count, linkMs) => {
        const workers = [self, ...others.map((change, at) => member(`m${at}`, change))];
        const { shares, ms } = shareOfStep(count, workers, 0, linkMs);
        expect(counted(shares)).toBe(count);
        if (ms === Infinity) return;
        const aloneMs = (1000 * count) / self.perSecond;
        expect(ms).toBeLessThanOrEqual(aloneMs + 1);
        expect(stepMs(shares, workers, linkMs)).toBeLessThanOrEqual(aloneMs + 1);
      }),
    );
  });
});

describe('the coordinator’s link', () => {
  it.each([
    ['one after another', [1_200, 1_400, 1_600]],
    ['all at once', [1_600, 1_600, 1_600]],
  ])('takes as long for a contribution when three come %s', (_how, arrivals) => {
    let use = unused;
    for (const nowMs of arrivals) use = usedBy(use, 1_000, nowMs);
    expect(linkMsAfter(null, use)).toBe(200);
  });

  it('is free while nobody has anything to send, and is remembered over steps without contributions', () => {
    expect(linkMsAfter(null, usedBy(usedBy(unused, 1_000, 1_100), 5_000, 5_100))).toBe(100);
    expect(linkMsAfter(100, unused)).toBe(100);
    expect(linkMsAfter(null, unused)).toBeNull();
  });

  it('is not made to look free by a member that says it computed all the time, nor all work drawn by one that says it did not', () => {
    expect(believedComputeMs(1e9, 400)).toBe(400);
    expect(believedComputeMs(0, 3_200)).toBe(100);
  });

  it('leads a room from full shares to such as fit it', () => {
    const room = new CoordinatorBench({ leaseUntilMs: Infinity, microbatchesPerStep: 12 });
    for (const name of ['bob', 'cid', 'dan']) room.join(name);
    // Each computes for 100 ms; a contribution then takes three seconds.
    for (let at = 0; at < 12; at += 1) {
      const beganMs = room.nowMs;
      const all = ['bob', 'cid', 'dan'].flatMap((name) => room.assigned(name).map(({ id }) => ({ name, id })));
      all.forEach(({ name, id }, index) => {
        room.nowMs = beganMs + 100 + 3_000 * (index + 1);
        room.contribute(name, id, { computeMs: 100 }).added(id);
      });
      room.nowMs = Math.max(room.nowMs, beganMs + 1_200);
      const own = room.state.own.running ?? '';
      room.ownResult().added(own).committed();
      for (const name of ['bob', 'cid', 'dan']) room.applied(name);
    }
    expect(room.state.linkMs).toBeGreaterThan(2_000);
    expect(['bob', 'cid', 'dan'].map((name) => room.microbatchesOf(name))).toEqual([0, 0, 0]);
  });
});
