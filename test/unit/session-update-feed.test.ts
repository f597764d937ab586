/** A member's part in bringing updates to everybody: in order, checked, forwarded at once, and asked of the coordinator when they don't come. */
import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { maxQueuedBlobs } from '../../src/room/limits.ts';
import type { CoordinatorBlob, MemberMessage, UpdatePiece } from '../../src/room/messages.ts';
import { UpdateFeed, updatePieceBytesOf } from '../../src/session/update-feed.ts';
import type { FeedHandlers, FeedLine } from '../../src/session/update-feed.ts';
import { peer, step, term } from '../room/bench.ts';

const pieceBytes = 4;
const updateOf = (at: number): ArrayBuffer => Uint8Array.from({ length: 10 }, (_, index) => at * 16 + index).buffer;
const piecesOf = (bytes: ArrayBuffer): ArrayBuffer[] => [0, 1, 2].map((piece) => bytes.slice(piece * pieceBytes, (piece + 1) * pieceBytes));
const hashOf = (bytes: ArrayBuffer): Buffer => createHash('sha256').update(new Uint8Array(bytes)).digest();
const hashesOf = (bytes: ArrayBuffer): ArrayBuffer => Uint8Array.from(Buffer.concat(piecesOf(bytes).map(hashOf))).buffer;
const garbage = new ArrayBuffer(pieceBytes);

class Line implements FeedLine {
  readonly sent: string[] = [];
  closed = false;
  control(message: { readonly type: string }): void {
    this.sent.push(message.type);
  }
  piece({ step: at, piece }: UpdatePiece): void {
    this.sent.push(`${at}.${piece}`);
  }
  close(): void {
    this.closed = true;
  }
}

class Member {
  nowMs = 0;
  readonly delivered: string[] = [];
  readonly told: MemberMessage[] = [];
  distrusted = 0;
  relay: { readonly handlers: FeedHandlers; readonly line: Line; readonly opened: (line: FeedLine | null) => void } | null = null;
  readonly feed = new UpdateFeed({
    term: () => term(3),
    connect: (_, handlers, opened) => {
      this.relay = { handlers, line: new Line(), opened };
    },
    hash: (bytes, done) => {
      done(hashOf(bytes).toString('hex'));
    },
    deliver: (header, bytes) => {
      if (header.kind === 'update') expect(new Uint8Array(bytes), `update ${header.step}`).toEqual(new Uint8Array(updateOf(header.step)));
      this.delivered.push('step' in header ? `${header.kind} ${header.step}` : header.kind);
    },
    tell: (message) => {
      this.told.push(message);
    },
    distrust: () => {
      this.distrusted += 1;
    },
    nowMs: () => this.nowMs,
  });

  /** Fed by Bob. */
  fed(): this {
    this.feed.feed(peer('bob'));
    this.relay?.opened(this.relay.line);
    this.relay?.handlers.control({ type: 'subscribed', term: 3 });
    return this;
  }

  hashes(at: number, isFed = true): this {
    this.feed.arrived({ kind: 'updateHashes', term: term(3), step: step(at), byteLength: 10, pieceBytes, isFed }, hashesOf(updateOf(at)));
    return this;
  }

  whole(at: number): this {
    this.feed.arrived({ kind: 'update', term: term(3), step: step(at) }, updateOf(at));
    return this;
  }

  gradient(at: number): this {
    const point = { step: step(at), loss: 1, gradNorm: 1, lr: 1, ms: 1, tokens: 1, bytesDown: 1, bytesUp: 1 };
    this.feed.arrived({ kind: 'gradient', term: term(3), step: step(at), weightSum: 1, point } satisfies CoordinatorBlob, new ArrayBuffer(0));
    return this;
  }

  /** From Bob. */
  piece(at: number, piece: number, bytes = piecesOf(updateOf(at))[piece] ?? garbage): this {
    this.relay?.handlers.blob({ kind: 'updatePiece', term: 3, step: at, piece }, bytes);
    return this;
  }

  pass(durationMs: number): this {
    for (let left = durationMs; left > 0; left -= 250) {
      this.nowMs += 250;
      this.feed.tick();
    }
    return this;
  }

  get missed(): string[] {
    return this.told.flatMap((message) => (message.type === 'missed' ? [`${message.step} ${message.why}`] : []));
  }
}

