//! Boxes that are used again: a value in one is as small as a pointer, and after warm-up making one allocates nothing.

use std::cell::RefCell;
use std::ops::Deref;
use std::thread::LocalKey;

/// Empty boxes that a thread keeps for each type.
const MAX_FREE: usize = 256;

/// A value in a box from the thread's pool, where the box goes when the value is dropped.
pub(crate) struct Pooled<T: Poolable>(Option<Box<Option<T>>>);

/// The empty boxes of one thread.
pub(crate) type FreeBoxes<T> = RefCell<Vec<Box<Option<T>>>>;

/// A type with a pool of boxes.
pub(crate) trait Poolable: Sized + 'static {
    /// This thread's empty boxes.
    fn free_boxes() -> &'static LocalKey<FreeBoxes<Self>>;
}

/// Gives a type a pool of boxes.
macro_rules! poolable {
    ($ty:ty) => {
        impl $crate::pooled::Poolable for $ty {
            fn free_boxes() -> &'static std::thread::LocalKey<$crate::pooled::FreeBoxes<Self>> {
                thread_local! {
                    static FREE: $crate::pooled::FreeBoxes<$ty> = const { std::cell::RefCell::new(Vec::new()) };
                }
                &FREE
            }
        }
    };
}
pub(crate) use poolable;

impl<T: Poolable> Pooled<T> {
    #[inline]
    pub(crate) fn new(value: T) -> Pooled<T> {
        // A thread that ends has no pool any more.
        let free = T::free_boxes().try_with(|free| free.borrow_mut().pop()).ok().flatten();
        Pooled(Some(match free {
            Some(mut place) => {
                *place = Some(value);
                place
            }
            None => Box::new(Some(value)),
        }))
    }

    #[inline]
    pub(crate) fn into_inner(mut self) -> T {
        match self.take() {
            Some(value) => value,
            None => unreachable!("the box is full until its owner is dropped"),
        }
    }

    /// Moves the value out, and gives the box back.
    #[inline]
    fn take(&mut self) -> Option<T> {
        let mut place = self.0.take()?;
        let value = place.take();
        let _ = T::free_boxes().try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < MAX_FREE {
                free.push(place);
            }
        });
        value
    }
}

impl<T: Poolable> Drop for Pooled<T> {
    #[inline]
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T: Poolable> Deref for Pooled<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self.0.as_deref() {
            Some(Some(value)) => value,
            _ => unreachable!("the box is full until its owner is dropped"),
        }
    }
}

impl<T: Poolable> std::ops::DerefMut for Pooled<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match self.0.as_deref_mut() {
            Some(Some(value)) => value,
            _ => unreachable!("the box is full until its owner is dropped"),
        }
    }
}

impl<T: Poolable + Clone> Clone for Pooled<T> {
    #[inline]
    fn clone(&self) -> Pooled<T> {
        Pooled::new((**self).clone())
    }
}

impl<T: Poolable + std::fmt::Debug> std::fmt::Debug for Pooled<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Long {
        values: [u64; 9],
    }
    poolable!(Long);

    fn long(n: u64) -> Pooled<Long> {
        Pooled::new(Long { values: [n; 9] })
    }

    fn n_free() -> usize {
        Long::free_boxes().with(|free| free.borrow().len())
    }

    #[test]
    fn boxes_are_used_again() {
        assert_eq!(size_of::<Pooled<Long>>(), size_of::<usize>());
        let a = long(1);
        let mut b = a.clone();
        b.values[0] = 2;
        assert_eq!((a.values[0], b.values[0], n_free()), (1, 2, 0));
        drop(a);
        assert_eq!(n_free(), 1);
        assert_eq!((b.into_inner().values[0], n_free()), (2, 2));
        let c = long(3);
        assert_eq!((c.values[8], n_free()), (3, 1));
        let many: Vec<Pooled<Long>> = (0..2 * MAX_FREE as u64).map(long).collect();
        drop(many);
        assert_eq!(n_free(), MAX_FREE);
    }
}
