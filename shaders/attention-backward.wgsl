// Gradients of attention-forward.wgsl, with p[i,j] = exp(s[i,j] − lse[i]) computed again instead of remembered.
//   ds[i,j] = p[i,j]·(dO[i]·v[j] − delta[i]) / √HEAD_SIZE
//   dQ[i] = Σ_{j ≤ i} ds[i,j]·k[j];  dK[j] = Σ_{i ≥ j} ds[i,j]·q[i];  dV[j] = Σ_{i ≥ j} p[i,j]·dO[i]
//   q, dO, dQ: [BATCH,TIME,HEADS,HEAD_SIZE]; k, v, dK, dV: [BATCH,TIME,KV_HEADS,HEAD_SIZE], all STORED: f32 or f16;
//   rows: lse and delta, [2,BATCH,HEADS,TIME]. dK and dV sum over the query heads of the group, in their order.
// backwardQueries: one invocation owns four neighbouring queries and walks the keys, as the forward pass does.
// backwardKeys: one invocation owns four neighbouring keys and walks the queries of
//   each head of its group. Whoever owns a row writes it, in a fixed order of additions: no atomics, no barriers.

@group(0) @binding(0) var<storage, read> q: array<vec4<STORED>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<STORED>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<STORED>>;
@group(0) @binding(3) var<storage, read> dO: array<vec4<STORED>>;
@group(0) @binding(4) var<storage, read> rows: array<f32>;
#if QUERIES
@group(0) @binding(5) var<storage, read_write> dQ: array<vec4<STORED>>;
#else
@group(0) @binding(5) var<storage, read_write> dK: array<vec4<STORED>>;
@group(0) @binding(6) var<storage, read_write> dV: array<vec4<STORED>>;
#endif

const quads = HEAD_SIZE / 4u;
const ramp = vec4<u32>(0u, 1u, 2u, 3u);

// Where the heads of four neighbouring positions start, in quads. Positions past the end repeat the last one.
fn headStarts(batch: u32, position: u32, head: u32, heads: u32) -> vec4<u32> {
  return ((batch * TIME + min(position + ramp, vec4<u32>(TIME - 1u))) * heads + head) * quads;
}

// Quad d of four heads, a column each.
fn loadQ(at: vec4<u32>, d: u32) -> mat4x4<f32> {
  return mat4x4<f32>(vec4<f32>(q[at.x + d]), vec4<f32>(q[at.y + d]), vec4<f32>(q[at.z + d]), vec4<f32>(q[at.w + d]));
}
fn loadK(at: vec4<u32>, d: u32) -> mat4x4<f32> {
  return mat4x4<f32>(vec4<f32>(k[at.x + d]), vec4<f32>(k[at.y + d]), vec4<f32>(k[at.z + d]), vec4<f32>(k[at.w + d]));
}
fn loadV(at: vec4<u32>, d: u32) -> mat4x4<f32> {
  return mat4x4<f32>(vec4<f32>(v[at.x + d]), vec4<f32>(v[at.y + d]), vec4<f32>(v[at.z + d]), vec4<f32>(v[at.w + d]));
}
fn loadSlope(at: vec4<u32>, d: u32) -> mat4x4<f32> {
  return mat4x4<f32>(vec4<f32>(dO[at.x + d]), vec4<f32>(dO[at.y + d]), vec4<f32>(dO[at.z + d]), vec4<f32>(dO[at.w + d]));
}

// Where the per-query scalars of four neighbouring positions are.
fn scalarsAt(batch: u32, position: u32, head: u32) -> vec4<u32> {
  return (batch * HEADS + head) * TIME + min(position + ramp, vec4<u32>(TIME - 1u));
}

fn loadNorm(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(rows[at.x], rows[at.y], rows[at.z], rows[at.w]); }
fn loadDelta(at: vec4<u32>) -> vec4<f32> { return loadNorm(BATCH * HEADS * TIME + at); }

#if QUERIES

