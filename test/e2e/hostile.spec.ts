/**
 * Somebody who holds the room's key, and says over real data channels what no Cotrain would. Each time that peer is removed,
 * the page of whoever leads says why, and training goes on as if nothing had been. What every message does to the machines
 * is fuzzed in test/room and test/unit; here it is one of each kind, on the real thing.
 */
import type { Page } from '@playwright/test';
import * as v from 'valibot';
import type { PageStatus } from '../../src/session/page-api.ts';
import { protocolVersion, type MemberMessage } from '../../src/room/messages.ts';
import type { CreateSettings } from '../../src/session/types.ts';
import { expect, test } from './fixtures.ts';
import type { ArrivalShown } from './pages/transport.ts';
import { createPausedRoom, createRoom, joinRoom, largestDifference, statusOf, statusWhen, untilStep } from './support.ts';
import { serveTransportPage } from './transport-page.ts';

const run: CreateSettings = {
  preset: 'counting-list',
  codec: 'fp32',
  steps: 1_000_000,
  rowsPerStep: 2,
  rowsPerMicrobatch: 1,
  contextLength: 32,
  model: { hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 1, num_key_value_heads: 1, head_dim: 16 },
};

declare global {
  interface Window {
    /** The last channel of each label that the page has made. */
    rtcChannels: Record<string, RTCDataChannel>;
  }
}

/** In the page: its own transport opens the channels, and the test says things on them that it never would. */
function keepChannels(): void {
  const create = RTCPeerConnection.prototype.createDataChannel;
  window.rtcChannels = {};
  RTCPeerConnection.prototype.createDataChannel = function (label, options) {
    const channel = create.call(this, label, options);
    window.rtcChannels[label] = channel;
    return channel;
  };
}

/** A connection of Eve's, the `index`th, over which she has been greeted. */
interface Eve {
  readonly page: Page;
  readonly index: number;
}

type Attack = (eve: Eve) => Promise<void>;

/** Whole frames, the byte that says their kind first. */
function onChannel(channel: 'control' | 'bulk', ...frames: readonly (readonly number[])[]): Attack {
  return ({ page }) =>
    page.evaluate(([label, all]) => {
      for (const frame of all) window.rtcChannels[label]?.send(new Uint8Array(frame));
    }, [`cotrain-${channel}`, frames] as const);
}

/** Pieces of one message, 64 KiB each, more than 8 MiB of them. */
const endlessMessage: Attack = ({ page }) =>
  page.evaluate(() => {
    const piece = new Uint8Array(64 * 1024);
    piece[0] = 2;
    for (let sent = 0; sent < 130; sent += 1) window.rtcChannels['cotrain-control']?.send(piece);
  });

function says(message: unknown): Attack {
  return ({ page, index }) => page.evaluate(([at, said]) => window.transportTest.say(at, said), [index, message] as const);
}

function sends(header: unknown, bytes: number): Attack {
  return ({ page, index }) => page.evaluate(([at, said, length]) => window.transportTest.sendBytes(at, said, length), [index, header, bytes] as const);
}

const utf8 = (text: string): number[] => [...Buffer.from(text)];
/** Kind 16, length of the header (u32), length of the blob (u48), content. */
/** The first piece of the first blob. */
const blobBegins = (headerBytes: number, blobBytes: number, content: readonly number[]): number[] => {
  const prefix = Buffer.alloc(20);
  prefix.writeUInt32BE(headerBytes, 4);
  prefix.writeUIntBE(blobBytes, 8, 6);
  return [16, ...prefix, ...content];
};
const contribution = { kind: 'contribution', term: 1, step: 1, assignment: 'a1', lossSum: 1, weightSum: 1, computeMs: 1, tokens: 1 };

/** Takes long enough to send while others attack that she would be removed for her silence. */
const slowAttack = 'a message over 8 MiB';

