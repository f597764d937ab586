// The same gradients as attention-workgroup.wgsl, same bindings, for adapters that run invocations in the lanes of a CPU.
//   p[i,j] = exp(s[i,j] − lse[i]);  ds[i,j] = p[i,j]·(dO[i]·v[j] − delta[i]) / √HEAD_SIZE
//   dQ[i] = Σ_{j ≤ i} ds[i,j]·k[j];  dK[j] = Σ_{i ≥ j} ds[i,j]·q[i];  dV[j] = Σ_{i ≥ j} p[i,j]·dO[i]
//   q, dO, dQ: [BATCH,TIME,HEADS,HEAD_SIZE]; k, v, dK, dV: [BATCH,TIME,KV_HEADS,HEAD_SIZE], all STORED: f32 or f16;
//   rows: lse, delta and, with DOCUMENTS, where the document of i starts, before which no j lies: [2 or 3,BATCH,HEADS,TIME];
//   with HALF, sums is memory for the running dQ, or dK and dV, in f32.
//   dK and dV sum over the query heads of the group, in their order.
// backwardQueries: one invocation owns eight neighbouring queries of a head.
// backwardKeys: one invocation owns eight neighbouring keys and walks the queries of each head of its group.
// Tiles of scores are 8×8 in four 4×4 matrices; the running gradients live in dQ, dK and dV; positions past the end
// repeat the last one. Why it is done so stands in attention-software-forward.wgsl.

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
@group(0) @binding(3) var<storage, read> dO: array<STORED>;
@group(0) @binding(4) var<storage, read> rows: array<f32>;
#if QUERIES
@group(0) @binding(5) var<storage, read_write> dQ: array<STORED>;
#if HALF
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;
@group(0) @binding(7) var<uniform> size: Size;
#else
@group(0) @binding(6) var<uniform> size: Size;
#endif
#else
@group(0) @binding(5) var<storage, read_write> dK: array<STORED>;
@group(0) @binding(6) var<storage, read_write> dV: array<STORED>;
#if HALF
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;
@group(0) @binding(8) var<uniform> size: Size;
#else
@group(0) @binding(7) var<uniform> size: Size;
#endif
#endif

const ramp = vec4<u32>(0u, 1u, 2u, 3u);

fn positions(first: u32) -> vec4<u32> {
  return min(first + ramp, vec4<u32>(size.time - 1u));
}

fn headStarts(batch: u32, at: vec4<u32>, head: u32, heads: u32) -> vec4<u32> {
  return ((batch * size.time + at) * heads + head) * size.headSize;
}

fn loadQ(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(vec4<STORED>(q[at.x], q[at.y], q[at.z], q[at.w])); }
fn loadK(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(vec4<STORED>(k[at.x], k[at.y], k[at.z], k[at.w])); }
fn loadV(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(vec4<STORED>(v[at.x], v[at.y], v[at.z], v[at.w])); }
fn loadSlope(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(vec4<STORED>(dO[at.x], dO[at.y], dO[at.z], dO[at.w])); }
fn loadNorm(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(rows[at.x], rows[at.y], rows[at.z], rows[at.w]); }
fn loadDelta(at: vec4<u32>) -> vec4<f32> { return loadNorm(size.batch * size.heads * size.time + at); }
fn loadStart(at: vec4<u32>) -> vec4<u32> {
#if DOCUMENTS
  return vec4<u32>(loadNorm(2u * size.batch * size.heads * size.time + at));
#else
  return vec4<u32>();
#endif
}

// Running gradients lie where they end, or in sums, where f16 would round them at every addition.
#if HALF
fn loadSum(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(sums[at.x], sums[at.y], sums[at.z], sums[at.w]); }
fn storeSum(at: vec4<u32>, value: vec4<f32>) {
  sums[at.x] = value.x;
  sums[at.y] = value.y;
  sums[at.z] = value.z;
  sums[at.w] = value.w;
}
#endif

// A column for each entry of `across`, a row for each entry of `down`.
fn outer(down: vec4<f32>, across: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(down * across.x, down * across.y, down * across.z, down * across.w);
}

fn times(a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]);
}

#if QUERIES

