/** Who takes a room over: its holder, the named successor, then the others by their steps; and never two in one term. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { leaseMs, leaseWithoutSocketMs } from '../../signaling/directory.ts';
import { TestRoom, ledByAda, peerOf } from './signaling-room.ts';

describe('a room is taken over', () => {
  it('when its lease has run out, not a millisecond before', () => {
    const led = ledByAda(4, { named: true });
    led.wait(leaseMs - 1);
    expect([led.claimWarm('ben', 4), led.claim('cid', 4)]).toEqual(['held', 'held']);
    expect(led.wait(1).claimWarm('ben', 4)).toBe('led');
    expect(led.lease).toMatchObject({ coordinator: peerOf('ben'), term: 2, step: 4, expiresInMs: leaseMs });
  });

  it('by the first of two who saw it run out, even when it is free again by the time the second asks', () => {
    const led = ledByAda(0, { named: true });
    led.wait(leaseMs).claimWarm('ben', 0);
    expect(led.wait(leaseMs * 3).takeOver('dan', { term: 1, step: 9 })).toMatchObject({ ok: false, refusal: 'stale-term', lease: { coordinator: peerOf('ben'), term: 2 } });
  });

  it('under a new term with nobody named, nothing released, and the step that was claimed', () => {
    const led = ledByAda(9, { named: true });
    led.release('ada', { step: 9 });
    expect(led.claimWarm('ben', 12)).toBe('led');
    expect(led.lease).toMatchObject({ term: 2, successor: false, isReleased: false, step: 12 });
  });
});

describe('a room that a restarted directory was told of', () => {
  it('gets terms far above, another one for each who takes it over, since some may have been granted before', () => {
    const terms = ['ben', 'cid'].map((who) => {
      const led = new TestRoom();
      led.create('ada', { term: 4, isReclaim: true });
      expect(led.wait(leaseMs + 10_000).claim(who, 9)).toMatchObject({ askAgainInMs: 3000 });
      expect(led.wait(3000).claim(who, 9)).toBe('led');
      return led.lease.term;
    });
    for (const term of terms) expect(term).toBeGreaterThan(1_000);
    expect(new Set(terms).size).toBe(2);
  });
});

describe('the holder itself', () => {
  it('leads again at once, under a new term, when it gave the lease back and has lost no step', () => {
    const led = ledByAda(9, { named: true });
    led.release('ada', { step: 9 });
    expect(led.wait(10).claim('ada', 9)).toBe('led');
    expect(led.lease).toMatchObject({ coordinator: peerOf('ada'), term: 2, step: 9 });
  });

  it.each([
    ['runs', () => ledByAda(9)],
    ['has run out', () => ledByAda(9).wait(leaseMs)],
    ['was released', () => (led => (led.release('ada', { step: 9 }), led))(ledByAda(9))],
  ])('leads again at once with an older step when nobody is named and the lease %s', (_how, start) => {
    const led = start();
    expect(led.claim('ada', 5)).toBe('led');
    expect(led.lease).toMatchObject({ term: 2, step: 5 });
  });

  it('waits while somebody is named and may have steps that it had not reported', () => {
    const led = ledByAda(9, { named: true });
    expect(led.wait(10).claim('ada', 9)).toBe('held');
    expect(led.wait(leaseMs).claim('ada', 9)).toEqual({ askAgainInMs: 9_990 });
  });

  it('waits like everybody else with an older step when somebody is named, released or not', () => {
    const ranOut = ledByAda(9, { named: true });
    expect(ranOut.claim('ada', 5)).toBe('held');
    expect(ranOut.wait(leaseMs).claim('ada', 5)).toEqual({ askAgainInMs: 60_000 });
    expect(ranOut.claimWarm('ben', 9)).toBe('led');
    const released = ledByAda(9, { named: true });
    released.release('ada', { step: 9 });
    expect(released.claim('ada', 8)).toEqual({ askAgainInMs: 10_000 });
  });
});

describe('the named successor', () => {
  it.each([
    ['ran out', (led: TestRoom) => led.wait(leaseMs)],
    ['was released', (led: TestRoom) => led.release('ada', { step: 9 })],
    ['ended with its coordinator’s socket', (led: TestRoom) => (led.socketCloses('ada'), led.wait(leaseWithoutSocketMs))],
  ])('leads at once when the lease %s, whoever else has asked', (_how, end) => {
    const led = ledByAda(9, { named: true });
    expect(led.claimWarm('ben', 9)).toBe('held');
    end(led);
    for (const other of ['cid', 'dan']) expect(led.claim(other, 9)).not.toBe('led');
    expect(led.claimWarm('ben', 9)).toBe('led');
  });

  it('leads at once even when the last report was of a step that nobody but the leader had', () => {
    const led = ledByAda(9, { named: true }).wait(leaseMs);
    expect(led.claimWarm('ben', 8)).toBe('led');
    expect(led.lease.step).toBe(8);
  });

  it('is like everybody else once its page was reloaded and its memory is gone', () => {
    const led = ledByAda(9, { named: true }).wait(leaseMs);
    expect(led.claim('ben', 9)).toEqual({ askAgainInMs: 10_000 });
    expect(led.claim('ben', 8)).toEqual({ askAgainInMs: 60_000 });
    expect(led.keepClaiming('cid', 9, 9999)).toBe(false);
    led.claim('ben', 8);
    expect(led.wait(1).claim('cid', 9)).toBe('led');
  });

  it('is nobody who merely says that it goes on from memory', () => {
    const led = ledByAda(9, { named: true }).wait(leaseMs);
    expect(led.claimWarm('cid', 9)).toEqual({ askAgainInMs: 10_000 });
    expect(ledByAda(9).wait(leaseMs).claimWarm('cid', 9)).toEqual({ askAgainInMs: 3000 });
  });

  it('is only whoever was named last', () => {
    const led = ledByAda(9, { named: true });
    led.renew('ada', { step: 9, successor: 'cid' });
    led.wait(leaseMs);
    expect(led.claimWarm('ben', 9)).toEqual({ askAgainInMs: 10_000 });
    expect(led.claimWarm('cid', 9)).toBe('led');
  });

  it('is nobody any more after a take-over', () => {
    const led = ledByAda(9, { named: true });
    led.release('ada', { step: 9 });
    led.claim('ada', 9);
    expect(led.wait(leaseMs).claimWarm('ben', 9)).toEqual({ askAgainInMs: 3000 });
  });
});

describe('others who have the newest step', () => {
  it.each([
    ['ran out', (led: TestRoom) => led.wait(leaseMs)],
    ['was released', (led: TestRoom) => led.release('ada', { step: 9 })],
  ])('are heard for 3 s when the lease %s and nobody is named', (_how, end) => {
    const led = ledByAda(9);
    end(led);
    expect(led.claim('cid', 9)).toEqual({ askAgainInMs: 3000 });
    expect(led.wait(2999).claim('cid', 9)).toEqual({ askAgainInMs: 1 });
    expect(led.wait(1).claim('cid', 9)).toBe('led');
  });

  it('come after one who asked later and has saved a step that nobody had reported', () => {
    const led = ledByAda(9).wait(leaseMs);
    led.claim('cid', 9);
    expect(led.wait(1000).claim('dan', 10)).toEqual({ askAgainInMs: 2000 });
    expect(led.wait(2000).claim('cid', 9)).toEqual({ askAgainInMs: 7000 });
    expect(led.claim('dan', 10)).toBe('led');
    expect(led.lease.step).toBe(10);
  });

  it('let the successor go first: 10 s when the lease ran out, 4 s when it was released', () => {
    const ranOut = ledByAda(9, { named: true }).wait(leaseMs);
    expect(ranOut.claim('cid', 9)).toEqual({ askAgainInMs: 10_000 });
    expect(ranOut.keepClaiming('cid', 9, 9999)).toBe(false);
    expect(ranOut.claim('cid', 9)).toEqual({ askAgainInMs: 1 });
    expect(ranOut.wait(1).claim('cid', 9)).toBe('led');
    const released = ledByAda(9, { named: true });
    released.release('ada', { step: 9 });
    expect(released.claim('cid', 12)).toEqual({ askAgainInMs: 4000 });
    // Handing back what was handed back starts nothing anew.
    released.wait(2000).release('ada', { step: 9 });
    expect(released.wait(1999).claim('cid', 12)).toEqual({ askAgainInMs: 1 });
    expect(released.wait(1).claim('cid', 12)).toBe('led');
    expect(released.lease.step).toBe(12);
  });

  it('are heard for 3 s even when the successor’s time is nearly over', () => {
    const led = ledByAda(9, { named: true });
    led.release('ada', { step: 9 });
    expect(led.wait(3500).claim('cid', 9)).toEqual({ askAgainInMs: 3000 });
  });

  it('go before those with older steps, however long these have asked', () => {
    const led = ledByAda(9).wait(leaseMs);
    expect(led.keepClaiming('cid', 8, 59_000)).toBe(false);
    expect(led.claim('dan', 9)).toBe('led');
  });
});

describe('others whose step is older', () => {
  it.each([
    ['60 s when the lease ran out', { named: false, isReleased: false, waitMs: 60_000 }],
    ['60 s when it ran out and somebody is named', { named: true, isReleased: false, waitMs: 60_000 }],
    ['4 s when it was released', { named: false, isReleased: true, waitMs: 4000 }],
    ['10 s when it was released and somebody is named', { named: true, isReleased: true, waitMs: 10_000 }],
  ])('wait %s', (_what, { named, isReleased, waitMs }) => {
    const led = ledByAda(9, { named });
    if (isReleased) led.release('ada', { step: 9 });
    else led.wait(leaseMs);
    expect(led.claim('cid', 8)).toEqual({ askAgainInMs: waitMs });
    expect(led.keepClaiming('cid', 8, waitMs - 1)).toBe(false);
    expect(led.claim('cid', 8)).toEqual({ askAgainInMs: 1 });
    expect(led.wait(1).claim('cid', 8)).toBe('led');
    expect(led.lease.step).toBe(8);
  });

  it('start anew when the leader was back meanwhile, or gave the lease back at last', () => {
    const led = ledByAda(9).wait(leaseMs);
    led.claim('cid', 9);
    led.wait(1000).renew('ada', { step: 9 });
    expect(led.wait(leaseMs).claim('cid', 9)).toEqual({ askAgainInMs: 3000 });
    expect(led.claim('dan', 8)).toEqual({ askAgainInMs: 60_000 });
    led.wait(2000).release('ada', { step: 9 });
    expect(led.claim('cid', 9)).toEqual({ askAgainInMs: 3000 });
    expect(led.claim('dan', 8)).toEqual({ askAgainInMs: 4000 });
  });
});

describe('an election', () => {
  /** The lease ran out so long ago that everybody's head start is over. */
  const longEnded = (): TestRoom => ledByAda(9).wait(leaseMs + 70_000);

  it('goes on for 3 s from the first offer; then the newest step leads', () => {
    const led = longEnded();
    expect(led.claim('cid', 5)).toEqual({ askAgainInMs: 3000 });
    expect(led.wait(2000).claim('dan', 7)).toEqual({ askAgainInMs: 1000 });
    expect(led.wait(1000).claim('cid', 5)).toEqual({ askAgainInMs: 8000 });
    expect(led.claim('dan', 7)).toBe('led');
    expect(led.claim('cid', 5)).toBe('held');
  });

  it('is won by whoever came first of those with the same step, and asking again keeps one’s place', () => {
    const led = longEnded();
    led.claim('cid', 5);
    led.claim('dan', 5);
    led.claim('cid', 5);
    expect(led.wait(3000).claim('dan', 5)).toEqual({ askAgainInMs: 6000 });
    expect(led.claim('cid', 5)).toBe('led');
  });

  it('puts whoever changes its step behind those who had the new one before', () => {
    const led = longEnded();
    led.claim('cid', 7);
    led.claim('dan', 6);
    led.claim('cid', 6);
    expect(led.wait(3000).claim('cid', 6)).toEqual({ askAgainInMs: 6000 });
    expect(led.claim('dan', 6)).toBe('led');
  });

  it('forgets whoever has not asked for 9 s, and then the next best may lead', () => {
    const led = longEnded();
    led.claim('cid', 7);
    expect(led.wait(1000).claim('dan', 6)).toEqual({ askAgainInMs: 2000 });
    expect(led.wait(7999).claim('dan', 6)).toEqual({ askAgainInMs: 1 });
    expect(led.wait(1).claim('dan', 6)).toBe('led');
    const other = longEnded();
    other.claim('cid', 7);
    other.wait(1000).claim('dan', 6);
    expect(other.wait(7999).claim('cid', 7)).toBe('led');
  });

  it('begins again when all who had offered are silent', () => {
    const led = longEnded();
    led.claim('cid', 7);
    led.claim('dan', 6);
    expect(led.wait(9000).claim('eve', 1)).toEqual({ askAgainInMs: 3000 });
    expect(led.wait(1000).claim('dan', 6)).toEqual({ askAgainInMs: 2000 });
    expect(led.wait(2000).claim('eve', 1)).toEqual({ askAgainInMs: 7000 });
    expect(led.claim('dan', 6)).toBe('led');
  });

  it('is won at once by whoever comes late with a step above all that were offered', () => {
    const led = longEnded();
    led.claim('cid', 5);
    expect(led.wait(4000).claim('dan', 6)).toBe('led');
  });

  it('keeps eight offers: of more the weakest are dropped, and nobody waits for them', () => {
    const led = longEnded();
    // Twelve of them have step 7: the 7th, 15th, … 95th. The eight that came first are kept, of which the 63rd came last.
    for (let other = 0; other < 100; other += 1) led.wait(1).claim(`other-${other}`, other % 8);
    const sinceThe63rdMs = 99 - 63;
    expect(led.wait(8999 - sinceThe63rdMs).claim('cid', 6)).toEqual({ askAgainInMs: 1 });
    expect(led.wait(1).claim('cid', 6)).toBe('led');
  });
});

