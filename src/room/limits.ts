/** Times and bounds of the room's protocol: every number the two machines decide by, in one place. */

/** Between a channel's opening and its hello. */
export const helloTimeoutMs = 10_000;
export const pingIntervalMs = 1_000;
/** Nothing heard for this long: the peer's work is re-assigned. With a tick every quarter of a second that is within three seconds. */
export const silentAfterMs = 2_750;
/** Nothing heard for this long: the connection is closed. */
export const closedAfterMs = 20_000;
/** A refused or leaving peer may close the channel itself before we do: what was sent to it last should arrive. */
export const farewellMs = 2_000;
/** A machine that was not called for longer than this was itself asleep: its clocks are moved on by the gap. */
export const ownStallMs = 2_500;
/** A machine that was not asked for so long has slept, and its lease is over or about to be. */
export const ownSleepMs = 5_000;

export const maxPeers = 255;
export const maxNameLength = 40;

/** A deadline is this many times the expected time, but no more than `deadlineStepFactor` ideal steps, plus slack. */
export const deadlineFactor = 3;
export const deadlineStepFactor = 12;
export const deadlineSlackMs = 2_500;
/** A peer's first work may be slower than the probe said: pipelines compile, memory is allocated. */
export const firstDeadlineSlackMs = 6_000;
/** Work that took so many times what was expected, and a little, is repeated by whoever has nothing else to do. */
export const overdueFactor = 1.5;
export const overdueSlackMs = 300;
export const longestExpectedMs = 600_000;

/** Alone with one micro-batch a peer may take this many ideal steps; a slower one would hold everybody up. */
export const hopelessFactor = 4;
/** Steps after which a hopelessly slow peer gets one micro-batch again, in case it is slow no more. */
export const trialEverySteps = 16;
/** Where ways take less than this share of a step's ideal time, shares follow speeds alone. */
export const roomyShare = 0.2;
/** So short that everybody takes part all the same: whoever joins a small run wants to see that they help. */
export const unnoticedWaysMs = 250;
/** Weight of the newest observation of a speed. */
export const speedSmoothing = 0.4;

/** Pause before a peer that was late or handed work back is given more: doubles with each failure in a row. */
export const firstHoldOffMs = 1_000;
export const longestHoldOffMs = 30_000;
/** Contributions refused by the trainer or by the accounts before a peer may only watch. */
export const maxStrikes = 2;
/** Replicas with a wrong hash before a peer may only watch. */
export const maxWrongHashes = 2;
/** Claimed and known loss weights may differ by f32 rounding. */
export const weightTolerance = 1e-4;

/** Shortest time between two replicas for one peer. */
export const replicaIntervalMs = 2_000;
/** Members that keep a copy of the weights for newcomers: enough to take nearly all of it off the coordinator. */
export const maxSharers = 3;
/** So long after a commit a newcomer waits for somebody who could share the new weights. */
export const sharerPatienceMs = 2_000;
/** Replicas in a row that can't be read for a peer before it is sent away: it should not wait for ever. */
export const maxUnsentWeights = 3;
/** Updates sent and not acknowledged: beyond this a peer gets a replica when it has caught up. */
export const maxUnacknowledgedUpdates = 256;
export const maxUnacknowledgedBytes = 64 * 1024 * 1024;
/** A peer whose oldest unacknowledged update is older than this gets no new work. */
export const catchUpMs = 1_000;
/** The coordinator sends an update to so many relays, and each of them to so many others. */
export const firstRelays = 1;
export const forwardsPerRelay = 2;
/** Where fewer could take part, the coordinator alone is as quick. */
export const fewestForRelays = 6;
export const fanOutIntervalMs = 250;
/** Whoever was to be fed by another member, and does not say in this time that it is, is fed by somebody else. */
export const feedOpenMs = 15_000;
/** So long a member that was waited for in vain forwards nothing. */
export const relayPauseMs = 60_000;
/** Hashes of past replicas kept to compare with what peers report. */
export const hashesKept = 512;

/** A successor may take so long to confirm a step, and as long again as its bytes need at the slowest rate put up with. */
export const successorConfirmMs = 2_500;
export const slowestSuccessorBytesPerMs = 1_000;
/** A step may wait so long for the directory's answer before the page says that it waits. */
export const directoryPatienceMs = 1_500;
/** Appointments that came to nothing before a peer is no longer chosen. */
export const maxFailedSuccessions = 2;

export const peersTableIntervalMs = 500;
/** Whoever was lost is named for so long. */
export const goneShownMs = 30_000;

/** A member's pauses between attempts to reach the coordinator. */
export const firstRetryMs = 300;
export const longestRetryMs = 5_000;
export const lookUpTimeoutMs = 15_000;
export const connectTimeoutMs = 30_000;
export const welcomeTimeoutMs = 10_000;
/** Nothing heard from the coordinator for this long: the member asks the directory whether another one leads. */
export const coordinatorSilentMs = 3_000;
/** How often whoever could lead, and whoever waits for somebody to lead, asks the directory. */
export const lookUpIntervalMs = 700;
/** For so long after the coordinator was lost another one is expected, and asked for often. */
export const handOffExpectedMs = 20_000;
/** A successor whose coordinator's lease is still renewed after this long was only cut off: it connects again. */
export const successorPatienceMs = 8_000;
/** A room the directory does not know may be known to it again soon: its coordinator re-claims it, and may rely on its lease for so long. */
export const forgottenRoomMs = 6_000;
/** Between two of its answers; pages that could lead ask every 0.7 s or so. */
export const forgottenGapMs = 2_500;
/** A leader of a lower term than was seen is followed after all when no newer one has come forward for so long. */
export const staleReignMs = 12_000;
/** A room made anew gets a term so far above the last one known, and by chance up to this much further. */
export const forgottenTermGap = 1_000;
export const forgottenTermSpread = 100_000;
/** Nothing heard for this long: the member gives the connection up. */
export const coordinatorLostMs = 8_000;
/** Blobs that wait in a member until the one before them is applied or computed. */
export const maxQueuedBlobs = 320;
export const maxRememberedCancels = 64;
/** Validation losses that overtake the history they belong to: more than one or two means that somebody makes them up. */
export const maxRememberedValidations = 16;
