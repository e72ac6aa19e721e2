//! A table of bounded size for what is costly to find and cheap to find again.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Values by key, up to a total weight. A full cache is emptied.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    entries: HashMap<K, V>,
    weight: usize,
    most: usize,
}

impl<K: Eq + Hash, V> Cache<K, V> {
    /// Creates an empty cache that is full at a total weight of `most`.
    pub(crate) fn new(most: usize) -> Self {
        Cache {
            entries: HashMap::new(),
            weight: 0,
            most,
        }
    }

    /// The value of a key, if it is in the cache.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// Puts in a value of that weight.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        if self.weight >= self.most {
            self.entries.clear();
            self.weight = 0;
        }
        self.weight += weight;
        self.entries.insert(key, value);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_cache_is_emptied_before_the_next_value() {
        let mut cache = Cache::new(3);
        for key in 0..3 {
            cache.insert(key, 10 * key, 1);
        }
        assert_eq!((cache.get(&0), cache.len()), (Some(&0), 3));
        cache.insert(3, 30, 5);
        assert_eq!((cache.get(&0), cache.get(&3)), (None, Some(&30)));
        cache.insert(4, 40, 1);
        assert_eq!((cache.get(&3), cache.len()), (None, 1));
    }
}