describe('an update in pieces', () => {
  it('takes its place among what the coordinator sends, however its pieces come', () => {
    const member = new Member().fed();
    expect(member.relay?.line.sent).toEqual(['subscribe']);
    expect(member.told).toEqual([{ type: 'fed', term: 3, from: 'bob' }]);
    member.gradient(5).piece(5, 2).hashes(5).gradient(6).piece(5, 0).piece(6, 1);
    expect(member.delivered).toEqual(['gradient 5']);
    member.hashes(6).piece(6, 0).piece(6, 2).piece(5, 0).piece(5, 1);
    expect(member.delivered).toEqual(['gradient 5', 'update 5', 'gradient 6', 'update 6']);
    expect(member.missed).toEqual([]);
  });

  it('is forwarded piece by piece, as soon as each is known to be right', () => {
    const member = new Member().fed();
    const child = new Line();
    member.feed.subscribed(child, { type: 'subscribe', term: term(3) });
    member.hashes(5).piece(5, 1);
    expect(child.sent).toEqual(['subscribed', '5.1']);
    member.piece(5, 0, garbage);
    expect(child.sent).toEqual(['subscribed', '5.1']);
    member.whole(5);
    expect(child.sent).toEqual(['subscribed', '5.1', '5.0', '5.2']);
    member.feed.left(child);
    member.whole(6);
    member.feed.abort();
    expect(child.closed).toBe(false);
  });

  it('is forwarded as the coordinator sends it, by whoever is the first', () => {
    const member = new Member();
    const [child, stranger] = [new Line(), new Line()];
    member.feed.subscribed(child, { type: 'subscribe', term: term(3) });
    member.feed.subscribed(stranger, { type: 'subscribe', term: term(2) });
    expect(stranger.closed).toBe(true);
    member.hashes(5, false);
    for (const [piece, bytes] of piecesOf(updateOf(5)).entries()) member.feed.arrived({ kind: 'updatePiece', term: term(3), step: step(5), piece }, bytes);
    expect(member.delivered).toEqual(['update 5']);
    expect(child.sent).toEqual(['subscribed', '5.0', '5.1', '5.2']);
    member.feed.abort();
    expect(child.closed, 'what it waits for does not come here any more').toBe(true);
  });

  it.each<[string, (member: Member) => void, string]>([
    ['wrong bytes', (member) => member.piece(5, 1, garbage), '5 wrong'],
    ['a piece that there is not', (member) => member.piece(5, 3, garbage), '5 wrong'],
    ['no message at all', (member) => member.relay?.handlers.blob({ kind: 'update' }, garbage), '5 wrong'],
    ['nothing for long', (member) => member.pass(4_000), '5 late'],
    ['its farewell', (member) => member.relay?.handlers.closed(), '5 gone'],
    ['something else than an answer', (member) => member.relay?.handlers.control({ type: 'missing' }), '5 gone'],
  ])('is asked of the coordinator when %s comes from who should forward it', (_what, trouble, missed) => {
    const member = new Member().fed().hashes(5);
    trouble(member);
    expect(member.missed).toEqual([missed]);
    expect(member.relay?.line.closed).toBe(true);
    member.piece(5, 0).hashes(6).whole(5).whole(6);
    expect(member.delivered).toEqual(['update 5', 'update 6']);
    expect(member.missed, 'and the next, which nobody forwards any more').toEqual([missed, '6 gone']);
  });

  it('is waited for as long as pieces come, and while this page itself stood still', () => {
    const member = new Member().fed().hashes(5).pass(2_000).piece(5, 0).pass(2_000).piece(5, 1).pass(2_000);
    member.nowMs += 60_000;
    member.feed.tick();
    expect(member.pass(1_000).missed).toEqual([]);
    expect(member.pass(4_000).missed).toEqual(['5 late']);
  });

  it('is given up for weights that are sent anew, and after a long time without any', () => {
    const member = new Member().fed().hashes(5).gradient(6);
    member.feed.arrived({ kind: 'replica', term: term(3), step: step(8), byteLength: 10, pieceBytes: 4, sources: [] }, new ArrayBuffer(0));
    expect(member.delivered).toEqual(['replica 8']);
    member.hashes(9).gradient(10).pass(30_000);
    expect(member.delivered).toEqual(['replica 8']);
    expect(member.pass(60_000).delivered, 'the machine finds out by itself what is missing').toEqual(['replica 8', 'gradient 10']);
  });

  it('does not let a coordinator fill the memory, or announce what can’t be', () => {
    const member = new Member().hashes(5);
    for (let count = 0; count <= maxQueuedBlobs; count += 1) member.gradient(6);
    expect(member.delivered.length).toBeGreaterThan(0);
    member.feed.arrived({ kind: 'updateHashes', term: term(3), step: step(7), byteLength: 2 ** 40, pieceBytes: 4, isFed: true }, new ArrayBuffer(32));
    member.feed.arrived({ kind: 'updateHashes', term: term(3), step: step(8), byteLength: 10, pieceBytes, isFed: true }, new ArrayBuffer(32));
    expect(member.distrusted).toBe(2);
  });

  it('is right and in its place whatever a relay sends, and in whichever order', () => {
    const moves = fc.array(fc.tuple(fc.nat(6), fc.nat(4), fc.nat(3), fc.boolean()), { maxLength: 60 });
    fc.assert(
      fc.property(moves, (played) => {
        const member = new Member().fed();
        let [announced, asked] = [0, 0];
        for (const [move, ahead, piece, isRight] of played) {
          if (move <= 1) member.hashes(announced++);
          else if (move === 2) member.pass(1_000);
          else if (move === 3 && member.missed.length > asked) member.whole(Number(member.missed[asked++]?.split(' ')[0]));
          else member.piece(Math.max(0, announced - ahead), piece, isRight ? undefined : garbage);
        }
        for (const each of member.missed.slice(asked)) member.whole(Number(each.split(' ')[0]));
        for (let at = 0; at < announced; at += 1) for (const piece of [0, 1, 2]) member.piece(at, piece);
        member.pass(10_000);
        for (const each of member.missed) member.whole(Number(each.split(' ')[0]));
        const updates = [...new Set(member.delivered)];
        expect(updates.slice(0, announced)).toEqual(Array.from({ length: announced }, (_, at) => `update ${at}`));
      }),
      { numRuns: 300 },
    );
  });

  it('is cut into so many pieces that the first is far away while the last is sent', () => {
    expect(updatePieceBytesOf(100)).toBe(16 * 1024);
    expect(updatePieceBytesOf(4e6)).toBe(62_500);
    expect(updatePieceBytesOf(1e9)).toBe(256 * 1024);
  });
});
