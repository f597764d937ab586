// C[m,n] (+)= Σ_k A(m,k)·B(k,n) (+ R[m,n]): the same product, operands and flags as matmul-register.wgsl, for GPUs.
// One workgroup of 16×16 invocations owns a 64×64 tile of C. It walks K in steps of 16: all invocations copy the
// 64×16 tile of A and the 16×64 tile of B, each with coalesced reads, into 8 KiB of workgroup memory (k-major,
// so that the inner loop reads neighbours), then each multiplies its own 4×4 elements. Elements past an edge
// are read as zero and not stored.

struct Size {
  m: u32, n: u32, k: u32,
  // Elements from one row to the next.
  rowA: u32, rowB: u32, rowC: u32,
  depthPerSplit: u32,
}

#if VECTOR_A
@group(0) @binding(0) var<storage, read> a: array<vec4<A_TYPE>>;
#else
@group(0) @binding(0) var<storage, read> a: array<A_TYPE>;
#endif
#if VECTOR_B
@group(0) @binding(1) var<storage, read> b: array<vec4<B_TYPE>>;
#else
@group(0) @binding(1) var<storage, read> b: array<B_TYPE>;
#endif
@group(0) @binding(2) var<storage, read_write> c: array<C_TYPE>;
#if RESIDUAL
@group(0) @binding(3) var<storage, read> r: array<C_TYPE>;
@group(0) @binding(4) var<uniform> size: Size;
#else
@group(0) @binding(3) var<uniform> size: Size;
#endif

const tileExtent = 64u;
const tileDepth = 16u;

// [k][m] and [k][n].
var<workgroup> tileA: array<f32, 1024>;
var<workgroup> tileB: array<f32, 1024>;

// Four consecutive elements of a row, zero where row or column is past its end.
fn loadA(row: u32, column: u32, rows: u32, columns: u32) -> vec4<f32> {
  if (row >= rows || column >= columns) { return vec4<f32>(); }
  let start = row * size.rowA + column;
#if VECTOR_A
  let value = vec4<f32>(a[start / 4u]);
#else
  let value = vec4<f32>(vec4<A_TYPE>(a[start], a[start + min(1u, columns - 1u - column)],
                                     a[start + min(2u, columns - 1u - column)], a[start + min(3u, columns - 1u - column)]));
#endif
  return select(vec4<f32>(), value, vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(columns));
}

fn loadB(row: u32, column: u32, rows: u32, columns: u32) -> vec4<f32> {
  if (row >= rows || column >= columns) { return vec4<f32>(); }
  let start = row * size.rowB + column;
#if VECTOR_B
  let value = vec4<f32>(b[start / 4u]);
#else
  let value = vec4<f32>(vec4<B_TYPE>(b[start], b[start + min(1u, columns - 1u - column)],
                                     b[start + min(2u, columns - 1u - column)], b[start + min(3u, columns - 1u - column)]));
#endif
  return select(vec4<f32>(), value, vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(columns));
}

fn store(row: u32, column: u32, split: u32, value: vec4<f32>) {
  if (row >= size.m || column >= size.n) { return; }
  let index = (split * size.m + row) * size.rowC + column;
  for (var i = 0u; i < min(4u, size.n - column); i++) {
    var sum = value[i];
#if RESIDUAL
    sum += f32(r[index + i]);
#endif
#if ACCUMULATE
    sum += f32(c[index + i]);
#endif
    c[index + i] = C_TYPE(sum);
  }
}

@compute @workgroup_size(16, 16)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let m = group.y * tileExtent;
  let n = group.x * tileExtent;
  let start = group.z * size.depthPerSplit;
  let end = min(start + size.depthPerSplit, size.k);

  var row0 = vec4<f32>();
  var row1 = vec4<f32>();
  var row2 = vec4<f32>();
  var row3 = vec4<f32>();
  for (var k = start; k < end; k += tileDepth) {
#if A_BY_COLUMN
    // Sixteen rows of sixteen quads along m.
    let quadA = loadA(k + lane / 16u, m + lane % 16u * 4u, end, size.m);
    let atA = lane / 16u * tileExtent + lane % 16u * 4u;
    tileA[atA] = quadA.x;
    tileA[atA + 1u] = quadA.y;
    tileA[atA + 2u] = quadA.z;
    tileA[atA + 3u] = quadA.w;
#else
    // Sixty-four rows of four quads along k.
    let quadA = loadA(m + lane / 4u, k + lane % 4u * 4u, size.m, end);
    let atA = lane % 4u * 4u * tileExtent + lane / 4u;
    tileA[atA] = quadA.x;
    tileA[atA + tileExtent] = quadA.y;
    tileA[atA + 2u * tileExtent] = quadA.z;
    tileA[atA + 3u * tileExtent] = quadA.w;
#endif
#if B_BY_COLUMN
    let quadB = loadB(n + lane / 4u, k + lane % 4u * 4u, size.n, end);
    let atB = lane % 4u * 4u * tileExtent + lane / 4u;
    tileB[atB] = quadB.x;
    tileB[atB + tileExtent] = quadB.y;
    tileB[atB + 2u * tileExtent] = quadB.z;
    tileB[atB + 3u * tileExtent] = quadB.w;
#else
    let quadB = loadB(k + lane / 16u, n + lane % 16u * 4u, end, size.n);
    let atB = lane / 16u * tileExtent + lane % 16u * 4u;
    tileB[atB] = quadB.x;
    tileB[atB + 1u] = quadB.y;
    tileB[atB + 2u] = quadB.z;
    tileB[atB + 3u] = quadB.w;
#endif
    workgroupBarrier();
    for (var depth = 0u; depth < tileDepth; depth++) {
      let atM = depth * tileExtent + local.y * 4u;
      let atN = depth * tileExtent + local.x * 4u;
      let right = vec4<f32>(tileB[atN], tileB[atN + 1u], tileB[atN + 2u], tileB[atN + 3u]);
      row0 = fma(vec4<f32>(tileA[atM]), right, row0);
      row1 = fma(vec4<f32>(tileA[atM + 1u]), right, row1);
      row2 = fma(vec4<f32>(tileA[atM + 2u]), right, row2);
      row3 = fma(vec4<f32>(tileA[atM + 3u]), right, row3);
    }
    workgroupBarrier();
  }
  let row = m + local.y * 4u;
  let column = n + local.x * 4u;
  store(row, column, group.z, row0);
  store(row + 1u, column, group.z, row1);
  store(row + 2u, column, group.z, row2);
  store(row + 3u, column, group.z, row3);
}
