// C[m,n] (+)= Σ_s P[s,m,n] (+ R[m,n]): adds the partial products of a matmul whose depth was split, in the order of s.
//   p: [SPLITS,M,N] of f32 from one of the matmul kernels; c: rows of N with stride rowC, C_TYPE f32 or f16; r: as c.
// One invocation owns one element; the grid is two-dimensional because one dimension may be too short.

struct Size { m: u32, n: u32, rowC: u32, splits: u32 }

@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(1) var<storage, read_write> c: array<C_TYPE>;
#if RESIDUAL
@group(0) @binding(2) var<storage, read> r: array<C_TYPE>;
@group(0) @binding(3) var<uniform> size: Size;
#else
@group(0) @binding(2) var<uniform> size: Size;
#endif

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let element = id.y * groups.x * 64u + id.x;
  if (element >= size.m * size.n) { return; }
  var sum = 0.0;
  for (var s = 0u; s < size.splits; s++) {
    sum += p[s * size.m * size.n + element];
  }
  let index = element / size.n * size.rowC + element % size.n;
#if RESIDUAL
  sum += f32(r[index]);
#endif
#if ACCUMULATE
  sum += f32(c[index]);
#endif
  c[index] = C_TYPE(sum);
}