@compute @workgroup_size(LANES)
fn backwardQueries(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.y;
  let batch = group.z;
  let query = (group.x * LANES + lane) * 4u;
  let keyEnd = min((group.x + 1u) * LANES * 4u, TIME);
  let atQ = headStarts(batch, query, head, HEADS);

  // Matrices have a column for each query.
  var queries: array<mat4x4<f32>, quads>;
  var slopes: array<mat4x4<f32>, quads>;
  var gradient: array<mat4x4<f32>, quads>;
  let scale = inverseSqrt(f32(HEAD_SIZE));
  for (var d = 0u; d < quads; d++) {
    queries[d] = loadQ(atQ, d) * scale;
    slopes[d] = loadSlope(atQ, d);
    gradient[d] = mat4x4<f32>();
  }
  let at = scalarsAt(batch, query, head);
  let norm = loadNorm(at);
  let shift = loadDelta(at);

  for (var key = 0u; key < keyEnd; key += 4u) {
    let atK = headStarts(batch, key, head / (HEADS / KV_HEADS), KV_HEADS);
    var scores = mat4x4<f32>();
    var shareSlopes = mat4x4<f32>();
    for (var d = 0u; d < quads; d++) {
      scores += transpose(loadK(atK, d)) * queries[d];
      shareSlopes += transpose(loadV(atK, d)) * slopes[d];
    }
    let ahead = vec4<i32>(key + ramp) - vec4<i32>(i32(query));
    let none = vec4<f32>();
    let scoreSlopes = scale * mat4x4<f32>(
      select(exp(scores[0] - norm.x), none, ahead > vec4<i32>(0)) * (shareSlopes[0] - shift.x),
      select(exp(scores[1] - norm.y), none, ahead > vec4<i32>(1)) * (shareSlopes[1] - shift.y),
      select(exp(scores[2] - norm.z), none, ahead > vec4<i32>(2)) * (shareSlopes[2] - shift.z),
      select(exp(scores[3] - norm.w), none, ahead > vec4<i32>(3)) * (shareSlopes[3] - shift.w));
    for (var d = 0u; d < quads; d++) {
      gradient[d] += loadK(atK, d) * scoreSlopes;
    }
  }

  for (var d = 0u; d < quads; d++) {
    if (query < TIME) { dQ[atQ.x + d] = vec4<STORED>(gradient[d][0]); }
    if (query + 1u < TIME) { dQ[atQ.y + d] = vec4<STORED>(gradient[d][1]); }
    if (query + 2u < TIME) { dQ[atQ.z + d] = vec4<STORED>(gradient[d][2]); }
    if (query + 3u < TIME) { dQ[atQ.w + d] = vec4<STORED>(gradient[d][3]); }
  }
}

#else

@compute @workgroup_size(LANES)
fn backwardKeys(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let keyHead = group.y;
  let batch = group.z;
  let key = (group.x * LANES + lane) * 4u;
  let queryStart = group.x * LANES * 4u;
  let atK = headStarts(batch, key, keyHead, KV_HEADS);

  // Matrices have a column for each key.
  var keys: array<mat4x4<f32>, quads>;
  var values: array<mat4x4<f32>, quads>;
  var keyGradient: array<mat4x4<f32>, quads>;
  var valueGradient: array<mat4x4<f32>, quads>;
  let scale = inverseSqrt(f32(HEAD_SIZE));
  for (var d = 0u; d < quads; d++) {
    keys[d] = loadK(atK, d) * scale;
    values[d] = loadV(atK, d);
    keyGradient[d] = mat4x4<f32>();
    valueGradient[d] = mat4x4<f32>();
  }
  for (var member = 0u; member < HEADS / KV_HEADS; member++) {
    let head = keyHead * (HEADS / KV_HEADS) + member;
    for (var query = queryStart; query < TIME; query += 4u) {
      let atQ = headStarts(batch, query, head, HEADS);
      let at = scalarsAt(batch, query, head);
      let norm = loadNorm(at);
      let shift = loadDelta(at);
      var scores = mat4x4<f32>();
      var shareSlopes = mat4x4<f32>();
      for (var d = 0u; d < quads; d++) {
        scores += transpose(loadQ(atQ, d)) * keys[d];
        shareSlopes += transpose(loadSlope(atQ, d)) * values[d];
      }
      // How far each query lies after the first key; a query that only repeats the last one lies nowhere.
      let ahead = select(vec4<i32>(-1), vec4<i32>(query + ramp) - vec4<i32>(i32(key)), query + ramp < vec4<u32>(TIME));
      let none = vec4<f32>();
      let shares = mat4x4<f32>(
        select(none, exp(scores[0] - norm), ahead >= vec4<i32>(0)),
        select(none, exp(scores[1] - norm), ahead >= vec4<i32>(1)),
        select(none, exp(scores[2] - norm), ahead >= vec4<i32>(2)),
        select(none, exp(scores[3] - norm), ahead >= vec4<i32>(3)));
      let scoreSlopes = scale * mat4x4<f32>(
        shares[0] * (shareSlopes[0] - shift), shares[1] * (shareSlopes[1] - shift),
        shares[2] * (shareSlopes[2] - shift), shares[3] * (shareSlopes[3] - shift));
      for (var d = 0u; d < quads; d++) {
        keyGradient[d] += loadQ(atQ, d) * scoreSlopes;
        valueGradient[d] += loadSlope(atQ, d) * shares;
      }
    }
  }

  for (var d = 0u; d < quads; d++) {
    if (key < TIME) { dK[atK.x + d] = vec4<STORED>(keyGradient[d][0]); dV[atK.x + d] = vec4<STORED>(valueGradient[d][0]); }
    if (key + 1u < TIME) { dK[atK.y + d] = vec4<STORED>(keyGradient[d][1]); dV[atK.y + d] = vec4<STORED>(valueGradient[d][1]); }
    if (key + 2u < TIME) { dK[atK.z + d] = vec4<STORED>(keyGradient[d][2]); dV[atK.z + d] = vec4<STORED>(valueGradient[d][2]); }
    if (key + 3u < TIME) { dK[atK.w + d] = vec4<STORED>(keyGradient[d][3]); dV[atK.w + d] = vec4<STORED>(valueGradient[d][3]); }
  }
}

#endif
