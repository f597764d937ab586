// What a device's own steps come to.
//
//   change:  gradients[i] = (replica[i] - local[i]) weight         from new to old, so that it is a gradient's like
//
// replica, local, gradients: [COUNT], a range of the flat buffers; weight: [1], the loss weight that the change stands for.
// A workgroup owns 4096 consecutive elements.

@group(0) @binding(0) var<storage, read> replica: array<f32>;
@group(0) @binding(1) var<storage, read> local: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;

const elementsPerGroup = 4096u;

@compute @workgroup_size(64)
fn change(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = (group.y * GROUPS_X + group.x) * elementsPerGroup;
  for (var i = start + lane; i < min(start + elementsPerGroup, COUNT); i += 64u) {
    gradients[i] = (replica[i] - local[i]) * weight[0];
  }
}
