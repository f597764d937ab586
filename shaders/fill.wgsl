// result[i] = VALUE_F
// result: [COUNT]. A workgroup owns 64 consecutive elements.

@group(0) @binding(0) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn fill(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i < COUNT) {
    result[i] = VALUE_F;
  }
}