// Matrices have a column for each query and a row for each key.
fn sharesOf(products: mat4x4<f32>, norm: vec4<f32>, key: u32, queries: vec4<u32>, starts: vec4<u32>) -> mat4x4<f32> {
  let scores = products * inverseSqrt(f32(size.headSize));
  let keys = key + ramp;
  let none = vec4<f32>();
  return mat4x4<f32>(select(none, exp(scores[0] - norm.x), visible(keys, queries.x, starts.x)),
                     select(none, exp(scores[1] - norm.y), visible(keys, queries.y, starts.y)),
                     select(none, exp(scores[2] - norm.z), visible(keys, queries.z, starts.z)),
                     select(none, exp(scores[3] - norm.w), visible(keys, queries.w, starts.w)));
}

// Whether a query attends to keys: not to later ones, nor to those before its document.
fn visible(keys: vec4<u32>, query: u32, start: u32) -> vec4<bool> {
#if DOCUMENTS
  return (keys <= vec4<u32>(query)) & (keys >= vec4<u32>(start));
#else
  return keys <= vec4<u32>(query);
#endif
}

#if HALF
fn loadGradient(at: vec4<u32>) -> vec4<f32> { return loadSum(at); }
fn storeGradient(at: vec4<u32>, value: vec4<f32>) { storeSum(at, value); }
#else
fn loadGradient(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(dQ[at.x], dQ[at.y], dQ[at.z], dQ[at.w]); }
fn storeGradient(at: vec4<u32>, value: vec4<f32>) {
  dQ[at.x] = value.x;
  dQ[at.y] = value.y;
  dQ[at.z] = value.z;
  dQ[at.w] = value.w;
}
#endif

@compute @workgroup_size(LANES)
fn backwardQueries(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
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
  let scalars = (batch * size.heads + head) * size.time;
  let normTop = loadNorm(scalars + top);
  let normBottom = loadNorm(scalars + bottom);
  let startsTop = loadStart(scalars + top);
  let startsBottom = loadStart(scalars + bottom);
  let keyStart = startsTop.x / 8u * 8u;
  let shiftTop = loadDelta(scalars + top);
  let shiftBottom = loadDelta(scalars + bottom);
  let scale = inverseSqrt(f32(size.headSize));

  for (var key = keyStart; key < min(query + 8u, size.time); key += 8u) {
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
    // Starting from −delta, the products of dO and v end as the slopes of the shares less delta.
    let ones = vec4<f32>(1.0);
    var slopeTopLeft = outer(ones, -shiftTop);
    var slopeTopRight = slopeTopLeft;
    var slopeBottomLeft = outer(ones, -shiftBottom);
    var slopeBottomRight = slopeBottomLeft;
    for (var d = base; d < base + size.headSize; d++) {
      let slopesTop = loadSlope(atTop + d);
      let slopesBottom = loadSlope(atBottom + d);
      let valuesLeft = loadV(atLeft + d);
      let valuesRight = loadV(atRight + d);
      slopeTopLeft += outer(valuesLeft, slopesTop);
      slopeTopRight += outer(valuesRight, slopesTop);
      slopeBottomLeft += outer(valuesLeft, slopesBottom);
      slopeBottomRight += outer(valuesRight, slopesBottom);
    }
    topLeft = times(sharesOf(topLeft, normTop, key, top, startsTop), slopeTopLeft) * scale;
    topRight = times(sharesOf(topRight, normTop, key + 4u, top, startsTop), slopeTopRight) * scale;
    bottomLeft = times(sharesOf(bottomLeft, normBottom, key, bottom, startsBottom), slopeBottomLeft) * scale;
    bottomRight = times(sharesOf(bottomRight, normBottom, key + 4u, bottom, startsBottom), slopeBottomRight) * scale;
    for (var d = base; d < base + size.headSize; d++) {
      let keysLeft = loadK(atLeft + d);
      let keysRight = loadK(atRight + d);
      // What dQ holds before the first block is anything, NaN included.
      let oldTop = select(loadGradient(atTop + d), vec4<f32>(), key == keyStart);
      let oldBottom = select(loadGradient(atBottom + d), vec4<f32>(), key == keyStart);
      storeGradient(atTop + d, oldTop + keysLeft * topLeft + keysRight * topRight);
      storeGradient(atBottom + d, oldBottom + keysLeft * bottomLeft + keysRight * bottomRight);
    }
  }
#if HALF
  for (var d = base; d < base + size.headSize; d++) {
    for (var i = 0u; i < 4u; i++) {
      dQ[atTop[i] + d] = STORED(sums[atTop[i] + d]);
      dQ[atBottom[i] + d] = STORED(sums[atBottom[i] + d]);
    }
  }
#endif
}

