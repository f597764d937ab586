// A fingerprint of the bits of the weights: two wrapping sums of terms that depend on value and position, so that the
// order of summation does not matter and every device finds the same.
//
//   terms:  parts[2p] = sum over group p of bits[i] (2i + 1);  parts[2p + 1] = sum of mixed(bits[i] + i 0x9e3779b9)
//   total:  hash[k] = sum_p parts[2p + k]
//
// bits: [COUNT], a range that starts at element START of the flat buffer; parts: [2 PARTS], of which the range owns those
// from FIRST_PART on; hash: [2]. terms: a workgroup owns 4096 consecutive elements. total: one workgroup.
// The mixing function is the 32-bit integer hash "lowbias32" of Chris Wellons' public-domain hash prospector.

@group(0) @binding(0) var<storage, read> bits: array<u32>;
@group(0) @binding(1) var<storage, read_write> newParts: array<u32>;
@group(0) @binding(1) var<storage, read> parts: array<u32>;
@group(0) @binding(2) var<storage, read_write> hash: array<u32>;

const elementsPerGroup = 4096u;
var<workgroup> lanes: array<vec2u, 64>;

fn mixed(value: u32) -> u32 {
  var v = value;
  v = (v ^ (v >> 16u)) * 0x7feb352du;
  v = (v ^ (v >> 15u)) * 0x846ca68bu;
  return v ^ (v >> 16u);
}

fn groupSum(value: vec2u, lane: u32) -> vec2u {
  lanes[lane] = value;
  workgroupBarrier();
  for (var reach = 32u; reach > 0u; reach = reach / 2u) {
    if (lane < reach) {
      lanes[lane] += lanes[lane + reach];
    }
    workgroupBarrier();
  }
  return lanes[0];
}

@compute @workgroup_size(64)
fn terms(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let groupIndex = group.y * GROUPS_X + group.x;
  let start = groupIndex * elementsPerGroup;
  let end = min(start + elementsPerGroup, COUNT);
  var sum = vec2u(0u);
  for (var i = start + lane; i < end; i += 64u) {
    let position = START + i;
    sum += vec2u(bits[i] * (2u * position + 1u), mixed(bits[i] + position * 0x9e3779b9u));
  }
  let total = groupSum(sum, lane);
  if (lane == 0u && start < COUNT) {
    newParts[2u * (FIRST_PART + groupIndex)] = total.x;
    newParts[2u * (FIRST_PART + groupIndex) + 1u] = total.y;
  }
}

@compute @workgroup_size(64)
fn total(@builtin(local_invocation_index) lane: u32) {
  var sum = vec2u(0u);
  for (var part = lane; part < PARTS; part += 64u) {
    sum += vec2u(parts[2u * part], parts[2u * part + 1u]);
  }
  let all = groupSum(sum, lane);
  if (lane == 0u) {
    hash[0] = all.x;
    hash[1] = all.y;
  }
}