/** What is sent, and what the log of whoever leads says of it. */
const attacks: Readonly<Record<string, readonly [Attack, RegExp]>> = {
  'a frame of no known kind': [onChannel('control', [99, 1, 2, 3]), /unknown kind of frame arrived on the control channel/],
  'a frame of no bytes': [onChannel('bulk', []), /unknown kind of frame arrived on the bulk channel/],
  'a handshake again': [onChannel('control', [1, ...utf8('{"type":"accepted"}')]), /a handshake message arrived after the handshake/],
  'a message that is no JSON': [onChannel('control', [2, ...utf8('{"type":')], [3, ...utf8('pong}')]), /not valid JSON/],
  'a message that is no text': [onChannel('control', [3, 0xff, 0xfe, 0x00]), /not valid JSON/],
  'the beginning of a blob, cut short': [onChannel('bulk', blobBegins(20, 4, []).slice(0, 7)), /an empty piece of a blob/],
  'a blob of 256 TiB': [onChannel('bulk', blobBegins(20, 2 ** 48 - 1, [1])), /a blob of 281474976710655 bytes was announced/],
  'a header of 4 GiB': [onChannel('bulk', blobBegins(2 ** 32 - 1, 4, [1])), /a blob header of 4294967295 bytes was announced/],
  'more than was announced': [onChannel('bulk', blobBegins(2, 4, [...utf8('{}'), 1, 2, 3, 4, 5])), /longer than announced/],
  'a piece of no known kind': [onChannel('bulk', [17, 1, 2, 3]), /an unknown kind of frame arrived on the bulk channel/],
  'a header that is no JSON': [onChannel('bulk', blobBegins(2, 0, utf8('}{'))), /not valid JSON/],
  'a message of no known type': [says({ type: 'become-coordinator' }), /sent a message that this page does not understand/],
  'a step beyond all numbers': [says({ type: 'applied', term: 1, step: 1e300, hash: '0'.repeat(16) }), /sent a message that this page does not understand/],
  [slowAttack]: [endlessMessage, /a control message is too long/],
  'work with an absurd loss': [sends({ ...contribution, lossSum: 1e300 }, 4), /sent data that this page does not understand/],
};

const hello = (name: string): MemberMessage => ({
  type: 'hello',
  protocol: protocolVersion,
  name,
  wantsToWatch: false,
  device: { name: 'a GPU of Eve’s', isSoftware: false, probeTokensPerSecond: 1e6, problem: null },
  canSucceed: false,
  presence: { isHidden: false, rest: null },
  holderHash: 'E'.repeat(43),
  replica: null,
});

function heard({ page, index }: Eve): Promise<readonly ArrivalShown[]> {
  return page.evaluate((at) => window.transportTest.arrivals(at), index);
}

/** Waits for something that came to Eve. */
async function hears<T>(eve: Eve, what: string, find: (arrivals: readonly ArrivalShown[]) => T | undefined): Promise<T> {
  let found: T | undefined;
  await expect.poll(async () => (found = find(await heard(eve))) !== undefined, { message: what, intervals: [50], timeout: 60_000 }).toBe(true);
  return found as T;
}

async function enters(page: Page, index: number, coordinator: string, name: string): Promise<Eve> {
  expect(await page.evaluate((id) => window.transportTest.connect(id), coordinator)).toBeNull();
  const eve = { page, index };
  await says(hello(name))(eve);
  await hears(eve, `${name} is welcomed`, (arrivals) => arrivals.find((arrival) => arrival.type === 'control' && isOf(arrival.message, 'welcome')));
  return eve;
}

function isOf(message: unknown, type: string): boolean {
  return typeof message === 'object' && message !== null && 'type' in message && message.type === type;
}

function losses({ history }: PageStatus): number[] {
  return history.map((point) => point.loss);
}

/** One attack after another under the name given, each over a connection of its own: the page's `firstIndex`th and those after it. */
async function attackAll(hostile: Page, ada: Page, coordinator: string, turns: readonly (readonly [name: string, what: string])[], firstIndex = 0): Promise<void> {
  for (const [turn, [name, what]] of turns.entries()) {
    const [attack, words] = attacks[what] ?? [];
    if (attack === undefined || words === undefined) throw new Error(`there is no attack “${what}”`);
    const eve = await enters(hostile, firstIndex + turn, coordinator, name);
    await attack(eve);
    const reason = await hears(eve, `after ${what} Eve is hung up on`, (arrivals) => arrivals.flatMap((arrival) => (arrival.type === 'closed' ? [arrival.reason] : []))[0]);
    expect(reason, what).toMatch(words);
    const line = ada.getByTestId('notices').getByRole('listitem').filter({ hasText: `${name} sent` });
    await expect(line, what).toHaveText(words);
    await expect(line, what).toContainText('and was removed.');
    await expect(ada.getByTestId('peer-row').filter({ hasText: name }), what).toHaveCount(0);
  }
}

/** Headers of the blobs of one kind that have come to Eve. */
async function headers<T extends v.ObjectEntries>(eve: Eve, kind: string, entries: T): Promise<readonly v.InferOutput<v.ObjectSchema<T, undefined>>[]> {
  const schema = v.object(entries);
  return (await heard(eve)).flatMap((arrival) => {
    const header = v.safeParse(v.object({ kind: v.literal(kind) }), arrival.type === 'blob' ? arrival.header : null);
    return header.success && arrival.type === 'blob' ? [v.parse(schema, arrival.header)] : [];
  });
}

