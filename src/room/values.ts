/** The kinds of values that cross the wire, each with its bounds. What messages are made of them is `messages.ts` and `rules.ts`. */
import * as v from 'valibot';

/** No run has more steps, and no history more points. */
export const longestRunSteps = 10_000_000;

export const identifier = v.pipe(v.string(), v.minLength(1), v.maxLength(80));
export const count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));
export const finite = v.pipe(v.number(), v.finite());
export const rate = v.pipe(finite, v.minValue(0));
/** Of a peer, as people read it. */
export const peerName = v.pipe(v.string(), v.maxLength(40));
export const hash = v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/));
/** SHA-256, base64url: by which the directory knows whoever may take the lead over, and a room whom its owner has removed. */
export const holderHash = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/));
export const peerId = v.pipe(identifier, v.brand('PeerId'));
export const term = v.pipe(count, v.brand('Term'));
/** Far beyond any run, and far enough from the largest exact integer that the step after it is still valid. */
export const maxStep = 2 ** 48;
export const step = v.pipe(count, v.maxValue(maxStep), v.brand('Step'));

export type PeerId = v.InferOutput<typeof peerId>;
export type Term = v.InferOutput<typeof term>;
/** Number of updates applied before it: step s takes the replica from s to s + 1. */
export type Step = v.InferOutput<typeof step>;

/** How weights' changes and gradients are written as bytes; what that means is the trainer's. */
export const roomCodec = v.picklist(['fp32', 'bf16', 'int8', 'int2']);
export type RoomCodec = v.InferOutput<typeof roomCodec>;