#else

// Matrices have a column for each key and a row for each query.
fn sharesOf(products: mat4x4<f32>, norm: vec4<f32>, query: u32, keys: vec4<u32>, starts: vec4<u32>) -> mat4x4<f32> {
  let scores = products * inverseSqrt(f32(size.headSize));
  let queries = query + ramp;
  let none = vec4<f32>();
  return mat4x4<f32>(select(none, exp(scores[0] - norm), visible(keys.x, queries, starts)),
                     select(none, exp(scores[1] - norm), visible(keys.y, queries, starts)),
                     select(none, exp(scores[2] - norm), visible(keys.z, queries, starts)),
                     select(none, exp(scores[3] - norm), visible(keys.w, queries, starts)));
}

// Whether queries attend to a key: not to a later one, nor to one before their document. Queries past the end don't count.
fn visible(key: u32, queries: vec4<u32>, starts: vec4<u32>) -> vec4<bool> {
  let isLater = (queries < vec4<u32>(size.time)) & (queries >= vec4<u32>(key));
#if DOCUMENTS
  return isLater & (starts <= vec4<u32>(key));
#else
  return isLater;
#endif
}

// Whether the query and those after it belong to documents that start after the last of eight keys.
fn isPast(at: u32, key: u32) -> bool {
#if DOCUMENTS
  return u32(rows[2u * size.batch * size.heads * size.time + at]) > key + 7u;
#else
  return false;
#endif
}

#if HALF
fn loadKeyGradient(at: vec4<u32>) -> vec4<f32> { return loadSum(at); }
fn storeKeyGradient(at: vec4<u32>, value: vec4<f32>) { storeSum(at, value); }
#else
fn loadKeyGradient(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(dK[at.x], dK[at.y], dK[at.z], dK[at.w]); }
fn storeKeyGradient(at: vec4<u32>, value: vec4<f32>) {
  dK[at.x] = value.x;
  dK[at.y] = value.y;
  dK[at.z] = value.z;
  dK[at.w] = value.w;
}
#endif
#if HALF
fn loadValueGradient(at: vec4<u32>) -> vec4<f32> { return loadSum(size.batch * size.time * size.keyHeads * size.headSize + at); }
fn storeValueGradient(at: vec4<u32>, value: vec4<f32>) { storeSum(size.batch * size.time * size.keyHeads * size.headSize + at, value); }
#else
fn loadValueGradient(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(dV[at.x], dV[at.y], dV[at.z], dV[at.w]); }
fn storeValueGradient(at: vec4<u32>, value: vec4<f32>) {
  dV[at.x] = value.x;
  dV[at.y] = value.y;
  dV[at.z] = value.z;
  dV[at.w] = value.w;
}
#endif

