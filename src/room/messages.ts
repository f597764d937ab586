/**
 * Everything that crosses the wire between peers once the handshake has proved the key, and nothing else.
 * Control messages are JSON; blobs are a JSON header and bytes. Both are validated here before anybody looks at them:
 * a peer may be broken or hostile.
 */
import * as v from 'valibot';
import { changeSchema, datedChangesSchema, roomRulesSchema, signedCommandSchema } from './rules.ts';
import { count, finite, hash, holderHash, identifier, longestRunSteps, maxStep, peerId, peerName, rate, roomCodec, step, term } from './values.ts';

export type { PeerId, Step, Term } from './values.ts';

export const protocolVersion = 10;

const maxPeers = 256;
const maxText = 2000;
const maxMicrobatches = 65_536;
const maxSources = 8;

/** What a GPU has added up. Sums of many such are finite, too. */
const largestF32 = (2 - 2 ** -23) * 2 ** 127;
const float32 = v.pipe(finite, v.minValue(-largestF32), v.maxValue(largestF32));
/** Of an update: the replica is at the next step afterwards, which must be sayable too. */
const updateStep = v.pipe(count, v.maxValue(maxStep - 1), v.brand('Step'));

const deviceSchema = v.object({
  name: v.pipe(v.string(), v.maxLength(120)),
  isSoftware: v.boolean(),
  probeTokensPerSecond: rate,
  /** Why this peer can't compute; null when it can. */
  problem: v.nullable(v.object({ code: identifier, message: v.pipe(v.string(), v.maxLength(400)) })),
});
export type PeerDevice = v.InferOutput<typeof deviceSchema>;

export const historyPointSchema = v.object({
  step,
  loss: finite,
  gradNorm: rate,
  lr: rate,
  ms: rate,
  tokens: count,
  bytesDown: count,
  bytesUp: count,
  validationLoss: v.optional(finite),
  replicaHash: v.optional(hash),
  change: v.exactOptional(changeSchema),
});
/**
 * One committed step as the shared charts show it. `step` counts from 0: the update that took the replica from `step` to
 * `step + 1`, whose hash is `replicaHash`. `bytesUp` went from members to the coordinator, `bytesDown` the other way.
 * `validationLoss` is of the weights after the update. `loss` is the mean over the scored weight of the whole batch.
 * `change`: from this step on the owner wanted another schedule. */
export type HistoryPoint = v.InferOutput<typeof historyPointSchema>;

/**
 * Why a peer leaves the work to others for now: it is about to stand still (`hidden` on a phone, `frozen`), is held back by its
 * browser (`throttled`), or has little power left (`battery`).
 */
const restSchema = v.picklist(['hidden', 'frozen', 'throttled', 'battery']);
export const presenceSchema = v.object({
  /** Nobody looks at its page; on its own no reason to rest. */
  isHidden: v.boolean(),
  rest: v.nullable(restSchema),
});
export type Presence = v.InferOutput<typeof presenceSchema>;
/** Somebody looks at the page, and nothing keeps it from working. */
export const awake: Presence = { isHidden: false, rest: null };

const peerRowSchema = v.object({
  id: peerId,
  name: peerName,
  role: v.picklist(['coordinator', 'member', 'watcher']),
  device: v.pipe(v.string(), v.maxLength(120)),
  isSoftware: v.boolean(),
  tokensPerSecond: rate,
  /** Micro-batches counted in the last committed step. */
  microbatches: count,
  state: v.picklist(['joining', 'syncing', 'ready', 'computing', 'late', 'silent', 'resting', 'watching', 'leaving']),
  /** Another tab of the same browser, that came before, has this name. */
  twinOf: v.optional(peerName),
  isHidden: v.optional(v.boolean()),
  rest: v.optional(restSchema),
  /** It keeps what is needed to lead (`ready`), or is being sent it (`warming`). */
  succession: v.optional(v.picklist(['warming', 'ready'])),
  /** Of whoever would follow: steps committed that it has not confirmed. */
  lagSteps: v.optional(count),
  /** Of the coordinator's connection to it, as far as that is known. */
  path: v.optional(v.picklist(['direct', 'relayed'])),
  roundTripMs: v.optional(rate),
  /** Why this peer does not work though it did not choose to watch: its device's problem, or what the coordinator refused. */
  note: v.optional(v.pipe(v.string(), v.maxLength(400))),
  /** To how many others it forwards each step's update. */
  forwardsTo: v.optional(count),
});
export type PeerRow = v.InferOutput<typeof peerRowSchema>;

