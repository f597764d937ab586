// Attention of a few new positions over a cache that holds their keys and values too.
//   s[j] = q[i,h]·keyCache[j,kv] / √HEAD_SIZE for j ≤ first + min(i, count − 1);  o[i,h] = Σ_j softmax(s)[j]·valueCache[j,kv]
//   q, o: [ROWS,HEADS,HEAD_SIZE] f32; the caches: [capacity,KEY_HEADS,HEAD_SIZE]; kv = h·KEY_HEADS/HEADS; span: [first, count].
// How much of the cache counts is data, so that one pipeline serves every length. Rows from count on are padding.
// A workgroup owns one head of one position and takes 64 keys at a time: first a lane a key, for the scores, then a lane a quad
// of the head and every so many'th key, for the sum. What a lane sums is scaled when a larger score comes (Milakov and
// Gimelshein, Online normalizer calculation for softmax, 2018).

struct Size {
  rows: u32,
  heads: u32,
  keyHeads: u32,
  headQuads: u32,
  capacity: u32,
  // Workgroups that the dispatches before this one had.
  before: u32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> keyCache: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> valueCache: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> span: array<u32>;
@group(0) @binding(4) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> size: Size;

const lanes = 64u;
const lowest = -3.4028234e38;

var<workgroup> scores: array<f32, lanes>;
var<workgroup> sums: array<vec4<f32>, lanes>;
var<workgroup> weights: array<f32, lanes>;

@compute @workgroup_size(lanes)
fn attend(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
  let index = size.before + group.y * groups.x + group.x;
  if (index >= size.rows * size.heads) {
    return;
  }
  let row = index / size.heads;
  let queryAt = index * size.headQuads;
  let keyStep = size.keyHeads * size.headQuads;
  let headAt = (index % size.heads) * size.keyHeads / size.heads * size.headQuads;
  let visible = min(span[0] + min(row + 1u, span[1]), size.capacity);
  let scale = inverseSqrt(f32(4u * size.headQuads));
  let parts = lanes / size.headQuads;
  let part = lane / size.headQuads;
  let quad = lane % size.headQuads;
  let sumsUp = part < parts;

  var largest = lowest;
  var weight = 0.0;
  var sum = vec4<f32>();
  for (var tile = 0u; tile < visible; tile += lanes) {
    let count = min(lanes, visible - tile);
    if (lane < count) {
      let keyAt = (tile + lane) * keyStep + headAt;
      var score = 0.0;
      for (var d = 0u; d < size.headQuads; d++) {
        score += dot(q[queryAt + d], keyCache[keyAt + d]);
      }
      scores[lane] = score * scale;
    }
    workgroupBarrier();
    var top = largest;
    for (var j = 0u; j < count; j++) {
      top = max(top, scores[j]);
    }
    let kept = exp(largest - top);
    sum *= kept;
    weight *= kept;
    largest = top;
    if (sumsUp) {
      for (var j = part; j < count; j += parts) {
        let share = exp(scores[j] - top);
        weight += share;
        sum += share * valueCache[(tile + j) * keyStep + headAt + quad];
      }
    }
    workgroupBarrier();
  }
  sums[lane] = sum;
  weights[lane] = weight;
  workgroupBarrier();
  if (part == 0u) {
    for (var other = 1u; other < parts; other++) {
      sum += sums[other * size.headQuads + quad];
      weight += weights[other * size.headQuads + quad];
    }
    o[queryAt + quad] = sum / weight;
  }
}
