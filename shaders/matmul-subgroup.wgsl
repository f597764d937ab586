// C[m,n] (+)= Σ_k A(m,k)·B(k,n) (+ R[m,n]): the same product, operands and flags as matmul-register.wgsl, for adapters
// that run invocations in the lanes of a CPU and let lanes exchange values.
// There a load from a buffer costs as much as ten multiplications, since every lane's address is checked and fetched by
// itself. So a workgroup is one subgroup of four or eight lanes that owns 16 rows and 32 columns of C: its lanes share the
// loads of A and hand the values round, and each loads the B of its own eight or four columns. Four values of k are
// multiplied out before the sum goes to its accumulator, which lies in memory: CPUs have too few registers.
// Past an edge, rows and columns repeat the last one and are not stored; past the depth, A counts as zero.

enable subgroups;

struct Size {
  m: u32, n: u32, k: u32,
  // Elements from one row to the next.
  rowA: u32, rowB: u32, rowC: u32,
  depthPerSplit: u32,
}

@group(0) @binding(0) var<storage, read> a: array<A_TYPE>;
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

const ramp = vec4<u32>(0u, 1u, 2u, 3u);
#if LANES_8
const lanes = 8u;
#else
const lanes = 4u;
#endif
const columnsPerLane = 32u / lanes;

fn loadA(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(vec4<A_TYPE>(a[at.x], a[at.y], a[at.z], a[at.w])); }

#if VECTOR_B
fn loadB(at: u32) -> vec4<f32> { return vec4<f32>(b[at / 4u]); }
#else
fn loadB(at: vec4<u32>) -> vec4<f32> { return vec4<f32>(vec4<B_TYPE>(b[at.x], b[at.y], b[at.z], b[at.w])); }
#endif

// B(k..k+3, column..column+3): a column for each column of B, a row for each k.
fn blockOfB(k: u32, end: u32, column: u32) -> mat4x4<f32> {
#if B_BY_COLUMN
  let columns = min(column + ramp, vec4<u32>(size.n - 1u)) * size.rowB;
#if VECTOR_B
  let at = columns + k;
  return mat4x4<f32>(loadB(at.x), loadB(at.y), loadB(at.z), loadB(at.w));
#else
  let depths = min(k + ramp, vec4<u32>(end - 1u));
  return mat4x4<f32>(loadB(columns.x + depths), loadB(columns.y + depths), loadB(columns.z + depths), loadB(columns.w + depths));
#endif
#else
  let depths = min(k + ramp, vec4<u32>(end - 1u)) * size.rowB;
#if VECTOR_B
  let at = depths + min(column, (size.n - 1u) / 4u * 4u);
  return transpose(mat4x4<f32>(loadB(at.x), loadB(at.y), loadB(at.z), loadB(at.w)));
#else
  let columns = min(column + ramp, vec4<u32>(size.n - 1u));
  return transpose(mat4x4<f32>(loadB(columns + depths.x), loadB(columns + depths.y),
                               loadB(columns + depths.z), loadB(columns + depths.w)));
#endif
#endif
}

// Four rows of A that four lanes hold, one k each: a column for each k.
fn fromLow(x: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u));
}
#if LANES_8
fn fromHigh(x: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(subgroupBroadcast(x, 4u), subgroupBroadcast(x, 5u), subgroupBroadcast(x, 6u), subgroupBroadcast(x, 7u));
}
#endif

@compute @workgroup_size(lanes)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  let m = group.y * 16u;
  let n = (group.x * lanes + lane) * columnsPerLane;
  let start = group.z * size.depthPerSplit;
  let end = min(start + size.depthPerSplit, size.k);
#if A_BY_COLUMN
  let depthA = size.rowA;
  let sideA = 1u;
#else
  let depthA = 1u;
  let sideA = size.rowA;
#endif
  let last = vec4<u32>(size.m - 1u);
#if LANES_8
  // The first four lanes hold the upper eight rows, the others the lower eight.
  let firstRow = m + lane / 4u * 8u;
