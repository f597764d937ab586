// Causal attention with grouped queries and its gradients, for GPUs. Nothing of the [TIME,TIME] matrix is stored.
//   s[i,j] = q[i]·k[j] / √HEAD_SIZE for start[i] ≤ j ≤ i;  lse[i] = log Σ_j exp(s[i,j])
//   forward:          o[i] = Σ_j p[i,j]·v[j] with p[i,j] = exp(s[i,j] − lse[i])
//   backwardQueries:  dQ[i] = Σ_j ds[i,j]·k[j] with ds[i,j] = p[i,j]·(dO[i]·v[j] − delta[i]) / √HEAD_SIZE
//   backwardKeys:     dK[j] = Σ_i ds[i,j]·q[i];  dV[j] = Σ_i p[i,j]·dO[i], over the query heads of the group in their order
//   q, o, dO, dQ: [BATCH,TIME,HEADS,HEAD_SIZE]; k, v, dK, dV: [BATCH,TIME,KV_HEADS,HEAD_SIZE], all STORED: f32 or f16;
//   logSumExp: [BATCH,HEADS,TIME]; rows: what attention-rows.wgsl gives; documentStarts: [BATCH,TIME], with DOCUMENTS alone:
//   where the document of a position starts, which never decreases. Else every document starts at 0.
// Query head h reads key head h / (HEADS / KV_HEADS). HEAD_SIZE is a multiple of 4.
// A team of TEAM invocations owns four neighbouring queries (backwardKeys: keys) of a head and takes keys (queries) four at a
// time, so that every product is one of 4×4 matrices. Each holds SLICE quads of every vector that the team owns, neighbours
// neighbouring quads, so registers don't grow with heads; what they find of a dot product is added up in workgroup memory.
// A workgroup of LANES owns 4·TEAMS positions of one head; its teams walk the same keys (queries), so that their reads coincide.
// Whoever owns a row writes it, in a fixed order of additions: no atomics. All these sizes but SLICE and LANES are fields of
// the uniform, so that one pipeline serves all heads of more than 16 elements (backward: of more than 8).

