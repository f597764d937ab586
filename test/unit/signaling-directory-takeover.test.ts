/** Who takes a room over: its holder, the named successor, then the others by their steps; and never two in one term. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { leaseMs, leaseWithoutSocketMs } from '../../signaling/directory.ts';
import { maxOffers } from '../../signaling/election.ts';
import { TestRoom, ledByAda, peerOf } from './signaling-room.ts';

describe('a room is taken over', () => {
  it('when its lease has run out, not a millisecond before', () => {
    const led = ledByAda(4);
    expect(led.wait(leaseMs - 1).claim('cid', 4)).toBe('held');
    expect(led.wait(1).claim('cid', 4)).toBe('led');
    expect(led.lease).toMatchObject({ coordinator: peerOf('cid'), term: 2, step: 4, expiresInMs: leaseMs });
  });

  it('by the first of two who saw it run out, even when it is free again by the time the second asks', () => {
    const led = ledByAda(0);
    led.wait(leaseMs).takeOver('cid', { term: 1 });
    expect(led.wait(leaseMs * 3).takeOver('dan', { term: 1, step: 9 })).toMatchObject({ ok: false, refusal: 'stale-term', lease: { coordinator: peerOf('cid'), term: 2 } });
  });

  it('under a new term with nobody named, nothing released, and the step that was claimed', () => {
    const led = ledByAda(9, { named: true });
    led.release('ada', { step: 9 });
    expect(led.claim('ben', 7)).toBe('led');
    expect(led.lease).toMatchObject({ term: 2, successor: false, isReleased: false, step: 7 });
  });
});

describe('the holder itself', () => {
  it('leads again at once, under a new term, when it has lost no step', () => {
    const led = ledByAda(9, { named: true });
    expect(led.wait(10).claim('ada', 9)).toBe('led');
    expect(led.lease).toMatchObject({ coordinator: peerOf('ada'), term: 2, step: 9 });
  });

  it('leads again at once with an older step when nobody has a newer one', () => {
    const led = ledByAda(9);
    expect(led.claim('ada', 5)).toBe('led');
    expect(led.lease).toMatchObject({ term: 2, step: 5 });
  });

  it('waits like everybody else with an older step when a successor has the newer one', () => {
    const led = ledByAda(9, { named: true });
    expect(led.claim('ada', 5)).toBe('held');
    expect(led.wait(leaseMs).claim('ada', 5)).toEqual({ askAgainInMs: 63_000 });
    expect(led.claim('ben', 9)).toBe('led');
  });
});

describe('the named successor', () => {
  it.each([
    ['ran out', (led: TestRoom) => led.wait(leaseMs)],
    ['was released', (led: TestRoom) => led.release('ada', { step: 9 })],
    ['ended with its coordinator’s socket', (led: TestRoom) => (led.socketCloses('ada'), led.wait(leaseWithoutSocketMs))],
  ])('leads at once when the lease %s, whoever else has asked', (_how, end) => {
    const led = ledByAda(9, { named: true });
    expect(led.claim('ben', 9)).toBe('held');
    end(led);
    for (const other of ['cid', 'dan']) expect(led.claim(other, 9)).not.toBe('led');
    expect(led.claim('ben', 9)).toBe('led');
  });

  it('is only whoever was named last', () => {
    const led = ledByAda(9, { named: true });
    led.renew('ada', { step: 9, successor: 'cid' });
    led.wait(leaseMs);
    expect(led.claim('ben', 9)).toEqual({ askAgainInMs: 10_000 });
    expect(led.claim('cid', 9)).toBe('led');
  });

  it('is nobody any more after a take-over', () => {
    const led = ledByAda(9, { named: true });
    led.claim('ada', 9);
    expect(led.claim('ben', 9)).toBe('held');
    expect(led.wait(leaseMs).claim('cid', 9)).toBe('led');
  });
});

describe('others who have the newest step', () => {
  it('need not wait when nobody is named', () => {
    const led = ledByAda(9);
    led.release('ada', { step: 9 });
    expect(led.claim('cid', 9)).toBe('led');
  });

  it('let the successor go first: 10 s when the lease ran out, 4 s when it was released', () => {
    const ranOut = ledByAda(9, { named: true }).wait(leaseMs);
    expect(ranOut.claim('cid', 9)).toEqual({ askAgainInMs: 10_000 });
    expect(ranOut.wait(9999).claim('cid', 9)).toEqual({ askAgainInMs: 1 });
    expect(ranOut.wait(1).claim('cid', 9)).toBe('led');
    const released = ledByAda(9, { named: true });
    released.release('ada', { step: 9 });
    released.wait(2000).release('ada', { step: 9 });
    expect(released.wait(1999).claim('cid', 12)).toEqual({ askAgainInMs: 1 });
    expect(released.wait(1).claim('cid', 12)).toBe('led');
    expect(released.lease.step).toBe(12);
  });

  it('go before those with older steps, however long these have asked', () => {
    const led = ledByAda(9);
    led.wait(leaseMs).claim('cid', 8);
    led.wait(62_000).claim('cid', 8);
    expect(led.claim('dan', 9)).toBe('led');
  });
});

describe('others whose step is older', () => {
  it.each([
    ['60 s when the lease ran out', { named: false, isReleased: false, waitMs: 60_000 }],
    ['60 s when it ran out and somebody is named', { named: true, isReleased: false, waitMs: 60_000 }],
    ['4 s when it was released', { named: false, isReleased: true, waitMs: 4000 }],
    ['10 s when it was released and somebody is named', { named: true, isReleased: true, waitMs: 10_000 }],
  ])('wait %s, and then 3 s for better ones', (_what, { named, isReleased, waitMs }) => {
    const led = ledByAda(9, { named });
    if (isReleased) led.release('ada', { step: 9 });
    else led.wait(leaseMs);
    expect(led.claim('cid', 8)).toEqual({ askAgainInMs: waitMs + 3000 });
    expect(led.wait(waitMs + 2999).claim('cid', 8)).toEqual({ askAgainInMs: 1 });
    expect(led.wait(1).claim('cid', 8)).toBe('led');
    expect(led.lease.step).toBe(8);
  });

  /** The lease ran out so long ago that offers count at once. */
  const longEnded = (): TestRoom => ledByAda(9).wait(leaseMs + 70_000);

  it('are heard for 3 s from the first of them; then the newest step leads', () => {
    const led = longEnded();
    expect(led.claim('cid', 5)).toEqual({ askAgainInMs: 3000 });
    expect(led.wait(2000).claim('dan', 7)).toEqual({ askAgainInMs: 1000 });
    expect(led.wait(1000).claim('cid', 5)).toEqual({ askAgainInMs: 3000 });
    expect(led.claim('dan', 7)).toBe('led');
    expect(led.claim('cid', 5)).toBe('held');
  });

  it('lead in the order in which they came when their steps are equal, and asking again keeps one’s place', () => {
    const led = longEnded();
    led.claim('cid', 5);
    led.claim('dan', 5);
    led.claim('cid', 5);
    expect(led.wait(3000).claim('dan', 5)).toEqual({ askAgainInMs: 3000 });
    expect(led.claim('cid', 5)).toBe('led');
  });

  it('lose their place by changing their step', () => {
    const led = longEnded();
    led.claim('cid', 7);
    led.claim('dan', 6);
    led.claim('cid', 6);
    expect(led.wait(3000).claim('cid', 6)).toEqual({ askAgainInMs: 3000 });
    expect(led.claim('dan', 6)).toBe('led');
  });

  it('have 3 s to ask again before the next best may lead', () => {
    const led = longEnded();
    led.claim('cid', 7);
    led.claim('dan', 6);
    led.claim('eve', 5);
    expect(led.wait(3000 + 2999).claim('dan', 6)).toEqual({ askAgainInMs: 1 });
    expect(led.claim('eve', 5)).toEqual({ askAgainInMs: 3001 });
    expect(led.wait(1 + 3000).claim('eve', 5)).toBe('led');
  });

  it('are heard for another 3 s when all who had offered are silent', () => {
    const led = longEnded();
    led.claim('cid', 7);
    led.claim('dan', 6);
    expect(led.wait(9000).claim('eve', 1)).toEqual({ askAgainInMs: 3000 });
    led.claim('dan', 6);
    expect(led.wait(3000).claim('dan', 6)).toBe('led');
  });

  it('lead at once when they come late with a step above all who were heard', () => {
    const led = longEnded();
    led.claim('cid', 5);
    expect(led.wait(4000).claim('dan', 6)).toBe('led');
  });

  it('start anew when the leader was back meanwhile', () => {
    const led = ledByAda(9).wait(leaseMs);
    led.claim('cid', 8);
    led.renew('ada', { step: 9 });
    expect(led.wait(leaseMs - 1).claim('cid', 8)).toBe('held');
    expect(led.wait(1).claim('cid', 8)).toEqual({ askAgainInMs: 63_000 });
    led.release('ada', { step: 9 });
    expect(led.claim('cid', 8)).toEqual({ askAgainInMs: 7000 });
  });

  it(`are never more than ${maxOffers} to be waited for: of more the weakest are dropped`, () => {
    const led = longEnded();
    for (let other = 0; other < 100; other += 1) led.claim(`other-${other}`, other % 8);
    expect(led.claim('cid', 6)).toEqual({ askAgainInMs: 3000 });
    // The eight best are twelve of step 7: nobody else's turn comes before theirs have passed.
    expect(led.wait(3000).claim('cid', 6)).toEqual({ askAgainInMs: maxOffers * 3000 });
    expect(led.claim('other-63', 7)).toEqual({ askAgainInMs: (maxOffers - 1) * 3000 });
    expect(led.claim('other-7', 7)).toBe('led');
  });
});

