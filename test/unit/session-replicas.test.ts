/** Joining a room by pieces, as the drivers do it over real links: from several peers, with damage, and again. */
import { afterEach, expect, it, vi } from 'vitest';
import type { PeerId } from '../../src/room/messages.ts';
import { DriverRoom, piecesInMemory } from './session-room.ts';
import type { Guest } from './session-room.ts';
import type { MemoryChannel, Wires } from './transport-memory.ts';

/** Weights of 1.6 MB: seven pieces. */
const large = { model: { hidden_size: 128, intermediate_size: 512, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 4 } };

/** Four of 64 KiB would do, but for the headers. */
const framesPerPiece = 5;
/** Whatever is larger is no header. */
const largeFrame = 10_000;

let room: DriverRoom;
afterEach(() => room.close());

async function roomOf(...names: readonly string[]): Promise<void> {
  room = await DriverRoom.open({ steps: 4, ...large });
  for (const name of names) await joined(room.join(name));
}

async function joined(guest: Guest): Promise<void> {
  await room.until('the newcomer has joined', () => guest.driver.view.connection === 'joined');
}

/** Blob frames beyond the size of a header that went out at this end. */
function countLarge(channel: MemoryChannel): { frames: number } {
  const count = { frames: 0 };
  const before = channel.tap;
  channel.tap = (frame) => {
    if (frame.byteLength > largeFrame) count.frames += 1;
    return before(frame);
  };
  return count;
}

/** The coordinator's network is busy from its third piece on, until a member has sent something: `sent` sees each frame of that. */
function busyLead(sent: (frame: Uint8Array) => void): (wires: Wires, to: PeerId | null) => void {
  let leads: MemoryChannel | null = null;
  return ({ bulk: [, bulk] }, to) => {
    const before = bulk.tap;
    let frames = 0;
    if (to === null) leads = bulk;
    bulk.tap = (frame) => {
      if (frame.byteLength > largeFrame) frames += 1;
      if (to !== null) {
        sent(frame);
        if (leads !== null) leads.stalled = false;
      } else if (frames === 2 * framesPerPiece) {
        bulk.stalled = true;
      }
      return before(frame);
    };
  };
}

it('a newcomer gets the weights from the members too, bit for bit', async () => {
  await roomOf('bob', 'cid');
  let fromMembers = 0;
  const dan = room.join('dan', {
    wires: busyLead((frame) => {
      if (frame.byteLength > largeFrame) fromMembers += 1;
    }),
  });
  await joined(dan);
  expect(dan.driver.view.replica?.hash).toBe(room.lead.view.history.at(-1)?.replicaHash ?? dan.driver.view.replica?.hash);
  expect(dan.sources).toBe(2);
  expect(fromMembers).toBeGreaterThan(0);
  room.command('resume');
  await room.until('the run is over', () => dan.driver.view.replica?.step === 4);
});

it('pieces that a member damages are fetched from somebody else', async () => {
  await roomOf('eve');
  let damaged = 0;
  const dan = room.join('dan', {
    wires: busyLead((frame) => {
      if (frame.byteLength <= largeFrame) return;
      damaged += 1;
      frame[5_000] = 1 ^ (frame[5_000] ?? 0);
    }),
  });
  await joined(dan);
  expect(damaged).toBeGreaterThan(0);
  // The coordinator compares what a newcomer has loaded with its own: here nobody had to load anything twice.
  expect(dan.problems.filter((problem) => problem !== null)).toEqual([]);
  room.command('resume');
  await room.until('the run is over', () => dan.driver.view.replica?.step === 4 && room.lead.view.phase === 'finished');
});

it('after a connection that was lost half-way only the rest is fetched', async () => {
  await roomOf();
  const pieces = piecesInMemory();
  const counts: { frames: number }[] = [];
  const dan = room.join('dan', {
    pieces,
    wires: ({ bulk }) => {
      const count = countLarge(bulk[1]);
      counts.push(count);
      if (counts.length > 1) return;
      const counting = bulk[1].tap;
      bulk[1].tap = (frame) => (count.frames < 3 * framesPerPiece ? counting(frame) : null);
    },
  });
  await vi.waitFor(() => expect(pieces.size).toBe(3));
  dan.wires.control[0].close();
  await room.until('the connection is lost', () => dan.driver.view.connection !== 'fetching');
  room.pass(2_000);
  await joined(dan);
  const [, again] = counts;
  expect(again?.frames).toBeGreaterThan(0);
  expect(again?.frames).toBeLessThanOrEqual(4 * framesPerPiece);
});

it('whoever has fetched these very weights before fetches none of it', async () => {
  await roomOf();
  const pieces = piecesInMemory();
  const dan = room.join('dan', { pieces });
  await joined(dan);
  dan.driver.close('its page is reloaded');
  let count = { frames: 0 };
  const again = room.join('dan', {
    pieces,
    wires: ({ bulk }) => {
      count = countLarge(bulk[1]);
    },
  });
  await joined(again);
  expect(count.frames).toBe(0);
  expect(again.driver.view.replica).toEqual(dan.driver.view.replica);
});