/** Eve seems to follow, and answers what she is asked to compute with twelve bytes, until she is asked no more. */
async function worksBadly(eve: Eve, ada: Page, isOver: () => Promise<boolean>): Promise<void> {
  const answered = new Set<string>();
  while (!(await isOver())) {
    const { term, history } = await statusOf(ada);
    const [replica] = await headers(eve, 'replica', { step: v.number() });
    // She computes no weights, so she has their hashes from elsewhere.
    const hashAfter = (step: number): string | undefined => history[step - 1]?.replicaHash;
    if (replica === undefined || hashAfter(replica.step) === undefined) continue;
    await says({ type: 'ready', term, step: replica.step, hash: hashAfter(replica.step) })(eve);
    await says({ type: 'applied', term, step: history.length, hash: hashAfter(history.length) })(eve);
    for (const { assignment, step } of await headers(eve, 'assignment', { assignment: v.string(), step: v.number() })) {
      if (answered.has(assignment)) continue;
      answered.add(assignment);
      await sends({ ...contribution, term, step, assignment }, 12)(eve);
    }
  }
}

/** Eve comes from all of these at once. */
const hostilePages = 3;

test('whoever breaks the protocol is removed with the reason shown, and training goes on as if nothing had been', async ({ openPage, server }) => {
  test.setTimeout(240_000);
  const served = await serveTransportPage();
  try {
    const [ada, ben] = await Promise.all([openPage(), openPage()]);
    const link = await createPausedRoom(ada, { ...run, name: 'Ada' });
    const hostile = await Promise.all(Array.from({ length: hostilePages }, () => openPage({ at: served.url, before: keepChannels })));
    await joinRoom(ben, link, { name: 'Ben' });
    await statusWhen(ben, 'in the room', ({ phase }) => phase === 'paused');
    await ada.evaluate(() => window.cotrain.resume());
    const { peers } = await statusWhen(ada, 'two at work', (status) => status.peers.filter(({ microbatches }) => microbatches > 0).length === 2);
    const coordinator = peers.find(({ role }) => role === 'coordinator')?.id ?? '';
    const { room = '', key = '' } = Object.fromEntries(new URLSearchParams(new URL(link).hash.slice(1)));
    const place = { room, signallingUrl: `${server.url}/signal` };
    await Promise.all(hostile.map((page) => page.evaluate(([secret, where]) => window.transportTest.open(secret, where), [key, place] as const)));

    const quick = Object.keys(attacks).filter((what) => what !== slowAttack).map((what, index) => [`Eve ${index + 1}`, what] as const);
    await Promise.all(hostile.map((page, at) => attackAll(page, ada, coordinator, quick.filter((_, index) => index % hostilePages === at))));

    const [page] = hostile;
    if (page === undefined) throw new Error('there is no hostile page');
    const before = Math.ceil(quick.length / hostilePages);
    // Beside training her message takes longer on two cores than anybody may be silent.
    await ada.evaluate(() => window.cotrain.pause());
    await attackAll(page, ada, coordinator, [['Eve the slow', slowAttack]], before);
    await ada.evaluate(() => window.cotrain.resume());
    const eve = await enters(page, before + 1, coordinator, 'Eve at work');
    const row = ada.getByTestId('peer-row').filter({ hasText: 'Eve at work' });
    await worksBadly(eve, ada, async () => (await row.getAttribute('data-role')) === 'watcher');
    await expect(row.getByTestId('peer-note')).toHaveText(/^Its results were refused twice \(.+\), so it only watches\.$/);

    const { step, term } = await statusOf(ada);
    const [led, followed] = await Promise.all([untilStep(ada, step + 5), untilStep(ben, step + 5)]);
    expect(led).toMatchObject({ role: 'coordinator', term, problem: null });
    expect(followed).toMatchObject({ role: 'member', term, problem: null });
    expect(losses(followed).slice(0, step)).toEqual(losses(led).slice(0, step));
    expect(led.history.map((point) => point.step)).toEqual(led.history.map((_, index) => index));

    await ada.evaluate(() => window.cotrain.leave());
    await createRoom(ada, run);
    const alone = await untilStep(ada, step);
    expect(largestDifference(led, alone), 'largest relative difference of losses to a room of one').toBeLessThan(1e-4);
  } finally {
    await served.close();
  }
});
