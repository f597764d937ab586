// The elementwise parts of a Newton-Schulz iteration, which brings a matrix near the nearest one with orthonormal rows or columns.
//
//   squares:     parts[g] = sum of u[i]^2 over the 4096 elements of group g
//   normalize:   x[i] = u[i] / max(sqrt(sum of parts), 1e-12)
//   polynomial:  c[i] = a (1 on the diagonal) + b gram[i] + c gramSquared[i], of square matrices of SIDE rows; a, b, c are COEFFICIENT_A_F, _B, _C
//
// u, x: [COUNT]; parts: [PARTS]; gram, gramSquared, c: [SIDE, SIDE], COUNT = SIDE^2. squares and normalize: a workgroup owns 4096
// consecutive elements; polynomial: 64.

@group(0) @binding(0) var<storage, read> u: array<f32>;
@group(0) @binding(1) var<storage, read_write> newParts: array<f32>;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(0) var<storage, read> gram: array<f32>;
@group(0) @binding(1) var<storage, read> gramSquared: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

const elementsPerGroup = 4096u;
var<workgroup> lanes: array<f32, 64>;

fn groupSum(value: f32, lane: u32) -> f32 {
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
fn squares(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let groupIndex = group.y * GROUPS_X + group.x;
  let end = min((groupIndex + 1u) * elementsPerGroup, COUNT);
  var sum = 0.0;
  for (var i = groupIndex * elementsPerGroup + lane; i < end; i += 64u) {
    sum += u[i] * u[i];
  }
  let total = groupSum(sum, lane);
  if (lane == 0u && groupIndex < PARTS) {
    newParts[groupIndex] = total;
  }
}

@compute @workgroup_size(64)
fn normalize(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var part = lane; part < PARTS; part += 64u) {
    sum += parts[part];
  }
  let scale = 1.0 / max(sqrt(groupSum(sum, lane)), 1e-12);
  let groupIndex = group.y * GROUPS_X + group.x;
  let end = min((groupIndex + 1u) * elementsPerGroup, COUNT);
  for (var i = groupIndex * elementsPerGroup + lane; i < end; i += 64u) {
    x[i] = u[i] * scale;
  }
}

@compute @workgroup_size(64)
fn polynomial(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i < COUNT) {
    let one = select(0.0, COEFFICIENT_A_F, i / SIDE == i % SIDE);
    c[i] = one + COEFFICIENT_B_F * gram[i] + COEFFICIENT_C_F * gramSquared[i];
  }
}