const phaseSchema = v.picklist(['running', 'paused', 'finished', 'stopped']);
/** `paused` may carry a problem (a non-finite loss); `stopped` means that the coordinator closed the room on purpose. */
export type RoomPhase = v.InferOutput<typeof phaseSchema>;

/** Asks whoever has a copy of the weights after `step` updates for a piece of it: the coordinator, or a member that it has named. */
export const wantSchema = v.object({ type: v.literal('want'), term, step, piece: count });
/** The answer of whoever has no such copy (any more). */
export const missingSchema = v.object({ type: v.literal('missing'), term, step, piece: count });
/** The answer of whoever has: the bytes are the piece's. */
export const replicaPieceSchema = v.object({ kind: v.literal('replicaPiece'), term, step, piece: count });
export type Want = v.InferOutput<typeof wantSchema>;
export type Missing = v.InferOutput<typeof missingSchema>;
export type ReplicaPiece = v.InferOutput<typeof replicaPieceSchema>;

/** Asks a member to forward the updates of this reign, from the next one that it gets on. */
export const subscribeSchema = v.object({ type: v.literal('subscribe'), term });
/** The answer of whoever will. Who won't, or can't any more, hangs up. */
export const subscribedSchema = v.object({ type: v.literal('subscribed'), term });
/** A piece of the update of `step`, from the coordinator or from a member that forwards it: see `updateHashes`. */
export const updatePieceSchema = v.object({ kind: v.literal('updatePiece'), term, step: updateStep, piece: count });
export type Subscribe = v.InferOutput<typeof subscribeSchema>;
export type Subscribed = v.InferOutput<typeof subscribedSchema>;
export type UpdatePiece = v.InferOutput<typeof updatePieceSchema>;

/** Of a step's time, on the mean of the last ones: see `pace.ts`. `slowest` is whoever is last most often. */
const paceSchema = v.object({ computeMs: rate, wayMs: rate, waitMs: rate, applyMs: rate, slowest: v.nullable(peerName) });
export type PaceRow = v.InferOutput<typeof paceSchema>;

/** Where the room chooses its codec: see `codec-choice.ts`. */
const sentAsSchema = v.object({ codec: roomCodec, why: v.picklist(['alone', 'start', 'slow', 'quick']), wayShare: rate, since: step });
export type SentAsRow = v.InferOutput<typeof sentAsSchema>;

const goneSchema = v.object({ name: peerName, reason: v.pipe(v.string(), v.maxLength(200)) });
/** Somebody whose connection to the coordinator ended a moment ago, and how. */
export type GonePeer = v.InferOutput<typeof goneSchema>;

const masterParts = ['firstMoments', 'secondMoments', 'masterWeights'] as const;
const masterPart = v.picklist(masterParts);