describe('whatever is asked in whatever order', () => {
  const people = ['ada', 'ben', 'cid', 'dan', 'eve'] as const;
  const who = fc.constantFrom(...people);
  const step = fc.nat({ max: 6 });
  // Mostly the term that holds: with random ones hardly a command would get further than the check of its term.
  const termOffset = fc.constantFrom(0, 0, 0, 0, -1, 1);
  const deed = fc.oneof(
    fc.record({ type: fc.constant('create' as const), who, step }),
    fc.record({ type: fc.constant('renew' as const), who, step, termOffset, successor: fc.option(who) }),
    fc.record({ type: fc.constant('takeOver' as const), who, step, termOffset }),
    fc.record({ type: fc.constant('takeOver' as const), who, step, termOffset }),
    fc.record({ type: fc.constant('release' as const), who, step, termOffset }),
    fc.record({ type: fc.constant('socketCloses' as const), who }),
  );
  // The rules' own times, and a little more or less.
  const waitMs = fc
    .tuple(fc.constantFrom(0, 0, 1500, 2000, 3000, 4000, 6000, 10_000, 60_000), fc.integer({ min: -1, max: 1 }))
    .map(([time, more]) => Math.max(0, time + more));
  const deeds = fc.array(fc.record({ deed, waitMs }), { maxLength: 60 });

  it('no term has two holders, terms only grow, a running lease is nobody else’s, and the successor is not refused after its end', () => {
    fc.assert(
      fc.property(deeds, (all) => {
        const led = new TestRoom();
        led.create('ada');
        const holderOfTerm = new Map<number, string>([[1, 'ada']]);
        let leader = 'ada';
        let successor: string | null = null;
        let endsMs = leaseMs;
        let highest = 1;
        for (const { deed, waitMs } of all) {
          led.wait(waitMs);
          if (deed.type === 'socketCloses') {
            led.socketCloses(deed.who);
            if (deed.who === leader) endsMs = Math.min(endsMs, led.nowMs + leaseWithoutSocketMs);
            continue;
          }
          const offset = deed.type === 'create' ? 0 : deed.termOffset;
          const outcome = led[deed.type](deed.who, { ...deed, term: highest + offset });
          if (deed.type === 'takeOver' && deed.who === successor && offset === 0 && led.nowMs >= endsMs) expect(outcome.ok).toBe(true);
          if (!outcome.ok) continue;
          const { term } = outcome.lease;
          expect(offset).toBe(0);
          expect(term).toBe(deed.type === 'takeOver' ? highest + 1 : highest);
          highest = term;
          if (deed.type === 'takeOver') {
            if (deed.who !== leader) expect(led.nowMs).toBeGreaterThanOrEqual(endsMs);
            leader = deed.who;
            successor = null;
          } else if (deed.type === 'renew') {
            successor = deed.successor;
          }
          // Every success says "this term is yours": it must be the same one's for ever.
          expect(holderOfTerm.get(term) ?? deed.who).toBe(deed.who);
          holderOfTerm.set(term, deed.who);
          endsMs = deed.type === 'release' ? Math.min(endsMs, led.nowMs) : led.nowMs + leaseMs;
          expect(led.lease).toMatchObject({ term, expiresInMs: Math.max(0, endsMs - led.nowMs), successor: successor !== null });
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('somebody who asks again whenever told to leads within a minute and a half', () => {
    fc.assert(
      fc.property(deeds, step, (all, step) => {
        const led = new TestRoom();
        led.create('ada');
        for (const { deed, waitMs } of all) {
          led.wait(waitMs);
          if (deed.type === 'socketCloses') led.socketCloses(deed.who);
          else led[deed.type](deed.who, { ...deed, term: led.lease.term });
        }
        // The lease, a minute, the window, and a turn for each of the others.
        const deadlineMs = led.nowMs + leaseMs + 63_000 + 3000 * people.length;
        let answer = led.claim('zoe', step);
        for (let asked = 0; asked < 20 && answer !== 'led'; asked += 1) {
          led.wait(typeof answer === 'object' ? answer.askAgainInMs : led.lease.expiresInMs);
          answer = led.claim('zoe', step);
        }
        expect(answer).toBe('led');
        expect(led.nowMs).toBeLessThanOrEqual(deadlineMs);
      }),
      { numRuns: 1000 },
    );
  });
});