struct Size {
  batch: u32,
  time: u32,
  heads: u32,
  keyHeads: u32,
  headSize: u32,
  // What of the grid's pairs of a row and a head the dispatches before this one did.
  first: u32,
  team: u32,
  teams: u32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<STORED>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<STORED>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<STORED>>;
#if FORWARD
@group(0) @binding(3) var<storage, read_write> o: array<vec4<STORED>>;
@group(0) @binding(4) var<storage, read_write> logSumExp: array<f32>;
#if DOCUMENTS
@group(0) @binding(5) var<storage, read> documentStarts: array<u32>;
@group(0) @binding(6) var<uniform> size: Size;
#else
@group(0) @binding(5) var<uniform> size: Size;
#endif
#else
@group(0) @binding(3) var<storage, read> dO: array<vec4<STORED>>;
@group(0) @binding(4) var<storage, read> rows: array<f32>;
#if QUERIES
@group(0) @binding(5) var<storage, read_write> dQ: array<vec4<STORED>>;
@group(0) @binding(6) var<uniform> size: Size;
#else
@group(0) @binding(5) var<storage, read_write> dK: array<vec4<STORED>>;
@group(0) @binding(6) var<storage, read_write> dV: array<vec4<STORED>>;
@group(0) @binding(7) var<uniform> size: Size;
#endif
#endif

const ramp = vec4<u32>(0u, 1u, 2u, 3u);
const lowest = -3.4028234e38;

fn positions(first: u32) -> vec4<u32> {
  return min(first + ramp, vec4<u32>(size.time - 1u));
}

// Where the heads of four positions start, in quads.
fn headStarts(batch: u32, at: vec4<u32>, head: u32, heads: u32) -> vec4<u32> {
  return ((batch * size.time + at) * heads + head) * (size.headSize / 4u);
}

// The quads of a head that one of a team holds. Where they don't come out even, somebody has the last one as well as its owner...
fn quadOf(member: u32, c: u32) -> u32 {
  return min(member + c * size.team, size.headSize / 4u - 1u);
}

// ...but multiplies with nothing and writes nothing.
fn isOwn(member: u32, c: u32) -> bool {
  return (member + c * size.team) * 4u < size.headSize;
}

// Invocations too few for one team more take part in barriers alone.
fn isAtWork(lane: u32) -> bool {
  return lane < size.team * size.teams;
}

// A quad of four heads, a column each.
fn loadQ(at: vec4<u32>, quad: u32) -> mat4x4<f32> {
  return mat4x4<f32>(vec4<f32>(q[at.x + quad]), vec4<f32>(q[at.y + quad]), vec4<f32>(q[at.z + quad]), vec4<f32>(q[at.w + quad]));
}
fn loadK(at: vec4<u32>, quad: u32) -> mat4x4<f32> {
  return mat4x4<f32>(vec4<f32>(k[at.x + quad]), vec4<f32>(k[at.y + quad]), vec4<f32>(k[at.z + quad]), vec4<f32>(k[at.w + quad]));
}
fn loadV(at: vec4<u32>, quad: u32) -> mat4x4<f32> {
  return mat4x4<f32>(vec4<f32>(v[at.x + quad]), vec4<f32>(v[at.y + quad]), vec4<f32>(v[at.z + quad]), vec4<f32>(v[at.w + quad]));
}

// Whether a query attends to keys: not to later ones, which includes those past the end, nor to those before its document.
fn visible(keys: vec4<u32>, query: u32, start: u32) -> vec4<bool> {
#if DOCUMENTS
  return (keys <= vec4<u32>(query)) & (keys >= vec4<u32>(start));
#else
  return keys <= vec4<u32>(query);
#endif
}

#if SHARED
// Columns of MATRICES matrices: first what each invocation has found, then the sums of each team. A stride of LANES would put
// what the members of a team read at the same time into the same banks.
const stride = LANES + 1u;
var<workgroup> parts: array<vec4<f32>, 4u * MATRICES * stride>;
const mostTeams = LANES / 2u;
var<workgroup> sums: array<vec4<f32>, 4u * MATRICES * mostTeams>;

fn putParts(matrix: u32, lane: u32, part: mat4x4<f32>) {
  let at = 4u * matrix * stride + lane;
  parts[at] = part[0];
  parts[at + stride] = part[1];
  parts[at + 2u * stride] = part[2];
  parts[at + 3u * stride] = part[3];
}

// Parts are read before the second barrier and sums before the next first one, so the next parts and sums may overwrite them.
fn addParts(lane: u32) {
  workgroupBarrier();
  let first = lane - lane % size.team;
  for (var column = lane % size.team; column < 4u * MATRICES; column += size.team) {
    var sum = vec4<f32>();
    for (var member = 0u; member < size.team; member++) {
      sum += parts[column * stride + first + member];
    }
    sums[column * mostTeams + lane / size.team] = sum;
  }
  workgroupBarrier();
}

fn sumOf(matrix: u32, lane: u32) -> mat4x4<f32> {
  let at = 4u * matrix * mostTeams + lane / size.team;
  return mat4x4<f32>(sums[at], sums[at + mostTeams], sums[at + 2u * mostTeams], sums[at + 3u * mostTeams]);
}
#endif

#if DOCUMENTS
// Barriers want loops whose bounds all invocations are known to share.
var<workgroup> sharedBound: u32;
#endif

#if FORWARD

// Where the documents of queries start; whatever the host wrote, no later than the query itself.
fn startsOf(batch: u32, queries: vec4<u32>) -> vec4<u32> {
#if DOCUMENTS
  let at = batch * size.time + queries;
  return min(queries, vec4<u32>(documentStarts[at.x], documentStarts[at.y], documentStarts[at.z], documentStarts[at.w]));
#else
  return vec4<u32>();
#endif
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
  let owned = 4u * size.teams;
  let member = lane % size.team;
  let pair = size.first + group.y;
  let head = pair % size.heads;
  let batch = pair / size.heads;
  // The longest walks start first.
  let ownedFrom = (groups.x - 1u - group.x) * owned;
  let query = ownedFrom + lane / size.team * 4u;
  let queryAt = positions(query);
  let starts = startsOf(batch, queryAt);
  let atQ = headStarts(batch, queryAt, head, size.heads);
#if DOCUMENTS
  if (lane == 0u) { sharedBound = starts.x / 4u * 4u; }
  let keyStart = workgroupUniformLoad(&sharedBound);
#else
  let keyStart = 0u;
#endif

  // Matrices have a column for each query.
  var queries: array<mat4x4<f32>, SLICE>;
  var mixed: array<mat4x4<f32>, SLICE>;
  let scale = inverseSqrt(f32(size.headSize));
  for (var c = 0u; c < SLICE; c++) {
    queries[c] = loadQ(atQ, quadOf(member, c)) * select(0.0, scale, isOwn(member, c));
    mixed[c] = mat4x4<f32>();
  }
  var largest = vec4<f32>(lowest);
  var sum = vec4<f32>();
  for (var key = keyStart; key < min(ownedFrom + owned, size.time); key += 4u) {
    let atK = headStarts(batch, positions(key), head / (size.heads / size.keyHeads), size.keyHeads);
    var scores = mat4x4<f32>();
    for (var c = 0u; c < SLICE; c++) {
      scores += transpose(loadK(atK, quadOf(member, c))) * queries[c];
    }
#if SHARED
    putParts(0u, lane, scores);
    addParts(lane);
    scores = sumOf(0u, lane);
#endif
    let keys = key + ramp;
    let masked = vec4<f32>(lowest);
    let s0 = select(masked, scores[0], visible(keys, queryAt.x, starts.x));
    let s1 = select(masked, scores[1], visible(keys, queryAt.y, starts.y));
    let s2 = select(masked, scores[2], visible(keys, queryAt.z, starts.z));
    let s3 = select(masked, scores[3], visible(keys, queryAt.w, starts.w));
    let byKey = transpose(mat4x4<f32>(s0, s1, s2, s3));
    let before = largest;
    largest = max(largest, max(max(byKey[0], byKey[1]), max(byKey[2], byKey[3])));
    let shares = mat4x4<f32>(exp(s0 - largest.x), exp(s1 - largest.y), exp(s2 - largest.z), exp(s3 - largest.w));
    // The further the walk, the rarer is a new maximum.
    if (any(largest > before)) {
      let shrink = exp(before - largest);
      sum *= shrink;
      for (var c = 0u; c < SLICE; c++) {
        let old = mixed[c];
        mixed[c] = mat4x4<f32>(old[0] * shrink.x, old[1] * shrink.y, old[2] * shrink.z, old[3] * shrink.w);
      }
    }
    sum += vec4<f32>(1.0) * shares;
    for (var c = 0u; c < SLICE; c++) {
      mixed[c] += loadV(atK, quadOf(member, c)) * shares;
    }
  }

  for (var c = 0u; c < SLICE; c++) {
    let quad = quadOf(member, c);
    for (var i = 0u; i < 4u; i++) {
      if (query + i < size.time && isOwn(member, c) && isAtWork(lane)) { o[atQ[i] + quad] = vec4<STORED>(mixed[c][i] / sum[i]); }
    }
  }
  for (var i = 0u; i < 4u; i++) {
    if (query + i < size.time && member == 0u && isAtWork(lane)) {
      logSumExp[(batch * size.heads + head) * size.time + query + i] = largest[i] + log(sum[i]);
    }
  }
}

#else

fn loadSlope(at: vec4<u32>, quad: u32) -> mat4x4<f32> {
  return mat4x4<f32>(vec4<f32>(dO[at.x + quad]), vec4<f32>(dO[at.y + quad]), vec4<f32>(dO[at.z + quad]), vec4<f32>(dO[at.w + quad]));
}

// What rows hold of four queries.
fn loadNorm(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(rows[at.x], rows[at.y], rows[at.z], rows[at.w]); }
fn loadDelta(at: vec4<u32>) -> vec4<f32> { return loadNorm(size.batch * size.heads * size.time + at); }
fn loadStart(at: vec4<u32>) -> vec4<u32> {
#if DOCUMENTS
  return vec4<u32>(loadNorm(2u * size.batch * size.heads * size.time + at));
#else
  return vec4<u32>();
#endif
}

#if QUERIES

@compute @workgroup_size(LANES)
fn backwardQueries(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                   @builtin(local_invocation_index) lane: u32) {
  let owned = 4u * size.teams;
  let member = lane % size.team;
  let pair = size.first + group.y;
  let head = pair % size.heads;
  let batch = pair / size.heads;
  let ownedFrom = (groups.x - 1u - group.x) * owned;
  let query = ownedFrom + lane / size.team * 4u;
  let queryAt = positions(query);
  let atQ = headStarts(batch, queryAt, head, size.heads);
  let scalars = (batch * size.heads + head) * size.time + queryAt;
  let norm = loadNorm(scalars);
  let delta = loadDelta(scalars);
  let starts = loadStart(scalars);
#if DOCUMENTS
  if (lane == 0u) { sharedBound = starts.x / 4u * 4u; }
  let keyStart = workgroupUniformLoad(&sharedBound);
#else
  let keyStart = 0u;
#endif

  // Matrices have a column for each query.
  var queries: array<mat4x4<f32>, SLICE>;
  var slopes: array<mat4x4<f32>, SLICE>;
  var gradient: array<mat4x4<f32>, SLICE>;
  let scale = inverseSqrt(f32(size.headSize));
  for (var c = 0u; c < SLICE; c++) {
    queries[c] = loadQ(atQ, quadOf(member, c)) * select(0.0, scale, isOwn(member, c));
    slopes[c] = loadSlope(atQ, quadOf(member, c)) * select(0.0, 1.0, isOwn(member, c));
    gradient[c] = mat4x4<f32>();
  }
  for (var key = keyStart; key < min(ownedFrom + owned, size.time); key += 4u) {
    let atK = headStarts(batch, positions(key), head / (size.heads / size.keyHeads), size.keyHeads);
    var scores = mat4x4<f32>();
    var shareSlopes = mat4x4<f32>();
    for (var c = 0u; c < SLICE; c++) {
      scores += transpose(loadK(atK, quadOf(member, c))) * queries[c];
      shareSlopes += transpose(loadV(atK, quadOf(member, c))) * slopes[c];
    }
#if SHARED
    putParts(0u, lane, scores);
    putParts(1u, lane, shareSlopes);
    addParts(lane);
    scores = sumOf(0u, lane);
    shareSlopes = sumOf(1u, lane);
#endif
    let keys = key + ramp;
    let none = vec4<f32>();
    let scoreSlopes = scale * mat4x4<f32>(
      select(none, exp(scores[0] - norm.x), visible(keys, queryAt.x, starts.x)) * (shareSlopes[0] - delta.x),
      select(none, exp(scores[1] - norm.y), visible(keys, queryAt.y, starts.y)) * (shareSlopes[1] - delta.y),
      select(none, exp(scores[2] - norm.z), visible(keys, queryAt.z, starts.z)) * (shareSlopes[2] - delta.z),
      select(none, exp(scores[3] - norm.w), visible(keys, queryAt.w, starts.w)) * (shareSlopes[3] - delta.w));
    for (var c = 0u; c < SLICE; c++) {
      gradient[c] += loadK(atK, quadOf(member, c)) * scoreSlopes;
    }
  }

  for (var c = 0u; c < SLICE; c++) {
    let quad = quadOf(member, c);
    for (var i = 0u; i < 4u; i++) {
      if (query + i < size.time && isOwn(member, c) && isAtWork(lane)) { dQ[atQ[i] + quad] = vec4<STORED>(gradient[c][i]); }
    }
  }
}

#else

#if DOCUMENTS
// The first position from `first` on whose document starts after a key; starts never decrease.
fn firstPast(batch: u32, first: u32, key: u32) -> u32 {
  let starts = (2u * size.batch + batch) * size.heads * size.time;
  var low = first;
  var high = size.time;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (u32(rows[starts + middle]) > key) {
      high = middle;
    } else {
      low = middle + 1u;
    }
  }
  return low;
}
#endif