@compute @workgroup_size(LANES)
fn backwardKeys(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) lane: u32) {
  let series = size.batch * size.keyHeads;
  let blocks = (size.time + 7u) / 8u;
  let invocation = (size.first + group.y * groups.x + group.x) * LANES + lane;
  if (invocation >= series * blocks) { return; }
  let batch = invocation % series / size.keyHeads;
  let keyHead = invocation % size.keyHeads;
  // The first keys have the longest walks.
  let key = invocation / series * 8u;
  let left = positions(key);
  let right = positions(key + 4u);
  let base = headStarts(batch, left, keyHead, size.keyHeads).x;
  let atLeft = headStarts(batch, left, keyHead, size.keyHeads) - base;
  let atRight = headStarts(batch, right, keyHead, size.keyHeads) - base;
  let scale = inverseSqrt(f32(size.headSize));

  for (var member = 0u; member < size.heads / size.keyHeads; member++) {
    let head = keyHead * (size.heads / size.keyHeads) + member;
    let scalars = (batch * size.heads + head) * size.time;
    for (var query = key; query < size.time && !isPast(scalars + query, key); query += 8u) {
      let atTop = headStarts(batch, positions(query), head, size.heads) - base;
      let atBottom = headStarts(batch, positions(query + 4u), head, size.heads) - base;
      let scalarsTop = scalars + positions(query);
      let scalarsBottom = scalars + positions(query + 4u);
      var topLeft = mat4x4<f32>();
      var topRight = mat4x4<f32>();
      var bottomLeft = mat4x4<f32>();
      var bottomRight = mat4x4<f32>();
      for (var d = base; d < base + size.headSize; d++) {
        let queriesTop = loadQ(atTop + d);
        let queriesBottom = loadQ(atBottom + d);
        let keysLeft = loadK(atLeft + d);
        let keysRight = loadK(atRight + d);
        topLeft += outer(queriesTop, keysLeft);
        topRight += outer(queriesTop, keysRight);
        bottomLeft += outer(queriesBottom, keysLeft);
        bottomRight += outer(queriesBottom, keysRight);
      }
      let normTop = loadNorm(scalarsTop);
      let normBottom = loadNorm(scalarsBottom);
      let startsTop = loadStart(scalarsTop);
      let startsBottom = loadStart(scalarsBottom);
      topLeft = sharesOf(topLeft, normTop, query, left, startsTop);
      topRight = sharesOf(topRight, normTop, query, right, startsTop);
      bottomLeft = sharesOf(bottomLeft, normBottom, query + 4u, left, startsBottom);
      bottomRight = sharesOf(bottomRight, normBottom, query + 4u, right, startsBottom);

      // Starting from −delta, the products of dO and v end as the slopes of the shares less delta.
      let ones = vec4<f32>(1.0);
      var slopeTopLeft = outer(-loadDelta(scalarsTop), ones);
      var slopeTopRight = slopeTopLeft;
      var slopeBottomLeft = outer(-loadDelta(scalarsBottom), ones);
      var slopeBottomRight = slopeBottomLeft;
      let isFirst = member == 0u && query == key;
      for (var d = base; d < base + size.headSize; d++) {
        let slopesTop = loadSlope(atTop + d);
        let slopesBottom = loadSlope(atBottom + d);
        let valuesLeft = loadV(atLeft + d);
        let valuesRight = loadV(atRight + d);
        slopeTopLeft += outer(slopesTop, valuesLeft);
        slopeTopRight += outer(slopesTop, valuesRight);
        slopeBottomLeft += outer(slopesBottom, valuesLeft);
        slopeBottomRight += outer(slopesBottom, valuesRight);
        // What dV holds before the first block is anything, NaN included.
        let oldLeft = select(loadValueGradient(atLeft + d), vec4<f32>(), isFirst);
        let oldRight = select(loadValueGradient(atRight + d), vec4<f32>(), isFirst);
        storeValueGradient(atLeft + d, oldLeft + slopesTop * topLeft + slopesBottom * bottomLeft);
        storeValueGradient(atRight + d, oldRight + slopesTop * topRight + slopesBottom * bottomRight);
      }
      topLeft = times(topLeft, slopeTopLeft) * scale;
      topRight = times(topRight, slopeTopRight) * scale;
      bottomLeft = times(bottomLeft, slopeBottomLeft) * scale;
      bottomRight = times(bottomRight, slopeBottomRight) * scale;
      for (var d = base; d < base + size.headSize; d++) {
        let queriesTop = loadQ(atTop + d);
        let queriesBottom = loadQ(atBottom + d);
        let oldLeft = select(loadKeyGradient(atLeft + d), vec4<f32>(), isFirst);
        let oldRight = select(loadKeyGradient(atRight + d), vec4<f32>(), isFirst);
        storeKeyGradient(atLeft + d, oldLeft + queriesTop * topLeft + queriesBottom * bottomLeft);
        storeKeyGradient(atRight + d, oldRight + queriesTop * topRight + queriesBottom * bottomRight);
      }
    }
  }
#if HALF
  for (var d = base; d < base + size.headSize; d++) {
    for (var i = 0u; i < 4u; i++) {
      for (var half = 0u; half < 2u; half++) {
        let at = select(atLeft[i], atRight[i], half == 1u) + d;
        dK[at] = STORED(sums[at]);
        dV[at] = STORED(sums[size.batch * size.time * size.keyHeads * size.headSize + at]);
      }
    }
  }
#endif
}

#endif
