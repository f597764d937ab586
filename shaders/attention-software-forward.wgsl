// The same attention as attention-workgroup.wgsl, same bindings, for adapters that run invocations in the lanes of a CPU.
//   s[i,j] = q[i]·k[j] / √HEAD_SIZE for j ≤ i;  lse[i] = log Σ_j exp(s[i,j]);  o[i] = Σ_j exp(s[i,j] − lse[i])·v[j]
//   q, o: [BATCH,TIME,HEADS,HEAD_SIZE]; k, v: [BATCH,TIME,KV_HEADS,HEAD_SIZE]; logSumExp: [BATCH,HEADS,TIME].
//   With DOCUMENTS j is at least documentStarts[i], of [BATCH,TIME]: where the document of i starts, which never decreases.
//   q, k, v and o are stored as STORED, f32 or f16; with HALF, sums is memory of o's size for the running output.
// One invocation owns eight neighbouring queries of a head and takes keys eight at a time: an 8×8 tile of scores in four
// 4×4 matrices, one outer product for each element of the head. The running output lives in o (in sums, where f16 would round
// it at every key), not in a private array, which those adapters would unroll into thousands of accesses or index lane by lane. Neighbouring invocations own
// the same queries of other heads and rows, so that the lanes of a vector visit equally many keys.
// BATCH, TIME, HEADS, KV_HEADS and HEAD_SIZE are fields of the uniform: one pipeline serves all sizes, and no adapter unrolls a
// loop over a head, which lavapipe would compile up to four times as long. Such loops run from `base`, where the invocation's
// first head starts, and places are kept relative to it.
// Positions past the end repeat the last one throughout, so what they write is what it writes.

struct Size {
  batch: u32,
  time: u32,
  heads: u32,
  keyHeads: u32,
  headSize: u32,
  // What of the grid's workgroups the dispatches before this one did.
  first: u32,
}

@group(0) @binding(0) var<storage, read> q: array<STORED>;
@group(0) @binding(1) var<storage, read> k: array<STORED>;
@group(0) @binding(2) var<storage, read> v: array<STORED>;
@group(0) @binding(4) var<storage, read_write> logSumExp: array<f32>;
#if DOCUMENTS
@group(0) @binding(5) var<storage, read> documentStarts: array<u32>;
#endif
#if HALF
@group(0) @binding(3) var<storage, read_write> o: array<STORED>;
#if DOCUMENTS
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;
@group(0) @binding(7) var<uniform> size: Size;
#else
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;
@group(0) @binding(6) var<uniform> size: Size;
#endif
#else
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
#if DOCUMENTS
@group(0) @binding(6) var<uniform> size: Size;
#else
@group(0) @binding(5) var<uniform> size: Size;
#endif
#endif

const ramp = vec4<u32>(0u, 1u, 2u, 3u);
const lowest = -3.4028234e38;

fn positions(first: u32) -> vec4<u32> {
  return min(first + ramp, vec4<u32>(size.time - 1u));
}

fn headStarts(batch: u32, at: vec4<u32>, head: u32, heads: u32) -> vec4<u32> {
  return ((batch * size.time + at) * heads + head) * size.headSize;
}

fn loadQ(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(vec4<STORED>(q[at.x], q[at.y], q[at.z], q[at.w])); }
fn loadK(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(vec4<STORED>(k[at.x], k[at.y], k[at.z], k[at.w])); }
fn loadV(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(vec4<STORED>(v[at.x], v[at.y], v[at.z], v[at.w])); }
fn loadSum(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(sums[at.x], sums[at.y], sums[at.z], sums[at.w]); }
fn storeSum(at: vec4<u32>, value: vec4<f32>) {
  sums[at.x] = value.x;
  sums[at.y] = value.y;
  sums[at.z] = value.z;
  sums[at.w] = value.w;
}

// A column for each query, a row for each key.
fn outer(keys: vec4<f32>, queries: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(keys * queries.x, keys * queries.y, keys * queries.z, keys * queries.w);
}

// Whether a query attends to keys: not to later ones, nor to those before its document.
fn visible(keys: vec4<u32>, query: u32, start: u32) -> vec4<bool> {
#if DOCUMENTS
  return (keys <= vec4<u32>(query)) & (keys >= vec4<u32>(start));
#else
  return keys <= vec4<u32>(query);
#endif
}

fn causal(tile: mat4x4<f32>, key: u32, queries: vec4<u32>, starts: vec4<u32>) -> mat4x4<f32> {
  let keys = key + ramp;
  let masked = vec4<f32>(lowest);
  return mat4x4<f32>(
    select(masked, tile[0], visible(keys, queries.x, starts.x)), select(masked, tile[1], visible(keys, queries.y, starts.y)),
    select(masked, tile[2], visible(keys, queries.z, starts.z)), select(masked, tile[3], visible(keys, queries.w, starts.w)));
}

// Where the documents of queries start; whatever the host wrote, no later than the query itself.
fn startsOf(batch: u32, queries: vec4<u32>) -> vec4<u32> {
#if DOCUMENTS
  let at = batch * size.time + queries;
  return min(queries, vec4<u32>(documentStarts[at.x], documentStarts[at.y], documentStarts[at.z], documentStarts[at.w]));
#else
  return vec4<u32>();
#endif
}

fn largestByQuery(tile: mat4x4<f32>) -> vec4<f32> {
  let byKey = transpose(tile);
  return max(max(byKey[0], byKey[1]), max(byKey[2], byKey[3]));
}

