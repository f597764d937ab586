// C[m,n] (+)= Σ_s P[s,m,n] (+ R[m,n]): adds the partial products of a matmul whose depth was split, in the order of s.
//   p: [SPLITS,M,N] from matmul-register.wgsl or matmul-workgroup.wgsl; c: rows of N with stride ROW_C; r: as c.
// One invocation owns one element; the grid is two-dimensional because one dimension may be too short.

@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(1) var<storage, read_write> c: array<f32>;
#if RESIDUAL
@group(0) @binding(2) var<storage, read> r: array<f32>;
#endif

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let element = id.y * groups.x * 64u + id.x;
  if (element >= M * N) { return; }
  var sum = 0.0;
  for (var s = 0u; s < SPLITS; s++) {
    sum += p[s * M * N + element];
  }
  let index = element / N * ROW_C + element % N;
#if RESIDUAL
  sum += r[index];
#endif
#if ACCUMULATE
  sum += c[index];
#endif
  c[index] = sum;
}
