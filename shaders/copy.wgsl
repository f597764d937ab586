// result[i] = a[i], or result[i] += a[i] with ACCUMULATE
// a, result: [COUNT]. A workgroup owns 64 consecutive elements.

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn copy(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i < COUNT) {
#if ACCUMULATE
    result[i] = result[i] + a[i];
#else
    result[i] = a[i];
#endif
  }
}