/** From a member to the coordinator. */
export const memberMessageSchema = v.variant('type', [
  v.object({
    type: v.literal('hello'),
    protocol: count,
    name: peerName,
    wantsToWatch: v.boolean(),
    device: deviceSchema,
    /** It would lead the room if it must. */
    canSucceed: v.boolean(),
    holderHash,
    presence: presenceSchema,
    /** Replica the peer still holds, so that a quick re-join need not fetch one. */
    replica: v.nullable(v.object({ step, hash })),
  }),
  /** A replica was loaded (or the kept one is still there): its step and hash. */
  v.object({ type: v.literal('ready'), term, step, hash }),
  /** An update was applied: the step and hash of the replica it led to. */
  v.object({ type: v.literal('applied'), term, step, hash }),
  /** Hands an assignment back. `non-finite`: computed, but the loss is not a number. */
  v.object({
    type: v.literal('decline'),
    term,
    assignment: identifier,
    code: v.picklist(['leaving', 'device', 'failed', 'behind', 'non-finite', 'resting']),
    reason: v.pipe(v.string(), v.maxLength(200)),
  }),
  /** Sums of losses and loss weights of the held-out micro-batches of an `evaluation`. */
  v.object({ type: v.literal('evaluated'), term, assignment: identifier, lossSum: float32, weightSum: rate }),
  v.object({ type: v.literal('refetch'), term }),
  wantSchema,
  /** `from` forwards updates to this peer from now on. */
  v.object({ type: v.literal('fed'), term, from: peerId }),
  /**
   * The update of `step` did not come from whoever should forward it, and that one is not listened to any more: the coordinator
   * sends it. `wrong`: what came was not what was announced.
   */
  v.object({ type: v.literal('missed'), term, step: updateStep, why: v.picklist(['late', 'gone', 'wrong']) }),
  v.object({ type: v.literal('presence'), term, presence: presenceSchema }),
  /** It could lead from `step` on: master state, corpus and history are all there. Each `applied` from now on says the same. */
  v.object({ type: v.literal('warm'), term, step }),
  /** It can't follow (any more), and will not take the lead on the strength of what it has. */
  v.object({ type: v.literal('unable'), term, reason: v.pipe(v.string(), v.maxLength(200)) }),
  v.object({ type: v.literal('command'), term, command: v.picklist(['pause', 'resume']) }),
  v.object({ type: v.literal('owner'), term, ...signedCommandSchema.entries }),
  /** These rules, or newer ones, are kept here from now on. */
  v.object({ type: v.literal('kept'), term, revision: count }),
  v.object({ type: v.literal('pong'), nonce: count }),
  v.object({ type: v.literal('leave'), reason: v.pipe(v.string(), v.maxLength(200)) }),
]);
export type MemberMessage = v.InferOutput<typeof memberMessageSchema>;

/** From the coordinator to a member. Every message that belongs to a reign carries its term. */
export const coordinatorMessageSchema = v.variant('type', [
  v.object({
    type: v.literal('welcome'),
    term,
    you: peerId,
    step,
    /** As the run has them; the rules may say otherwise. */
    steps: count,
    phase: phaseSchema,
    startedAtMs: rate,
    /** `kept`: what the hello said it holds is current; `coming`: a replica follows; `none`: this peer watches. */
    replica: v.picklist(['kept', 'coming', 'none']),
    /** The run file and tokenizer as the session defines them: validated there. */
    run: v.pipe(v.string(), v.maxLength(4_000_000)),
    rules: roomRulesSchema,
    /** Points of the history so far, of the steps below `step`: they follow as a blob, unless there are none. */
    historyPoints: v.pipe(count, v.maxValue(longestRunSteps)),
  }),
  v.object({ type: v.literal('refused'), code: identifier, message: v.pipe(v.string(), v.maxLength(400)) }),
  /** Not in force: whoever is to follow shall keep them first, so that they can't be lost. */
  v.object({ type: v.literal('rules'), term, rules: roomRulesSchema, areInForce: v.boolean() }),
  /** To the owner: why what its command of this revision asked for was not done. */
  v.object({
    type: v.literal('declined'),
    term,
    revision: count,
    /** `outdated`: not looked at, since another command came before it. */
    code: v.picklist(['outdated', 'impossible']),
    reason: v.pipe(v.string(), v.maxLength(400)),
  }),
  v.object({ type: v.literal('cancel'), term, assignment: identifier }),
  /** Somebody else is to follow: what was sent for that purpose is of no use any more. */
  v.object({ type: v.literal('dismissed'), term }),
  v.object({ type: v.literal('progress'), term, phase: phaseSchema, point: historyPointSchema }),
  v.object({
    type: v.literal('phase'),
    term,
    phase: phaseSchema,
    problem: v.nullable(v.object({ code: identifier, message: v.pipe(v.string(), v.maxLength(400)) })),
  }),
  v.object({ type: v.literal('validation'), term, step, loss: finite }),
  v.object({
    type: v.literal('peers'),
    term,
    peers: v.pipe(v.array(peerRowSchema), v.maxLength(maxPeers)),
    gone: v.optional(v.pipe(v.array(goneSchema), v.maxLength(maxPeers))),
    pace: v.optional(paceSchema),
    sentAs: v.optional(sentAsSchema),
  }),
  v.object({ type: v.literal('sample'), term, step, text: v.pipe(v.string(), v.maxLength(maxText)) }),
  /** Keep a copy of the replica as it is after `step` updates: newcomers will ask for pieces of it. */
  v.object({ type: v.literal('share'), term, step }),
  missingSchema,
  /** Have this member forward updates; null: they come from the coordinator itself. */
  v.object({ type: v.literal('feed'), term, from: v.nullable(peerId) }),
  v.object({ type: v.literal('ping'), nonce: count }),
]);
export type CoordinatorMessage = v.InferOutput<typeof coordinatorMessageSchema>;

