/**
 * The directory over HTTP: JSON in, JSON out, everything checked before it is looked at.
 *
 *   GET  /rooms/ID              → 200 lease
 *   POST /rooms/ID/create       { coordinator, holder, term, step, isReclaim } → 201 lease
 *   POST /rooms/ID/renew        { coordinator, holder, term, step, successorHash, sequence } → 200 lease
 *   POST /rooms/ID/take-over    { coordinator, holder, expectedTerm, step, isWarm } → 200 lease
 *   POST /rooms/ID/release      { holder, term, step } → 200 lease
 *   POST /rooms/ID/renew-key    { holder, term, token } → 200 lease
 *
 * Writes carry `Authorization: Bearer <token>`. A refusal is { refusal, lease, retryInMs } with status 403, 404, 409 or 503.
 */
import express from 'express';
import * as v from 'valibot';
import type { Command, Directory, Outcome, Refusal } from './directory.ts';
import type { RateLimiter } from './limits.ts';

const maxBodyBytes = 2048;
const maxTerm = 1_000_000_000;
const maxStep = 1_000_000_000;

const roomId = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{6,80}$/));
const token = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/));
const bearer = v.pipe(v.string(), v.regex(/^Bearer [A-Za-z0-9_-]{43}$/));
const coordinator = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{1,80}$/));
const holder = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{16,80}$/));
const term = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(maxTerm));
const step = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(maxStep));
const sequence = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));
/** 32 bytes. */
const successorHash = v.nullable(v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/)));

const commandSchemas = {
  create: v.pipe(
    v.strictObject({ coordinator, holder, term, step, isReclaim: v.boolean() }),
    v.transform((body): Command => ({ type: 'create', ...body })),
  ),
  renew: v.pipe(
    v.strictObject({ coordinator, holder, term, step, successorHash, sequence }),
    v.transform((body): Command => ({ type: 'renew', ...body })),
  ),
  'take-over': v.pipe(
    v.strictObject({ coordinator, holder, expectedTerm: term, step, isWarm: v.boolean() }),
    v.transform((body): Command => ({ type: 'takeOver', ...body })),
  ),
  release: v.pipe(v.strictObject({ holder, term, step }), v.transform((body): Command => ({ type: 'release', ...body }))),
  'renew-key': v.pipe(v.strictObject({ holder, term, token }), v.transform((body): Command => ({ type: 'renewKey', ...body }))),
} as const;

const statusOf: Record<Refusal, number> = {
  'not-found': 404,
  forbidden: 403,
  exists: 409,
  'stale-term': 409,
  held: 409,
  released: 409,
  overtaken: 409,
  election: 409,
  full: 503,
};

export function directoryRoutes(directory: Directory, limiter: RateLimiter, nowMs: () => number): express.Router {
  const router = express.Router();
  router.use((request, response, next) => {
    response.set('Cache-Control', 'no-store');
    if (limiter.allows(request.socket.remoteAddress ?? '', nowMs())) next();
    else response.status(429).set('Retry-After', '2').json({ refusal: 'rate' });
  });

  router.get('/:room', (request, response) => {
    if (!v.is(roomId, request.params.room)) {
      response.status(400).json({ refusal: 'malformed' });
      return;
    }
    const lease = directory.lookUp(request.params.room, nowMs());
    if (lease === null) response.status(404).json({ refusal: 'not-found', lease: null });
    else response.json(lease);
  });

  for (const [path, schema] of Object.entries(commandSchemas)) {
    router.post(`/:room/${path}`, express.json({ limit: maxBodyBytes }), (request, response) => {
      const room = v.safeParse(roomId, request.params['room']);
      const authorization = v.safeParse(bearer, request.headers.authorization);
      const command = v.safeParse(schema, request.body);
      if (!room.success || !command.success) {
        response.status(400).json({ refusal: 'malformed' });
        return;
      }
      if (!authorization.success) {
        response.status(403).json({ refusal: 'forbidden', lease: null });
        return;
      }
      const token = authorization.output.slice('Bearer '.length);
      const from = request.socket.remoteAddress ?? '';
      answer(response, path === 'create' ? 201 : 200, directory.apply(room.output, token, from, command.output, nowMs()));
    });
  }
  return router;
}

function answer(response: express.Response, successStatus: number, outcome: Outcome): void {
  if (outcome.ok) {
    response.status(successStatus).json(outcome.lease);
    return;
  }
  const { refusal, lease, retryInMs } = outcome;
  response.status(statusOf[refusal]).json({ refusal, lease, retryInMs });
}
