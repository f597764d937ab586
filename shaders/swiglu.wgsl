// Gated linear unit with the sigmoid-weighted gate, forward and backward; s(g) = 1 / (1 + exp(-g)).
//
//   forward:   y[i] = gate[i] s(gate[i]) up[i]
//   backward:  dup[i] = dy[i] gate[i] s(gate[i])
//              dgate[i] = dy[i] up[i] s(gate[i]) (1 + gate[i] (1 - s(gate[i])))
//
// All tensors: [COUNT]. A workgroup owns 64 consecutive elements.

@group(0) @binding(0) var<storage, read> gate: array<f32>;
@group(0) @binding(1) var<storage, read> up: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dgate: array<f32>;
@group(0) @binding(4) var<storage, read_write> dup: array<f32>;

// exp overflows past 88, where the sigmoid is zero to all digits anyway.
fn sigmoid(value: f32) -> f32 {
  return 1.0 / (1.0 + exp(min(-value, 80.0)));
}

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i < COUNT) {
    y[i] = gate[i] * sigmoid(gate[i]) * up[i];
  }
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i < COUNT) {
    let g = gate[i];
    let u = up[i];
    let arriving = dy[i];
    let s = sigmoid(g);
    dgate[i] = arriving * u * s * (1.0 + g * (1.0 - s));
    dup[i] = arriving * g * s;
  }
}