describe('whatever is asked in whatever order', () => {
  const people = ['ada', 'ben', 'cid', 'dan', 'eve'] as const;
  const who = fc.constantFrom(...people);
  const step = fc.nat({ max: 6 });
  const isWarm = fc.boolean();
  // Mostly the term that holds: with random ones hardly a command would get further than the check of its term.
  const termOffset = fc.constantFrom(0, 0, 0, 0, -1, 1);
  const deed = fc.oneof(
    fc.record({ type: fc.constant('create' as const), who, step, isReclaim: fc.boolean(), termOffset }),
    fc.record({ type: fc.constant('renew' as const), who, step, termOffset, successor: fc.option(who) }),
    fc.record({ type: fc.constant('takeOver' as const), who, step, isWarm, termOffset }),
    fc.record({ type: fc.constant('takeOver' as const), who, step, isWarm, termOffset }),
    fc.record({ type: fc.constant('release' as const), who, step, termOffset }),
    fc.record({ type: fc.constant('socketCloses' as const), who }),
  );
  // The rules' own times, and a little more or less.
  const waitMs = fc
    .tuple(fc.constantFrom(0, 0, 1500, 2000, 3000, 4000, 6000, 9000, 10_000, 60_000), fc.integer({ min: -1, max: 1 }))
    .map(([time, more]) => Math.max(0, time + more));
  const deeds = fc.array(fc.record({ deed, waitMs }), { maxLength: 60 });

  it('no term has two holders, terms only grow, a running lease is nobody else’s, and who has a right to it is not refused', () => {
    fc.assert(
      fc.property(deeds, (all) => {
        const led = new TestRoom();
        led.create('ada');
        const holderOfTerm = new Map<number, string>([[1, 'ada']]);
        let leader = 'ada';
        let successor: string | null = null;
        let isReclaimed = false;
        let isReleased = false;
        let endsMs = leaseMs;
        let highest = 1;
        for (const { deed, waitMs } of all) {
          led.wait(waitMs);
          if (deed.type === 'socketCloses') {
            led.socketCloses(deed.who);
            if (deed.who === leader) endsMs = Math.min(endsMs, led.nowMs + leaseWithoutSocketMs);
            continue;
          }
          const offset = deed.termOffset;
          const isOlder = deed.step < led.lease.step;
          const outcome = led[deed.type](deed.who, { ...deed, term: highest + offset });
          if (deed.type === 'takeOver') {
            const isOwn = deed.who === leader && (successor === null || (isReleased && !isOlder));
            const isSuccessors = deed.who === successor && deed.isWarm && led.nowMs >= endsMs;
            const mayBeElected = led.nowMs >= endsMs + (isOlder ? 4000 : 3000);
            if (offset === 0 && (isOwn || isSuccessors)) expect(outcome.ok).toBe(true);
            if (outcome.ok) expect(isOwn || isSuccessors || mayBeElected).toBe(true);
          }
          if (!outcome.ok) continue;
          const { term } = outcome.lease;
          const beginsReign = deed.type === 'takeOver' || deed.type === 'create';
          // Whoever comes back to a directory that had forgotten it names its own term.
          expect(offset).toBe(deed.type === 'create' ? 1 : 0);
          if (deed.type === 'create') expect(deed.isReclaim).toBe(true);
          // Once a page has told it of a term that it had forgotten, the next may be any higher one.
          if (deed.type === 'takeOver' && isReclaimed) expect(term).toBeGreaterThan(highest + 1_000);
          else expect(term).toBe(beginsReign ? highest + 1 : highest);
          if (deed.type === 'create') isReclaimed = true;
          highest = term;
          if (beginsReign) {
            leader = deed.who;
            successor = null;
          } else if (deed.type === 'renew') {
            successor = deed.successor;
          }
          // Every success says "this term is yours": it must be the same one's for ever.
          expect(holderOfTerm.get(term) ?? deed.who).toBe(deed.who);
          holderOfTerm.set(term, deed.who);
          if (deed.type !== 'release') endsMs = led.nowMs + leaseMs;
          else if (!isReleased) endsMs = led.nowMs;
          isReleased = deed.type === 'release';
          expect(led.lease).toMatchObject({ term, isReleased, expiresInMs: Math.max(0, endsMs - led.nowMs), successor: successor !== null });
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('somebody who asks again whenever told to leads within 69 s', () => {
    fc.assert(
      fc.property(deeds, step, (all, step) => {
        const led = new TestRoom();
        led.create('ada');
        for (const { deed, waitMs } of all) {
          led.wait(waitMs);
          if (deed.type === 'socketCloses') led.socketCloses(deed.who);
          else led[deed.type](deed.who, { ...deed, term: led.lease.term });
        }
        // The lease, a minute, and a window; or less, and until the others are forgotten.
        const deadlineMs = led.nowMs + leaseMs + 63_000;
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

  it('of several who keep asking the one with the newest step leads, and of those the first to come', () => {
    const claimants = fc.array(fc.record({ step, beginsAfterMs: fc.nat({ max: 2999 }), asksEveryMs: fc.integer({ min: 500, max: 7000 }) }), { minLength: 1, maxLength: 8 });
    const ended = fc.record({ named: fc.boolean(), isReleased: fc.boolean(), waitMs: fc.constantFrom(0, 2000, 70_000) });
    fc.assert(
      fc.property(claimants, ended, (all, { named, isReleased, waitMs }) => {
        const led = ledByAda(4, { named });
        if (isReleased) led.release('ada', { step: 4 });
        led.wait(isReleased ? waitMs : leaseMs + waitMs);
        const beganMs = led.nowMs;
        // Whoever comes first begins the window: it is where the others' times count from.
        const firstMs = Math.min(...all.map(({ beginsAfterMs }) => beginsAfterMs));
        const pages = all.map(({ step, beginsAfterMs, asksEveryMs }, page) => ({ who: `page-${page}`, step, beginsMs: beganMs + beginsAfterMs - firstMs, asksEveryMs }));
        const [best] = pages.toSorted((a, b) => b.step - a.step || a.beginsMs - b.beginsMs);
        const due = new Map(pages.map((page) => [page, page.beginsMs]));
        let leader: string | null = null;
        while (leader === null && led.nowMs < beganMs + 80_000) {
          const [[page, atMs] = []] = [...due].toSorted(([, a], [, b]) => a - b);
          if (page === undefined || atMs === undefined) break;
          led.nowMs = atMs;
          if (led.claim(page.who, page.step) === 'led') leader = page.who;
          due.set(page, atMs + page.asksEveryMs);
        }
        expect(leader).toBe(best?.who);
      }),
      { numRuns: 1000 },
    );
  });
});
