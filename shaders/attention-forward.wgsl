// Causal attention with grouped queries. Nothing of the [TIME,TIME] matrix is stored.
//   s[i,j] = q[i]·k[j] / √HEAD_SIZE for j ≤ i;  lse[i] = log Σ_j exp(s[i,j]);  o[i] = Σ_j exp(s[i,j] − lse[i])·v[j]
//   q, o: [BATCH,TIME,HEADS,HEAD_SIZE]; k, v: [BATCH,TIME,KV_HEADS,HEAD_SIZE]; logSumExp: [BATCH,HEADS,TIME].
//   q, k, v and o are stored as STORED, f32 or f16.
// Query head h reads key head h / (HEADS / KV_HEADS). HEAD_SIZE is a multiple of 4.
// One invocation owns four neighbouring queries and takes keys four at a time, with a running maximum and sum for each
// query (online softmax), so every product is one of 4×4 matrices in registers. A workgroup owns 4·LANES queries of
// one head; its invocations walk the same keys, up to its last query, so that their reads coincide. No barriers.

@group(0) @binding(0) var<storage, read> q: array<vec4<STORED>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<STORED>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<STORED>>;
@group(0) @binding(3) var<storage, read_write> o: array<vec4<STORED>>;
@group(0) @binding(4) var<storage, read_write> logSumExp: array<f32>;

const quads = HEAD_SIZE / 4u;
const ramp = vec4<u32>(0u, 1u, 2u, 3u);
const lowest = -3.4028234e38;

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

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.y;
  let batch = group.z;
  let query = (group.x * LANES + lane) * 4u;
  let keyEnd = min((group.x + 1u) * LANES * 4u, TIME);
  let atQ = headStarts(batch, query, head, HEADS);

  // Matrices have a column for each query.
  var queries: array<mat4x4<f32>, quads>;
  var mixed: array<mat4x4<f32>, quads>;
  let scale = inverseSqrt(f32(HEAD_SIZE));
  for (var d = 0u; d < quads; d++) {
    queries[d] = loadQ(atQ, d) * scale;
    mixed[d] = mat4x4<f32>();
  }
  var largest = vec4<f32>(lowest);
  var sum = vec4<f32>();
  for (var key = 0u; key < keyEnd; key += 4u) {
    let atK = headStarts(batch, key, head / (HEADS / KV_HEADS), KV_HEADS);
    var scores = mat4x4<f32>();
    for (var d = 0u; d < quads; d++) {
      scores += transpose(loadK(atK, d)) * queries[d];
    }
    // How far each key lies after the first query. It also drops the keys that only repeat the last one.
    let ahead = vec4<i32>(key + ramp) - vec4<i32>(i32(query));
    let masked = vec4<f32>(lowest);
    let s0 = select(scores[0], masked, ahead > vec4<i32>(0));
    let s1 = select(scores[1], masked, ahead > vec4<i32>(1));
    let s2 = select(scores[2], masked, ahead > vec4<i32>(2));
    let s3 = select(scores[3], masked, ahead > vec4<i32>(3));
    let byKey = transpose(mat4x4<f32>(s0, s1, s2, s3));
    let before = largest;
    largest = max(largest, max(max(byKey[0], byKey[1]), max(byKey[2], byKey[3])));
    let shrink = exp(before - largest);
    let shares = mat4x4<f32>(exp(s0 - largest.x), exp(s1 - largest.y), exp(s2 - largest.z), exp(s3 - largest.w));
    sum = sum * shrink + vec4<f32>(1.0) * shares;
    for (var d = 0u; d < quads; d++) {
      let values = loadV(atK, d);
      let old = mixed[d];
      mixed[d] = mat4x4<f32>(old[0] * shrink.x, old[1] * shrink.y, old[2] * shrink.z, old[3] * shrink.w)
        + values * shares;
    }
  }

  let at = (batch * HEADS + head) * TIME + query;
  for (var d = 0u; d < quads; d++) {
    if (query < TIME) { o[atQ.x + d] = vec4<STORED>(mixed[d][0] / sum.x); }
    if (query + 1u < TIME) { o[atQ.y + d] = vec4<STORED>(mixed[d][1] / sum.y); }
    if (query + 2u < TIME) { o[atQ.z + d] = vec4<STORED>(mixed[d][2] / sum.z); }
    if (query + 3u < TIME) { o[atQ.w + d] = vec4<STORED>(mixed[d][3] / sum.w); }
  }
  for (var i = 0u; i < 4u; i++) {
    if (query + i < TIME) { logSumExp[at + i] = largest[i] + log(sum[i]); }
  }
}
