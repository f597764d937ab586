// The same values in another type.
//
//   y[i] = TO(x[i])
//
// x, y: [COUNT]. A workgroup owns 64 consecutive elements.

@group(0) @binding(0) var<storage, read> x: array<FROM>;
@group(0) @binding(1) var<storage, read_write> y: array<TO>;

@compute @workgroup_size(64)
fn convert(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i < COUNT) {
    y[i] = TO(x[i]);
  }
}
