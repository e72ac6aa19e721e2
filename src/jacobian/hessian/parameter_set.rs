//! Sets of parameters, one bit each: a network of thousands of parameters has as many of them.

/// A set of parameters, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParameterSet(Vec<u64>);

impl ParameterSet {
    /// The empty set of `count` parameters.
    pub(crate) fn new(count: usize) -> ParameterSet {
        ParameterSet(vec![0; count.div_ceil(64)])
    }

    /// Puts a number in.
    pub(crate) fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    /// Puts all numbers of another set in.
    pub(crate) fn add(&mut self, other: &ParameterSet) {
        self.0
            .iter_mut()
            .zip(&other.0)
            .for_each(|(own, o)| *own |= o);
    }

    /// Whether a number is in.
    pub(crate) fn contains(&self, number: usize) -> bool {
        self.0[number / 64] >> (number % 64) & 1 == 1
    }

    /// The numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let all = 0..64 * self.0.len();
        all.filter(|&number| self.contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_set_returns_inserted_numbers() {
        let (mut few, mut more) = (ParameterSet::new(130), ParameterSet::new(130));
        [0, 63, 64, 129].into_iter().for_each(|k| few.insert(k));
        more.insert(5);
        more.add(&few);
        assert_eq!(more.iter().collect::<Vec<_>>(), [0, 5, 63, 64, 129]);
        assert!(!few.contains(5) && few.contains(129));
    }
}
