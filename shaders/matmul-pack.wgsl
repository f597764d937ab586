// P[rows,rowP] = B[rows,columns], and zero in the up to three columns that pad each row of P to whole quads: for matmul
// kernels that read vectors, where the rows of B don't start at multiples of four.
//   b: rows with stride rowB, B_TYPE f32 or f16; p: the same type, rowP columns.
// One invocation owns one quad of P; the grid is two-dimensional because one dimension may be too short.

struct Size { rows: u32, columns: u32, rowB: u32, rowP: u32 }

@group(0) @binding(0) var<storage, read> b: array<B_TYPE>;
@group(0) @binding(1) var<storage, read_write> p: array<vec4<B_TYPE>>;
@group(0) @binding(2) var<uniform> size: Size;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let quad = id.y * groups.x * 64u + id.x;
  if (quad >= size.rows * (size.rowP / 4u)) { return; }
  let column = quad % (size.rowP / 4u) * 4u;
  let at = quad / (size.rowP / 4u) * size.rowB + column;
  let last = size.columns - 1u - column;
  let value = vec4<B_TYPE>(b[at], b[at + min(1u, last)], b[at + min(2u, last)], b[at + min(3u, last)]);
  p[quad] = select(vec4<B_TYPE>(), value, vec4<u32>(0u, 1u, 2u, 3u) <= vec4<u32>(last));
}
