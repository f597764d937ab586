// Multiplies gradients by a factor in place and finds out whether all of them are finite; `judge` of contribution.wgsl
// makes one verdict of the flags.
//
//   scale:  g[i] = g[i] * factor;  flags[p] = 1 where one of the 4096 elements of group p is not finite, else 0
//
// g: [COUNT], a range of the flat buffer; flags: [PARTS], of which the range owns those from FIRST_PART on; factor: [1].
// A workgroup owns 4096 consecutive elements.

@group(0) @binding(0) var<storage, read_write> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> flags: array<u32>;
@group(0) @binding(2) var<storage, read> factor: array<f32>;

const elementsPerGroup = 4096u;
var<workgroup> lanes: array<u32, 64>;

@compute @workgroup_size(64)
fn scale(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let groupIndex = group.y * GROUPS_X + group.x;
  let start = groupIndex * elementsPerGroup;
  let end = min(start + elementsPerGroup, COUNT);
  var strange = 0u;
  for (var i = start + lane; i < end; i += 64u) {
    // By the bits: a compiler may assume that floats are finite.
    strange |= select(0u, 1u, (bitcast<u32>(g[i]) & 0x7f800000u) == 0x7f800000u);
    g[i] = g[i] * factor[0];
  }
  lanes[lane] = strange;
  workgroupBarrier();
  for (var reach = 32u; reach > 0u; reach = reach / 2u) {
    if (lane < reach) {
      lanes[lane] |= lanes[lane + reach];
    }
    workgroupBarrier();
  }
  if (lane == 0u && start < COUNT) {
    flags[FIRST_PART + groupIndex] = lanes[0];
  }
}
