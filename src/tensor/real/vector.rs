//! Vector instructions on the real types, generic over the machine's: the seam to `pulp`.

use pulp::Simd;

/// What kernels that are written in registers need of a real type.
pub trait Vector: Copy + Send + Sync + Default + 'static {
    /// A register of these numbers.
    type Lanes<S: Simd>: Copy;
    /// Numbers in a register.
    fn lanes<S: Simd>() -> usize;
    /// One number in all lanes.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Lanes<S>;
    /// `a·b + c`, fused where the machine does it.
    fn multiply_add<S: Simd>(
        simd: S,
        a: Self::Lanes<S>,
        b: Self::Lanes<S>,
        c: Self::Lanes<S>,
    ) -> Self::Lanes<S>;
    /// `a + b`.
    fn sum<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;
    /// The whole registers of a slice.
    fn registers<S: Simd>(x: &[Self]) -> &[Self::Lanes<S>];
    /// The whole registers of a slice, to be written.
    fn registers_mut<S: Simd>(x: &mut [Self]) -> &mut [Self::Lanes<S>];
    /// The sum of a register's numbers.
    fn total<S: Simd>(simd: S, x: Self::Lanes<S>) -> Self;
}

macro_rules! vector {
    ($type:ty, $lanes:ident, $count:ident, $splat:ident, $multiply_add:ident, $add:ident, $split:ident, $split_mut:ident, $total:ident) => {
        impl Vector for $type {
            type Lanes<S: Simd> = S::$lanes;
            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                S::$count
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$lanes {
                simd.$splat(x)
            }
            #[inline(always)]
            fn multiply_add<S: Simd>(
                simd: S,
                a: S::$lanes,
                b: S::$lanes,
                c: S::$lanes,
            ) -> S::$lanes {
                simd.$multiply_add(a, b, c)
            }
            #[inline(always)]
            fn sum<S: Simd>(simd: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn registers<S: Simd>(x: &[Self]) -> &[S::$lanes] {
                S::$split(x).0
            }
            #[inline(always)]
            fn registers_mut<S: Simd>(x: &mut [Self]) -> &mut [S::$lanes] {
                S::$split_mut(x).0
            }
            #[inline(always)]
            fn total<S: Simd>(simd: S, x: S::$lanes) -> $type {
                simd.$total(x)
            }
        }
    };
}
vector!(
    f32,
    f32s,
    F32_LANES,
    splat_f32s,
    mul_add_e_f32s,
    add_f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    reduce_sum_f32s
);
vector!(
    f64,
    f64s,
    F64_LANES,
    splat_f64s,
    mul_add_e_f64s,
    add_f64s,
    as_simd_f64s,
    as_mut_simd_f64s,
    reduce_sum_f64s
);
