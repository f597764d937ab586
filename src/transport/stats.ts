/** What an RTCStatsReport says of the way that packets take. */

export interface PathStats {
  readonly path: 'direct' | 'relayed' | null;
  readonly roundTripMs: number | null;
}

interface Entry {
  readonly id: string;
  readonly type: string;
  readonly selectedCandidatePairId?: string;
  readonly localCandidateId?: string;
  readonly remoteCandidateId?: string;
  readonly candidateType?: string;
  readonly currentRoundTripTime?: number;
  readonly nominated?: boolean;
  readonly selected?: boolean;
  readonly state?: string;
}

/** `RTCStatsReport` is a map of loosely typed entries; Firefox has no transport entry but marks the pair itself. */
export function pathOf(report: Pick<RTCStatsReport, 'forEach'>): PathStats {
  const entries = new Map<string, Entry>();
  report.forEach((entry: Entry) => entries.set(entry.id, entry));
  const all = [...entries.values()];
  const selectedId = all.find((entry) => entry.type === 'transport' && entry.selectedCandidatePairId !== undefined)?.selectedCandidatePairId;
  const pairs = all.filter((entry) => entry.type === 'candidate-pair');
  const pair =
    (selectedId === undefined ? undefined : entries.get(selectedId)) ??
    pairs.find((entry) => entry.selected === true) ??
    pairs.find((entry) => entry.nominated === true && entry.state === 'succeeded');
  if (pair === undefined) return { path: null, roundTripMs: null };
  const ends = [pair.localCandidateId, pair.remoteCandidateId].map((id) => (id === undefined ? undefined : entries.get(id)?.candidateType));
  const known = ends.some((type) => type !== undefined);
  return {
    path: known ? (ends.includes('relay') ? 'relayed' : 'direct') : null,
    roundTripMs: pair.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
  };
}