@compute @workgroup_size(LANES)
fn backwardKeys(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let owned = 4u * size.teams;
  let member = lane % size.team;
  let pair = size.first + group.y;
  let keyHead = pair % size.keyHeads;
  let batch = pair / size.keyHeads;
  // The first keys have the longest walks.
  let ownedFrom = group.x * owned;
  let key = ownedFrom + lane / size.team * 4u;
  let atK = headStarts(batch, positions(key), keyHead, size.keyHeads);
#if DOCUMENTS
  if (lane == 0u) { sharedBound = firstPast(batch, ownedFrom, ownedFrom + owned - 1u); }
  let queryEnd = workgroupUniformLoad(&sharedBound);
#else
  let queryEnd = size.time;
#endif

  // Matrices have a column for each key.
  var keys: array<mat4x4<f32>, SLICE>;
  var values: array<mat4x4<f32>, SLICE>;
  var keyGradient: array<mat4x4<f32>, SLICE>;
  var valueGradient: array<mat4x4<f32>, SLICE>;
  let scale = inverseSqrt(f32(size.headSize));
  for (var c = 0u; c < SLICE; c++) {
    keys[c] = loadK(atK, quadOf(member, c)) * select(0.0, scale, isOwn(member, c));
    values[c] = loadV(atK, quadOf(member, c)) * select(0.0, 1.0, isOwn(member, c));
    keyGradient[c] = mat4x4<f32>();
    valueGradient[c] = mat4x4<f32>();
  }
  for (var nth = 0u; nth < size.heads / size.keyHeads; nth++) {
    let head = keyHead * (size.heads / size.keyHeads) + nth;
    for (var query = ownedFrom; query < queryEnd; query += 4u) {
      let queryAt = positions(query);
      let atQ = headStarts(batch, queryAt, head, size.heads);
      var scores = mat4x4<f32>();
      var shareSlopes = mat4x4<f32>();
      for (var c = 0u; c < SLICE; c++) {
        scores += transpose(loadQ(atQ, quadOf(member, c))) * keys[c];
        shareSlopes += transpose(loadSlope(atQ, quadOf(member, c))) * values[c];
      }
#if SHARED
      putParts(0u, lane, scores);
      putParts(1u, lane, shareSlopes);
      addParts(lane);
      scores = sumOf(0u, lane);
      shareSlopes = sumOf(1u, lane);
#endif
      let scalars = (batch * size.heads + head) * size.time + queryAt;
      let norm = loadNorm(scalars);
      let delta = loadDelta(scalars);
      let starts = loadStart(scalars);
      let none = vec4<f32>();
      let shares = mat4x4<f32>(
        select(none, exp(scores[0] - norm), attending(query, starts, key)),
        select(none, exp(scores[1] - norm), attending(query, starts, key + 1u)),
        select(none, exp(scores[2] - norm), attending(query, starts, key + 2u)),
        select(none, exp(scores[3] - norm), attending(query, starts, key + 3u)));
      let scoreSlopes = scale * mat4x4<f32>(
        shares[0] * (shareSlopes[0] - delta), shares[1] * (shareSlopes[1] - delta),
        shares[2] * (shareSlopes[2] - delta), shares[3] * (shareSlopes[3] - delta));
      for (var c = 0u; c < SLICE; c++) {
        keyGradient[c] += loadQ(atQ, quadOf(member, c)) * scoreSlopes;
        valueGradient[c] += loadSlope(atQ, quadOf(member, c)) * shares;
      }
    }
  }

  for (var c = 0u; c < SLICE; c++) {
    let quad = quadOf(member, c);
    for (var i = 0u; i < 4u; i++) {
      if (key + i < size.time && isOwn(member, c) && isAtWork(lane)) {
        dK[atK[i] + quad] = vec4<STORED>(keyGradient[c][i]);
        dV[atK[i] + quad] = vec4<STORED>(valueGradient[c][i]);
      }
    }
  }
}

// Which of four queries attend to a key. Those past the end only repeat the last one and don't count.
fn attending(first: u32, starts: vec4<u32>, key: u32) -> vec4<bool> {
  let queries = first + ramp;
  let isLater = (queries < vec4<u32>(size.time)) & (queries >= vec4<u32>(key));
#if DOCUMENTS
  return isLater & (starts <= vec4<u32>(key));
#else
  return isLater;
#endif
}

#endif
#endif