fn shares(scores: mat4x4<f32>, shift: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(exp(scores[0] - shift.x), exp(scores[1] - shift.y), exp(scores[2] - shift.z), exp(scores[3] - shift.w));
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
  let series = size.batch * size.heads;
  let blocks = (size.time + 7u) / 8u;
  let invocation = (size.first + group.y * groups.x + group.x) * LANES + lane;
  if (invocation >= series * blocks) { return; }
  let batch = invocation % series / size.heads;
  let head = invocation % size.heads;
  // The longest walks start first.
  let query = (blocks - 1u - invocation / series) * 8u;
  let top = positions(query);
  let bottom = positions(query + 4u);
  let base = headStarts(batch, top, head, size.heads).x;
  let atTop = headStarts(batch, top, head, size.heads) - base;
  let atBottom = headStarts(batch, bottom, head, size.heads) - base;
  let startsTop = startsOf(batch, top);
  let startsBottom = startsOf(batch, bottom);
  let keyStart = startsTop.x / 8u * 8u;
  let keyEnd = min(query + 8u, size.time);

  let scale = inverseSqrt(f32(size.headSize));
  var largestTop = vec4<f32>(lowest);
  var largestBottom = vec4<f32>(lowest);
  var sumTop = vec4<f32>();
  var sumBottom = vec4<f32>();
  for (var key = keyStart; key < keyEnd; key += 8u) {
    let atLeft = headStarts(batch, positions(key), head / (size.heads / size.keyHeads), size.keyHeads) - base;
    let atRight = headStarts(batch, positions(key + 4u), head / (size.heads / size.keyHeads), size.keyHeads) - base;
    var topLeft = mat4x4<f32>();
    var topRight = mat4x4<f32>();
    var bottomLeft = mat4x4<f32>();
    var bottomRight = mat4x4<f32>();
    for (var d = base; d < base + size.headSize; d++) {
      let queriesTop = loadQ(atTop + d);
      let queriesBottom = loadQ(atBottom + d);
      let keysLeft = loadK(atLeft + d);
      let keysRight = loadK(atRight + d);
      topLeft += outer(keysLeft, queriesTop);
      topRight += outer(keysRight, queriesTop);
      bottomLeft += outer(keysLeft, queriesBottom);
      bottomRight += outer(keysRight, queriesBottom);
    }
    topLeft = causal(topLeft * scale, key, top, startsTop);
    topRight = causal(topRight * scale, key + 4u, top, startsTop);
    bottomLeft = causal(bottomLeft * scale, key, bottom, startsBottom);
    bottomRight = causal(bottomRight * scale, key + 4u, bottom, startsBottom);

    let beforeTop = largestTop;
    let beforeBottom = largestBottom;
    largestTop = max(largestTop, max(largestByQuery(topLeft), largestByQuery(topRight)));
    largestBottom = max(largestBottom, max(largestByQuery(bottomLeft), largestByQuery(bottomRight)));
    let keepTop = exp(beforeTop - largestTop);
    let keepBottom = exp(beforeBottom - largestBottom);
    topLeft = shares(topLeft, largestTop);
    topRight = shares(topRight, largestTop);
    bottomLeft = shares(bottomLeft, largestBottom);
    bottomRight = shares(bottomRight, largestBottom);
    let ones = vec4<f32>(1.0);
    sumTop = sumTop * keepTop + ones * topLeft + ones * topRight;
    sumBottom = sumBottom * keepBottom + ones * bottomLeft + ones * bottomRight;

    let isFirst = key == keyStart;
    let isLast = key + 8u >= keyEnd;
    let finishTop = select(ones, ones / sumTop, isLast);
    let finishBottom = select(ones, ones / sumBottom, isLast);
    for (var d = base; d < base + size.headSize; d++) {
      let valuesLeft = loadV(atLeft + d);
      let valuesRight = loadV(atRight + d);
      // What sums holds before the first block is anything, NaN included.
      let oldTop = select(loadSum(atTop + d), vec4<f32>(), isFirst);
      let oldBottom = select(loadSum(atBottom + d), vec4<f32>(), isFirst);
      storeSum(atTop + d, (oldTop * keepTop + valuesLeft * topLeft + valuesRight * topRight) * finishTop);
      storeSum(atBottom + d, (oldBottom * keepBottom + valuesLeft * bottomLeft + valuesRight * bottomRight) * finishBottom);
    }
  }
#if HALF
  for (var d = base; d < base + size.headSize; d++) {
    for (var i = 0u; i < 4u; i++) {
      o[atTop[i] + d] = STORED(sums[atTop[i] + d]);
      o[atBottom[i] + d] = STORED(sums[atBottom[i] + d]);
    }
  }
#endif

  let at = (batch * size.heads + head) * size.time;
  let normTop = largestTop + log(sumTop);
  let normBottom = largestBottom + log(sumBottom);
  logSumExp[at + top.x] = normTop.x;
  logSumExp[at + top.y] = normTop.y;
  logSumExp[at + top.z] = normTop.z;
  logSumExp[at + top.w] = normTop.w;
  logSumExp[at + bottom.x] = normBottom.x;
  logSumExp[at + bottom.y] = normBottom.y;
  logSumExp[at + bottom.z] = normBottom.z;
  logSumExp[at + bottom.w] = normBottom.w;
}
