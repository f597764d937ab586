// Adds a contribution to a sum unless some of it is not finite; decided on the GPU, over the whole contribution.
//
//   inspect:  flags[p] = 1 where one of the 4096 elements of group p is not finite, else 0
//   judge:    verdict = 1 where all flags are 0, else 0
//   add:      sum[i] += contribution[i] where verdict is 1; with CHECKED unset, whatever it is
//
// contribution, sum: [COUNT], a range of the flat buffers; flags: [PARTS], of which the range owns those from FIRST_PART
// on; verdict: [1]. inspect and add: a workgroup owns 4096 consecutive elements. judge: one workgroup.

@group(0) @binding(0) var<storage, read> contribution: array<u32>;
@group(0) @binding(0) var<storage, read> addend: array<f32>;
@group(0) @binding(1) var<storage, read_write> newFlags: array<u32>;
@group(0) @binding(1) var<storage, read> flags: array<u32>;
@group(0) @binding(2) var<storage, read_write> newVerdict: array<u32>;
@group(0) @binding(2) var<storage, read> verdict: array<u32>;
@group(0) @binding(3) var<storage, read_write> sum: array<f32>;

const elementsPerGroup = 4096u;
var<workgroup> lanes: array<u32, 64>;

fn anyLane(value: u32, lane: u32) -> u32 {
  lanes[lane] = value;
  workgroupBarrier();
  for (var reach = 32u; reach > 0u; reach = reach / 2u) {
    if (lane < reach) {
      lanes[lane] |= lanes[lane + reach];
    }
    workgroupBarrier();
  }
  return lanes[0];
}

@compute @workgroup_size(64)
fn inspect(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let groupIndex = group.y * GROUPS_X + group.x;
  let start = groupIndex * elementsPerGroup;
  let end = min(start + elementsPerGroup, COUNT);
  var strange = 0u;
  for (var i = start + lane; i < end; i += 64u) {
    strange |= select(0u, 1u, (contribution[i] & 0x7f800000u) == 0x7f800000u);
  }
  let found = anyLane(strange, lane);
  if (lane == 0u && start < COUNT) {
    newFlags[FIRST_PART + groupIndex] = found;
  }
}

@compute @workgroup_size(64)
fn judge(@builtin(local_invocation_index) lane: u32) {
  var strange = 0u;
  for (var part = lane; part < PARTS; part += 64u) {
    strange |= flags[part];
  }
  let found = anyLane(strange, lane);
  if (lane == 0u) {
    newVerdict[0] = 1u - found;
  }
}

@compute @workgroup_size(64)
fn add(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
#if CHECKED
  if (verdict[0] == 0u) {
    return;
  }
#endif
  let start = (group.y * GROUPS_X + group.x) * elementsPerGroup;
  let end = min(start + elementsPerGroup, COUNT);
  for (var i = start + lane; i < end; i += 64u) {
    sum[i] = sum[i] + addend[i];
  }
}
