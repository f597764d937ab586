// copied[i] = original[i]
//
// original, copied: [COUNT], a range of the flat buffers. A workgroup owns 4096 consecutive elements.

@group(0) @binding(0) var<storage, read> original: array<f32>;
@group(0) @binding(1) var<storage, read_write> copied: array<f32>;

const elementsPerGroup = 4096u;

@compute @workgroup_size(64)
fn copy(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = (group.y * GROUPS_X + group.x) * elementsPerGroup;
  for (var i = start + lane; i < min(start + elementsPerGroup, COUNT); i += 64u) {
    copied[i] = original[i];
  }
}
