/** The running server over real sockets: one port with two protocols, redirect, page, signalling, directory, limits. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get as httpGet, type IncomingMessage } from 'node:http';
import { get as httpsGet } from 'node:https';
import { connect as tcpConnect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import { makeCertificate } from '../../signaling/certificate.ts';
import { leaseWithoutSocketMs } from '../../signaling/directory.ts';
import { startServer, type RunningServer } from '../../signaling/server.ts';
import { createDirectoryClient, DirectoryError, holderHash, newHolder } from '../../src/session/directory-client.ts';

const certificate = makeCertificate(['localhost', '127.0.0.1'], new Date());
const script = `console.log(${JSON.stringify('x'.repeat(4000))});`;
let folder: string;
let server: RunningServer;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'cotrain-page-'));
  mkdirSync(path.join(folder, 'client', 'assets'), { recursive: true });
  writeFileSync(path.join(folder, 'client', 'index.html'), '<!doctype html><title>Cotrain</title>');
  writeFileSync(path.join(folder, 'client', 'assets', 'main-abcdef12.js'), script);
  writeFileSync(path.join(folder, 'secret.txt'), 'not for you');
  server = await startServer({
    port: 0,
    host: '127.0.0.1',
    certificate,
    ice: { turnUrls: ['turn:relay.example.org'], turnSecret: 'north', stunUrls: [] },
    pageDirectory: path.join(folder, 'client'),
  });
});

afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

function ask(scheme: 'http' | 'https', urlPath: string, headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port: server.port, path: urlPath, headers, ca: certificate.certPem, agent: false as const };
    const request = (scheme === 'http' ? httpGet : httpsGet)(options, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(parts) }));
    });
    request.on('error', reject);
  });
}

function openSignal(scheme: 'ws' | 'wss', id: string, token = 'token'): { socket: WebSocket; next: () => Promise<unknown> } {
  const socket = new WebSocket(`${scheme}://127.0.0.1:${server.port}/signal/peerjs?key=peerjs&id=${id}&token=${token}`, { ca: certificate.certPem });
  const arrived: unknown[] = [];
  const waiting: ((message: unknown) => void)[] = [];
  socket.on('message', (data: Buffer) => {
    const message: unknown = JSON.parse(data.toString());
    const waiter = waiting.shift();
    if (waiter === undefined) arrived.push(message);
    else waiter(message);
  });
  return { socket, next: () => (arrived.length > 0 ? Promise.resolve(arrived.shift()) : new Promise((resolve) => waiting.push(resolve))) };
}

function closed(socket: WebSocket): Promise<number> {
  return new Promise((resolve) => socket.once('close', resolve));
}

describe('one port', () => {
  it('answers http and https alike, the latter with a certificate that its names verify against', async () => {
    for (const scheme of ['http', 'https'] as const) {
      const answer = await ask(scheme, '/health');
      expect(answer.status).toBe(200);
      expect(JSON.parse(String(answer.body))).toMatchObject({ status: 'ok', urls: { local: `http://localhost:${server.port}`, lan: [] } });
    }
  });

  it('carries many connections of both kinds at once', async () => {
    const answers = await Promise.all(Array.from({ length: 60 }, (_, index) => ask(index % 2 === 0 ? 'http' : 'https', '/assets/main-abcdef12.js')));
    expect(answers.map((answer) => String(answer.body))).toEqual(answers.map(() => script));
  });

  it('survives connections that say nothing, say nonsense or break off in a handshake', async () => {
    for (const bytes of [[], [0x16], [0x16, 3, 1, 255, 255, 0], [0, 0, 0, 0], [...Buffer.from('NONSENSE\r\n\r\n')]]) {
      const socket = tcpConnect(server.port, '127.0.0.1');
      await new Promise((resolve) => socket.once('connect', resolve));
      socket.on('error', () => undefined);
      socket.write(Buffer.from(bytes));
      socket.end();
      await new Promise((resolve) => socket.once('close', resolve).resume());
    }
    expect((await ask('https', '/health')).status).toBe(200);
  });

  it('sends plain http for any other name than localhost to https on the same port', async () => {
    const answer = await ask('http', '/path?x=1', { Host: `192.168.1.20:${server.port}` });
    expect(answer.status).toBe(308);
    expect(answer.headers.location).toBe(`https://192.168.1.20:${server.port}/path?x=1`);
    expect((await ask('http', '//evil.example/', { Host: 'box.local' })).headers.location).toBe('https://box.local//evil.example/');
    expect((await ask('http', '/', { Host: 'bad host/' })).status).toBe(400);
    expect((await ask('https', '/', { Host: `192.168.1.20:${server.port}` })).status).toBe(200);
    for (const name of ['localhost', '127.0.0.1', '[::1]', 'room.localhost']) expect((await ask('http', '/', { Host: `${name}:1` })).status).toBe(200);
  });
});

describe('the page', () => {
  it('comes with its type, a policy that allows workers and sockets, and revalidation', async () => {
    const answer = await ask('http', '/');
    expect(String(answer.body)).toContain('<title>Cotrain</title>');
    expect(answer.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(answer.headers['cache-control']).toBe('no-cache');
    expect(answer.headers['content-security-policy']).toMatch(/worker-src 'self' blob:; connect-src 'self' ws: wss:/);
    expect(answer.headers['strict-transport-security']).toBeUndefined();
    expect((await ask('http', '/', { 'If-None-Match': answer.headers.etag ?? '' })).status).toBe(304);
  });

  it('has its scripts compressed, and kept for ever where the name carries a hash', async () => {
    const answer = await ask('https', '/assets/main-abcdef12.js', { 'Accept-Encoding': 'gzip, br' });
    expect(answer.headers['content-encoding']).toBe('gzip');
    expect(answer.headers['cache-control']).toBe('public, max-age=31536000, immutable');
    expect(String(gunzipSync(answer.body))).toBe(script);
  });

  it('gives nothing from outside its folder, and says plainly when a file is not there', async () => {
    for (const urlPath of ['/../secret.txt', '/..%2fsecret.txt', '/assets/..%2f..%2f..%2fsecret.txt', '/%2e%2e/secret.txt', '/absent.js', '/%', '/a%00b.js']) {
      expect((await ask('http', urlPath)).status, urlPath).toBe(404);
    }
  });
});

describe('signalling', () => {
  it('passes an offer from one tab to another, whichever protocol each came by', async () => {
    const a = openSignal('ws', 'tab-a');
    const b = openSignal('wss', 'tab-b');
    expect(await a.next()).toEqual({ type: 'OPEN' });
    expect(await b.next()).toEqual({ type: 'OPEN' });
    a.socket.send(JSON.stringify({ type: 'OFFER', dst: 'tab-b', src: 'tab-forged', payload: { sdp: 'x' } }));
    expect(await b.next()).toEqual({ type: 'OFFER', src: 'tab-a', dst: 'tab-b', payload: { sdp: 'x' } });
    a.socket.close();
    b.socket.close();
  });

  it('tells within seconds that a tab is not there', async () => {
    const a = openSignal('ws', 'tab-c');
    await a.next();
    a.socket.send(JSON.stringify({ type: 'OFFER', dst: 'tab-absent', payload: {} }));
    expect(await a.next()).toMatchObject({ type: 'EXPIRE', src: 'tab-absent' });
    a.socket.close();
  });

  it('greets a tab that returns under its id and token while its old socket still seems to live', async () => {
    const before = openSignal('ws', 'tab-d', 'mine');
    await before.next();
    const gone = closed(before.socket);
    const after = openSignal('ws', 'tab-d', 'mine');
    expect(await after.next()).toEqual({ type: 'OPEN' });
    await gone;
    const other = openSignal('ws', 'tab-e');
    await other.next();
    other.socket.send(JSON.stringify({ type: 'OFFER', dst: 'tab-d', payload: { n: 1 } }));
    expect(await after.next()).toMatchObject({ type: 'OFFER', src: 'tab-e' });
    const thief = openSignal('ws', 'tab-d', 'not mine');
    expect(await thief.next()).toMatchObject({ type: 'ID-TAKEN' });
    for (const { socket } of [after, other]) socket.close();
  });

  it.each([
    ['is not JSON', 'hello'],
    ['has a type that tabs have no reason to send', JSON.stringify({ type: 'LEAVE', dst: 'tab-b' })],
    ['has no addressee', JSON.stringify({ type: 'OFFER', payload: {} })],
  ])('hangs up on a message that %s', async (_what, message) => {
    const a = openSignal('ws', 'tab-f');
    await a.next();
    a.socket.send(message);
    expect(await closed(a.socket)).toBe(1008);
  });

  it('hangs up on a message that is too large, and on an id that no tab of ours would have', async () => {
    const a = openSignal('ws', 'tab-g');
    await a.next();
    a.socket.send('x'.repeat(65 * 1024));
    expect(await closed(a.socket)).toBe(1009);
    expect(await closed(openSignal('ws', encodeURIComponent('<script>')).socket)).toBe(1008);
  });

  it('shortens the lease of a leader whose socket is gone, not of one who is back on a new socket or whose id a stranger wants', async () => {
    const directory = createDirectoryClient(new URL(`http://127.0.0.1:${server.port}/`), 'room-socket', 'the key');
    const expiresInMs = async (): Promise<number> => (await directory.lookUp())?.expiresInMs ?? -1;
    const before = openSignal('ws', 'tab-lead', 'mine');
    await before.next();
    const claim = { peerId: 'tab-lead', holder: newHolder(), term: 1, step: 0 };
    await directory.create({ ...claim, isReclaim: false });
    const stranger = openSignal('ws', 'tab-lead', 'not mine');
    expect(await stranger.next()).toMatchObject({ type: 'ID-TAKEN' });
    const gone = Promise.all([closed(before.socket), closed(stranger.socket)]);
    stranger.socket.close();
    const after = openSignal('ws', 'tab-lead', 'mine');
    await after.next();
    await gone;
    expect(await expiresInMs()).toBeGreaterThan(leaseWithoutSocketMs);
    after.socket.terminate();
    await expect.poll(expiresInMs).toBeLessThanOrEqual(leaseWithoutSocketMs);
    await directory.renew({ ...claim, successorHash: null, sequence: 1 });
    expect(await expiresInMs()).toBeGreaterThan(leaseWithoutSocketMs);
  });

  it('is nowhere else', async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${server.port}/elsewhere`);
    const error = await new Promise<Error>((resolve) => socket.once('error', resolve));
    expect(error.message).toMatch(/404/);
  });
});

describe('the room directory over HTTP', () => {
  const base = (): URL => new URL(`http://127.0.0.1:${server.port}/`);

  it('leads a room through create, look up, renew, take-over and release', async () => {
    const leader = createDirectoryClient(base(), 'room-life-1', 'the key');
    const other = createDirectoryClient(base(), 'room-life-1', 'the key');
    const holder = newHolder();
    expect(await other.lookUp()).toBeNull();
    expect(await leader.create({ peerId: 'peer-a', holder, term: 1, step: 0, isReclaim: false })).toMatchObject({ coordinator: 'peer-a', term: 1, step: 0, successor: false });
    expect(await other.lookUp()).toMatchObject({ coordinator: 'peer-a', term: 1 });
    const successor = newHolder();
    const renewal = { peerId: 'peer-a2', holder, term: 1, step: 5, successorHash: await holderHash(successor), sequence: 1 };
    expect(await leader.renew(renewal)).toMatchObject({ coordinator: 'peer-a2', term: 1, step: 5, successor: true });
    const claim = { peerId: 'peer-b', holder: successor, expectedTerm: 1, step: 6, isWarm: true };
    await expect(other.takeOver(claim)).rejects.toMatchObject({ kind: 'conflict', refusal: 'held', retryInMs: null, lease: { coordinator: 'peer-a2' } });
    await leader.release({ holder, term: 1, step: 6 });
    expect(await other.lookUp()).toMatchObject({ expiresInMs: 0, isReleased: true, step: 6 });
    const unnamed: unknown = await other.takeOver({ ...claim, peerId: 'peer-c', holder: newHolder(), step: 4 }).catch((error: unknown) => error);
    expect(unnamed).toMatchObject({ kind: 'conflict', refusal: 'election', lease: { term: 1 } });
    const retryInMs = unnamed instanceof DirectoryError ? unnamed.retryInMs : null;
    // 10 s from the release, less what the requests took.
    expect(retryInMs).toBeGreaterThan(3000);
    expect(retryInMs).toBeLessThanOrEqual(10_000);
    await expect(other.takeOver({ ...claim, isWarm: false })).rejects.toMatchObject({ kind: 'conflict', refusal: 'election' });
    expect(await other.takeOver(claim)).toMatchObject({ coordinator: 'peer-b', term: 2, step: 6, successor: false });
    await expect(leader.renew(renewal)).rejects.toMatchObject({ kind: 'conflict', refusal: 'stale-term', lease: { term: 2 } });
  });

  it('lets whoever holds the lease renew the room’s key, and from then on the old one opens nothing', async () => {
    const [first, second] = ['the first key', 'the second key'] as const;
    const clientOf = (key: string) => createDirectoryClient(base(), 'room-rekeyed', key);
    const [leader, follower, stranger] = [clientOf(first), clientOf(first), clientOf(first)];
    const holder = newHolder();
    const successor = newHolder();
    const renewal = { peerId: 'peer-a', holder, term: 1, step: 5, successorHash: await holderHash(successor), sequence: 1 };
    await leader.create({ ...renewal, isReclaim: false });
    const keys = { current: second, former: first };
    for (const client of [leader, follower]) client.useKeys(keys);
    // Somebody who knows the key, but not the holder's secret, can't lock the others out.
    const meddler = clientOf(first);
    meddler.useKeys({ current: 'a key of his own', former: first });
    await expect(meddler.renew({ ...renewal, holder: newHolder() })).rejects.toMatchObject({ refusal: 'held' });
    expect(await leader.renew(renewal)).toMatchObject({ term: 1, step: 5 });
    await expect(stranger.renew({ ...renewal, sequence: 2 })).rejects.toMatchObject({ kind: 'forbidden' });
    await leader.release({ holder, term: 1, step: 5 });
    expect(await follower.takeOver({ peerId: 'peer-b', holder: successor, expectedTerm: 1, step: 5, isWarm: true })).toMatchObject({ term: 2 });
  });

  it('lets the successor lead when the leader was lost before it had told the directory of the new key', async () => {
    const holder = newHolder();
    const successor = newHolder();
    const at = (key: string) => createDirectoryClient(base(), 'room-rekeyed-late', key);
    const leader = at('the first key');
    const renewal = { peerId: 'peer-a', holder, term: 1, step: 5, successorHash: await holderHash(successor), sequence: 1 };
    await leader.create({ ...renewal, isReclaim: false });
    await leader.renew(renewal);
    await leader.release({ holder, term: 1, step: 5 });
    const follower = at('the second key');
    follower.useKeys({ current: 'the second key', former: 'the first key' });
    expect(await follower.takeOver({ peerId: 'peer-b', holder: successor, expectedTerm: 1, step: 5, isWarm: true })).toMatchObject({ term: 2 });
    await follower.renew({ peerId: 'peer-b', holder: successor, term: 2, step: 6, successorHash: null, sequence: 1 });
    await expect(leader.takeOver({ peerId: 'peer-a', holder, expectedTerm: 2, step: 5, isWarm: false })).rejects.toMatchObject({ kind: 'forbidden' });
  });

  it('measures leases by a clock that nobody sets', async () => {
    const leader = createDirectoryClient(base(), 'room-clock-1', 'the key');
    await leader.create({ peerId: 'peer-a', holder: newHolder(), term: 1, step: 0, isReclaim: false });
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 3600 * 1000);
    const lease = await leader.lookUp();
    vi.restoreAllMocks();
    expect(lease?.expiresInMs).toBeGreaterThan(0);
  });

  it('tells a wrong key, an absent room and a server that is gone apart', async () => {
    const claim = { peerId: 'peer-a', holder: newHolder(), step: 0 };
    const renewal = { ...claim, term: 1, successorHash: null, sequence: 1 };
    await createDirectoryClient(base(), 'room-errors', 'the key').create({ ...claim, term: 1, isReclaim: false });
    await expect(createDirectoryClient(base(), 'room-errors', 'another key').takeOver({ ...claim, expectedTerm: 1, isWarm: false })).rejects.toMatchObject({ kind: 'forbidden' });
    await expect(createDirectoryClient(base(), 'room-absent', 'k').renew(renewal)).rejects.toMatchObject({ kind: 'not-found' });
    await expect(createDirectoryClient(new URL('http://127.0.0.1:9/'), 'room-errors', 'k').lookUp()).rejects.toMatchObject({ kind: 'unreachable' });
  });

  it('gives relay credentials and the addresses for an invitation', async () => {
    const client = createDirectoryClient(base(), 'room-errors', 'the key');
    const [relay] = await client.iceServers();
    expect(relay?.urls).toEqual(['turn:relay.example.org']);
    expect(relay?.username).toMatch(/^\d+:cotrain$/);
    expect(await client.serverUrls()).toEqual({ local: `http://localhost:${server.port}`, lan: [] });
  });

  it('refuses malformed and oversized writes without an exception', async () => {
    const post = async (body: string, command = 'create'): Promise<number> =>
      (await fetch(new URL(`rooms/room-mal-1/${command}`, base()), { method: 'POST', headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${'a'.repeat(43)}` }, body })).status;
    const good = { coordinator: 'peer-a', holder: 'h'.repeat(32), term: 1, step: 0, isReclaim: false };
    expect(await post('{')).toBe(400);
    expect(await post('[]')).toBe(400);
    expect(await post(JSON.stringify({ ...good, term: 1.5 }))).toBe(400);
    expect(await post(JSON.stringify({ ...good, extra: 1 }))).toBe(400);
    expect(await post(JSON.stringify({ ...good, coordinator: 'x'.repeat(3000) }))).toBe(413);
    expect(await post(JSON.stringify({ ...good, step: -1 }))).toBe(400);
    expect(await post(JSON.stringify({ ...good, isReclaim: undefined }))).toBe(400);
    expect(await post(JSON.stringify(good))).toBe(201);
    const { isReclaim: _, ...held } = good;
    const renewal = { ...held, successorHash: 's'.repeat(43), sequence: 1 };
    for (const successorHash of ['', 's'.repeat(42), 's'.repeat(44), 7, {}]) expect(await post(JSON.stringify({ ...renewal, successorHash }), 'renew')).toBe(400);
    expect(await post(JSON.stringify({ ...renewal, sequence: 0.5 }), 'renew')).toBe(400);
    expect(await post(JSON.stringify(renewal), 'renew')).toBe(200);
    const { term: expectedTerm, ...claim } = held;
    for (const isWarm of [undefined, null, 1, 'yes']) expect(await post(JSON.stringify({ ...claim, expectedTerm, isWarm }), 'take-over')).toBe(400);
    expect(await post(JSON.stringify({ ...claim, expectedTerm, isWarm: false }), 'take-over')).toBe(409);
    expect((await fetch(new URL('rooms/!', base()))).status).toBe(400);
  });

  it('slows down an address that asks too much', async () => {
    const greedy = await startServer({ port: 0, host: '127.0.0.1', certificate, ice: { turnUrls: [], turnSecret: null, stunUrls: [] }, pageDirectory: null });
    // Requests that no time passes between, however slow this machine is.
    vi.spyOn(performance, 'now').mockReturnValue(performance.now());
    const statuses: number[] = [];
    for (let batch = 0; batch < 7; batch += 1) {
      const answers = await Promise.all(Array.from({ length: 50 }, () => fetch(`http://127.0.0.1:${greedy.port}/rooms/room-busy`)));
      for (const answer of answers) statuses.push(answer.status);
    }
    vi.restoreAllMocks();
    await greedy.close();
    expect(statuses.filter((status) => status === 404)).toHaveLength(300);
    expect(statuses.filter((status) => status === 429)).toHaveLength(50);
  });
});

describe('starting', () => {
  const start = { host: '127.0.0.1', certificate, ice: { turnUrls: [], turnSecret: null, stunUrls: [] }, pageDirectory: null };

  it('names a port that is taken and a host that is not this machine', async () => {
    const blocker = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => blocker.once('listening', resolve));
    const address = blocker.address();
    const taken = typeof address === 'object' && address !== null ? address.port : 0;
    await expect(startServer({ ...start, port: taken })).rejects.toThrow(`Port ${taken} is taken by another program`);
    blocker.close();
    await expect(startServer({ ...start, port: 0, host: '203.0.113.7' })).rejects.toThrow(/--host 203\.0\.113\.7 is no name or address of this machine \(EADDRNOTAVAIL\)/);
  });

  it('lets go of its port when it is closed, open connections or not', async () => {
    const first = await startServer({ ...start, port: 0 });
    const lingering = tcpConnect(first.port, '127.0.0.1');
    await new Promise((resolve) => lingering.once('connect', resolve));
    lingering.on('error', () => undefined);
    await first.close();
    const second = await startServer({ ...start, port: first.port });
    expect(second.port).toBe(first.port);
    await second.close();
  });
});
