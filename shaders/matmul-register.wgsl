// C[m,n] (+)= Σ_k A(m,k)·B(k,n) (+ R[m,n]), every operand row-major with its own row stride (rowA, rowB, rowC).
//   A_BY_COLUMN false: A is [M,K]      true: A is [K,M]      (TN)
//   B_BY_COLUMN false: B is [K,N]      true: B is [N,K]      (NT)
//   a, b: inputs; c: output, or with splits the partial sums [splits,M,N], each over depthPerSplit values of k;
//   r: residual, laid out as C, only with RESIDUAL.
//   A_TYPE, B_TYPE, C_TYPE: f32 or f16, what each is stored as (r as c); products are formed and added in f32.
// One invocation owns 8×8 elements of C, held as four 4×4 matrices, and adds one outer product for each k. It shares
// nothing with its neighbours: no workgroup memory and no barrier, which suits adapters that run invocations in the
// lanes of a CPU. Such adapters gather every scalar by itself and compile each access at length, so there are
// few accesses in the text: no vector loads, no unrolling over k, and the results leave through one store in a loop.
// A workgroup is LANES_M × LANES_N tiles. Past an edge, rows and columns repeat the last one and are not stored.

struct Size {
  m: u32, n: u32, k: u32,
  // Elements from one row to the next.
  rowA: u32, rowB: u32, rowC: u32,
  depthPerSplit: u32,
}

@group(0) @binding(0) var<storage, read> a: array<A_TYPE>;
@group(0) @binding(1) var<storage, read> b: array<B_TYPE>;
@group(0) @binding(2) var<storage, read_write> c: array<C_TYPE>;
#if RESIDUAL
@group(0) @binding(3) var<storage, read> r: array<C_TYPE>;
@group(0) @binding(4) var<uniform> size: Size;
#else
@group(0) @binding(3) var<uniform> size: Size;
#endif

const ramp = vec4<u32>(0u, 1u, 2u, 3u);

@compute @workgroup_size(LANES_N, LANES_M)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let n = id.x * 8u;
  let m = id.y * 8u;
  if (n >= size.n || m >= size.m) { return; }
  // Distances between neighbours along k, and along m or n.
#if A_BY_COLUMN
  let depthA = size.rowA;
  let sideA = 1u;
#else
  let depthA = 1u;
  let sideA = size.rowA;
#endif
#if B_BY_COLUMN
  let depthB = 1u;
  let sideB = size.rowB;
#else
  let depthB = size.rowB;
  let sideB = 1u;
#endif
  let start = id.z * size.depthPerSplit;
  let end = min(start + size.depthPerSplit, size.k);
  var atA0 = min(m + ramp, vec4<u32>(size.m - 1u)) * sideA + start * depthA;
  var atA1 = min(m + 4u + ramp, vec4<u32>(size.m - 1u)) * sideA + start * depthA;
  var atB0 = min(n + ramp, vec4<u32>(size.n - 1u)) * sideB + start * depthB;
  var atB1 = min(n + 4u + ramp, vec4<u32>(size.n - 1u)) * sideB + start * depthB;

  // Matrices have a column for each row of C: top and bottom four rows, left and right four columns.
  var topLeft = mat4x4<f32>();
  var topRight = mat4x4<f32>();
  var bottomLeft = mat4x4<f32>();
  var bottomRight = mat4x4<f32>();
  for (var k = start; k < end; k++) {
    let top = vec4<f32>(vec4<A_TYPE>(a[atA0.x], a[atA0.y], a[atA0.z], a[atA0.w]));
    let bottom = vec4<f32>(vec4<A_TYPE>(a[atA1.x], a[atA1.y], a[atA1.z], a[atA1.w]));
    let left = vec4<f32>(vec4<B_TYPE>(b[atB0.x], b[atB0.y], b[atB0.z], b[atB0.w]));
    let right = vec4<f32>(vec4<B_TYPE>(b[atB1.x], b[atB1.y], b[atB1.z], b[atB1.w]));
    topLeft += mat4x4<f32>(left * top.x, left * top.y, left * top.z, left * top.w);
    topRight += mat4x4<f32>(right * top.x, right * top.y, right * top.z, right * top.w);
    bottomLeft += mat4x4<f32>(left * bottom.x, left * bottom.y, left * bottom.z, left * bottom.w);
    bottomRight += mat4x4<f32>(right * bottom.x, right * bottom.y, right * bottom.z, right * bottom.w);
    atA0 += depthA;
    atA1 += depthA;
    atB0 += depthB;
    atB1 += depthB;
  }

  for (var row = m; row < min(m + 8u, size.m); row++) {
    // Chosen by comparison: an index would move the matrices to memory for the whole kernel.
    var left = topLeft[0];
    var right = topRight[0];
    switch (row - m) {
      case 1u: { left = topLeft[1]; right = topRight[1]; }
      case 2u: { left = topLeft[2]; right = topRight[2]; }
      case 3u: { left = topLeft[3]; right = topRight[3]; }
      case 4u: { left = bottomLeft[0]; right = bottomRight[0]; }
      case 5u: { left = bottomLeft[1]; right = bottomRight[1]; }
      case 6u: { left = bottomLeft[2]; right = bottomRight[2]; }
      case 7u: { left = bottomLeft[3]; right = bottomRight[3]; }
      default: {}
    }
    let at = (id.z * size.m + row) * size.rowC;
    for (var column = n; column < min(n + 8u, size.n); column++) {
      var sum = left.x;
#if RESIDUAL
      sum += f32(r[at + column]);
#endif
#if ACCUMULATE
      sum += f32(c[at + column]);
#endif
      c[at + column] = C_TYPE(sum);
      left = vec4<f32>(left.yzw, right.x);
      right = vec4<f32>(right.yzw, 0.0);
    }
  }
}