#else
  let firstRow = m;
  let rows2 = min(firstRow + 8u + ramp, last) * sideA;
  let rows3 = min(firstRow + 12u + ramp, last) * sideA;
#endif
  let rows0 = min(firstRow + ramp, last) * sideA;
  let rows1 = min(firstRow + 4u + ramp, last) * sideA;

  // Matrices have a column for each column of C and a row for each row of C: four row blocks, left and (with four
  // lanes) right columns.
  var left0 = mat4x4<f32>();
  var left1 = mat4x4<f32>();
  var left2 = mat4x4<f32>();
  var left3 = mat4x4<f32>();
#if !LANES_8
  var right0 = mat4x4<f32>();
  var right1 = mat4x4<f32>();
  var right2 = mat4x4<f32>();
  var right3 = mat4x4<f32>();
#endif
  for (var k = start; k < end; k += 4u) {
    let own = k + lane % 4u;
    let at = min(own, end - 1u) * depthA;
    let counts = select(0.0, 1.0, own < end);
    let x0 = loadA(rows0 + at) * counts;
    let x1 = loadA(rows1 + at) * counts;
#if !LANES_8
    let x2 = loadA(rows2 + at) * counts;
    let x3 = loadA(rows3 + at) * counts;
#endif
    let blockLeft = blockOfB(k, end, n);
#if LANES_8
    left0 += fromLow(x0) * blockLeft;
    left1 += fromLow(x1) * blockLeft;
    left2 += fromHigh(x0) * blockLeft;
    left3 += fromHigh(x1) * blockLeft;
#else
    let blockRight = blockOfB(k, end, n + 4u);
    let a0 = fromLow(x0);
    left0 += a0 * blockLeft;
    right0 += a0 * blockRight;
    let a1 = fromLow(x1);
    left1 += a1 * blockLeft;
    right1 += a1 * blockRight;
    let a2 = fromLow(x2);
    left2 += a2 * blockLeft;
    right2 += a2 * blockRight;
    let a3 = fromLow(x3);
    left3 += a3 * blockLeft;
    right3 += a3 * blockRight;
#endif
  }

  for (var column = n; column < min(n + columnsPerLane, size.n); column++) {
    // Chosen by comparison: an index would move the matrices to memory that lanes read one by one.
    var rest0 = left0[0];
    var rest1 = left1[0];
    var rest2 = left2[0];
    var rest3 = left3[0];
    switch (column - n) {
      case 1u: { rest0 = left0[1]; rest1 = left1[1]; rest2 = left2[1]; rest3 = left3[1]; }
      case 2u: { rest0 = left0[2]; rest1 = left1[2]; rest2 = left2[2]; rest3 = left3[2]; }
      case 3u: { rest0 = left0[3]; rest1 = left1[3]; rest2 = left2[3]; rest3 = left3[3]; }
#if !LANES_8
      case 4u: { rest0 = right0[0]; rest1 = right1[0]; rest2 = right2[0]; rest3 = right3[0]; }
      case 5u: { rest0 = right0[1]; rest1 = right1[1]; rest2 = right2[1]; rest3 = right3[1]; }
      case 6u: { rest0 = right0[2]; rest1 = right1[2]; rest2 = right2[2]; rest3 = right3[2]; }
      case 7u: { rest0 = right0[3]; rest1 = right1[3]; rest2 = right2[3]; rest3 = right3[3]; }
#endif
      default: {}
    }
    for (var row = m; row < min(m + 16u, size.m); row++) {
      let at = (group.z * size.m + row) * size.rowC + column;
      var sum = rest0.x;
#if RESIDUAL
      sum += f32(r[at]);
#endif
#if ACCUMULATE
      sum += f32(c[at]);
#endif
      c[at] = C_TYPE(sum);
      rest0 = vec4<f32>(rest0.yzw, rest1.x);
      rest1 = vec4<f32>(rest1.yzw, rest2.x);
      rest2 = vec4<f32>(rest2.yzw, rest3.x);
      rest3 = vec4<f32>(rest3.yzw, 0.0);
    }
  }
}