/** Headers of blobs. The bytes that follow are checked by whoever decodes them. */
export const memberBlobSchema = v.variant('kind', [
  v.object({
    kind: v.literal('contribution'),
    term,
    step,
    assignment: identifier,
    lossSum: float32,
    weightSum: rate,
    computeMs: rate,
    tokens: count,
  }),
]);
export type MemberBlob = v.InferOutput<typeof memberBlobSchema>;

export const coordinatorBlobSchema = v.variant('kind', [
  /** No bytes: weights after `step` updates are to be had in pieces, from the coordinator and from `sources`. */
  v.object({
    kind: v.literal('replica'),
    term,
    step,
    byteLength: count,
    pieceBytes: v.pipe(count, v.minValue(1)),
    sources: v.pipe(v.array(peerId), v.maxLength(maxSources)),
  }),
  /** SHA-256 of each of its pieces, one after another. */
  v.object({ kind: v.literal('pieceHashes'), term, step }),
  replicaPieceSchema,
  /** The history that the welcome announced (see session/history.ts). */
  v.object({ kind: v.literal('history'), term, checksum: v.pipe(v.string(), v.regex(/^[0-9a-f]{8}$/)) }),
  /** Takes the replica from `step` to `step + 1`. */
  v.object({ kind: v.literal('update'), term, step: updateStep }),
  /**
   * In the place of an update that comes in pieces: the SHA-256 of each, one after another. `isFed`: they come from whoever forwards
   * updates to this member, and not from here.
   */
  v.object({ kind: v.literal('updateHashes'), term, step: updateStep, byteLength: count, pieceBytes: v.pipe(count, v.minValue(1)), isFed: v.boolean() }),
  updatePieceSchema,
  /** Work: the bytes are the micro-batches' rows in the order of `microbatches` (see session/rows.ts). */
  v.object({
    kind: v.literal('assignment'),
    term,
    step,
    assignment: identifier,
    microbatches: v.pipe(v.array(count), v.minLength(1), v.maxLength(maxMicrobatches)),
    /** By which local steps have their learning rates; none when left out. */
    changes: v.exactOptional(datedChangesSchema),
    /** In which the contribution is wanted; the run's own when left out. */
    codec: v.exactOptional(roomCodec),
  }),
  /** Held-out rows, as those of an assignment: their loss is wanted, with the weights after `step` updates. */
  v.object({
    kind: v.literal('evaluation'),
    term,
    step,
    assignment: identifier,
    microbatches: v.pipe(v.array(count), v.minLength(1), v.maxLength(maxMicrobatches)),
  }),
  /**
   * No bytes: this member is to keep the master state from `step` on. Gradients of the steps follow at once, each before its
   * update; moments as they were at `step`, and the corpus, come in pieces meanwhile.
   */
  v.object({
    kind: v.literal('appointment'),
    term,
    step,
    /** Of each part of the master state. */
    masterBytes: count,
    masterParts: v.pipe(v.array(masterPart), v.minLength(1), v.maxLength(masterParts.length)),
    corpusBytes: count,
    /** Of the step before, where that is not announced yet. */
    unannounced: v.nullable(historyPointSchema),
  }),
  /** The sum of the step's gradients, and what the history will say of the step. Comes before the step's update. */
  v.object({ kind: v.literal('gradient'), term, step: updateStep, weightSum: rate, point: historyPointSchema }),
  /**
   * A piece of what the successor appointed at `since` needs to begin, as it is after `step` updates, and in order with them. Pieces
   * of a part come in order.
   */
  v.object({ kind: v.literal('piece'), term, since: step, step, part: v.union([masterPart, v.literal('corpus')]), offset: count }),
]);
export type CoordinatorBlob = v.InferOutput<typeof coordinatorBlobSchema>;
