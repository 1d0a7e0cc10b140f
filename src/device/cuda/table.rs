//! The kernels that are ready, found by name without a lock and without memory of their own.

use super::images::kernel_table;
use std::sync::{Mutex, OnceLock, PoisonError};

/// What is known of each kernel of a card, a row each of the table that the build wrote. A row is filled when its
/// kernel is first asked for; from then on asking takes a search in a sorted list, and no lock.
pub struct KernelTable<K> {
    rows: Box<[OnceLock<K>]>,
    /// Held while a row is filled.
    loading: Mutex<()>,
}

impl<K> Default for KernelTable<K> {
    fn default() -> KernelTable<K> {
        let rows = kernel_table().iter().map(|_| OnceLock::new()).collect();
        KernelTable { rows, loading: Mutex::new(()) }
    }
}

impl<K> KernelTable<K> {
    /// What is known of the kernel of that name; `None` where there is no such kernel. `load` makes it from the
    /// number of its row, one thread at a time.
    ///
    /// # Errors
    /// The error of `load`, which is called again the next time.
    pub fn get_or_load<E>(
        &self,
        name: &str,
        load: impl FnOnce(usize) -> Result<K, E>,
    ) -> Option<Result<&K, E>> {
        let row = kernel_table().binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
        let slot = self.rows.get(row)?;
        Some(match slot.get() {
            Some(known) => Ok(known),
            None => self.fill(slot, || load(row)),
        })
    }

    #[cold]
    fn fill<'a, E>(&self, slot: &'a OnceLock<K>, load: impl FnOnce() -> Result<K, E>) -> Result<&'a K, E> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = slot.get() {
            return Ok(known);
        }
        let loaded = load()?;
        Ok(slot.get_or_init(|| loaded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_kernel_is_loaded_once_by_whoever_comes_first() {
        let (table, loads) = (KernelTable::<usize>::default(), AtomicUsize::new(0));
        let load = |row| {
            loads.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ()>(row)
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (row, (name, _)) in kernel_table().iter().enumerate() {
                        assert_eq!(table.get_or_load(name, load), Some(Ok(&row)));
                    }
                });
            }
        });
        assert_eq!(loads.into_inner(), kernel_table().len());
    }

    #[test]
    fn a_failure_is_not_kept_and_an_unknown_name_loads_nothing() {
        let table = KernelTable::<u8>::default();
        assert_eq!(table.get_or_load("fill_f32", |_| Err("full")), Some(Err("full")));
        assert_eq!(table.get_or_load("fill_f32", |_| Ok::<_, &str>(3)), Some(Ok(&3)));
        assert_eq!(table.get_or_load("fill_f32", |_| Err("not asked")), Some(Ok(&3)));
        for name in ["", "fill", "fill_f32\0", "zzz"] {
            assert_eq!(table.get_or_load(name, |_| Err("not asked")), None);
        }
    }
}
