/** Whatever a peer that knows the key sends, neither machine throws, loses a micro-batch or stops. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import * as v from 'valibot';
import { maxQueuedBlobs } from '../../src/room/limits.ts';
import { memberBlobSchema } from '../../src/room/messages.ts';
import { MemberBench } from '../room/bench.ts';
import { moves } from '../room/fuzz.ts';
import type { Wire } from '../room/fuzz.ts';
import { FuzzedCoordinator, memberWires } from '../room/fuzzed-coordinator.ts';
import { coordinatorWires, FuzzedMember } from '../room/fuzzed-member.ts';

const fewestCases = 35_000;
const fewestOfEach = 200;

/** Of every message and header there is. */
function expectManyOfEach(wires: readonly Wire<unknown>[]): void {
  expect(wires.reduce((sum, { sent }) => sum + sent, 0)).toBeGreaterThan(fewestCases);
  for (const [name, count] of wires.flatMap(({ passed }) => [...passed])) expect(count, `${name}, as the schema wants it`).toBeGreaterThan(fewestOfEach);
}

test('nothing that members send breaks the coordinator, loses a micro-batch or stops the room', { timeout: 120_000 }, () => {
  fc.assert(
    fc.property(moves, (played) => {
      const room = new FuzzedCoordinator();
      for (const move of played) room.play(move);
      room.goOn();
    }),
    { numRuns: 900 },
  );
  expectManyOfEach([memberWires.message, memberWires.blob]);
});

test('nothing that a coordinator sends breaks a member, loses bytes or keeps it from joining the next one', { timeout: 120_000 }, () => {
  fc.assert(
    fc.property(moves, (played) => {
      const member = new FuzzedMember();
      for (const move of played) member.play(move);
      member.goOn();
    }),
    { numRuns: 900 },
  );
  expectManyOfEach([coordinatorWires.message, coordinatorWires.blob]);
});

// Found by the first: two of them added up to infinity, which paused the room.
test('a loss that no GPU can have computed is no contribution', () => {
  const header = { kind: 'contribution', term: 3, step: 1, assignment: 'a', weightSum: 9, computeMs: 1, tokens: 10 };
  expect(v.is(memberBlobSchema, { ...header, lossSum: 3.4e38 })).toBe(true);
  expect(v.is(memberBlobSchema, { ...header, lossSum: 3.5e38 })).toBe(false);
});

test('a coordinator that floods a member with work fills no memory with it', () => {
  const member = new MemberBench().join();
  for (let count = 0; count < 2 * maxQueuedBlobs; count += 1) member.assignment(`a${count}`);
  const { blobs, assignments } = member.state;
  expect(blobs.length + assignments.length).toBeLessThanOrEqual(maxQueuedBlobs);
  expect(member.sent, 'what is turned away is handed back').toMatchObject([{ type: 'decline', code: 'behind' }]);
});
