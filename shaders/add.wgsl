// result[i] = a[i] + b[i]
// a, b, result: [COUNT] of TYPE. A workgroup owns 64 consecutive elements.

@group(0) @binding(0) var<storage, read> a: array<TYPE>;
@group(0) @binding(1) var<storage, read> b: array<TYPE>;
@group(0) @binding(2) var<storage, read_write> result: array<TYPE>;

@compute @workgroup_size(64)
fn add(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i < COUNT) {
    result[i] = TYPE(f32(a[i]) + f32(b[i]));
  }
}
