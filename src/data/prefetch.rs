//! Making numbered items ahead of time on threads, handed out in order.
//!
//! Threads claim the next number, make its item and put it into a ring of `ahead` places; a number
//! is claimed only when its place is free, so no more than `ahead` items wait. Which thread makes
//! an item is open, what it is depends on its number alone. A panic while making an item becomes
//! the answer to whoever asks for it; dropping the queue stops the threads and waits for them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Items from `first` on, in order.
#[derive(Debug)]
pub(super) struct Queue<T> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// An item has been made.
    made: Condvar,
    /// An item has been taken, or all is to stop.
    taken: Condvar,
    stop: AtomicBool,
}

#[derive(Debug)]
struct State<T> {
    /// The number that a thread claims next.
    next: u64,
    /// The number that is handed out next.
    due: u64,
    /// Item `n` is at `n` modulo their count; a panic's text in the place of an item.
    ring: Vec<Option<Result<T, String>>>,
}

impl<T> Shared<T> {
    /// Nothing is changed half-way under the lock, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Queue<T> {
    /// Start `threads` (1 at least), each with a function of its own that makes item `n`, or gives
    /// nothing once the flag is up.
    ///
    /// # Errors
    /// The system does not give a thread.
    pub fn start<M>(
        threads: usize,
        ahead: usize,
        first: u64,
        mut maker: impl FnMut() -> M,
    ) -> std::io::Result<Self>
    where
        M: FnMut(u64, &AtomicBool) -> Option<T> + Send + 'static,
    {
        let ring = std::iter::repeat_with(|| None).take(ahead.max(1)).collect();
        let state = Mutex::new(State { next: first, due: first, ring });
        let (made, taken, stop) = (Condvar::new(), Condvar::new(), AtomicBool::new(false));
        let shared = Arc::new(Shared { state, made, taken, stop });
        // Dropped on an early return, which stops the threads that did start.
        let mut queue = Self { shared, threads: Vec::new() };
        for number in 0..threads.max(1) {
            let (shared, mut make) = (Arc::clone(&queue.shared), maker());
            let thread = std::thread::Builder::new()
                .name(format!("loader-{number}"))
                .spawn(move || work(&shared, &mut make))?;
            queue.threads.push(thread);
        }
        Ok(queue)
    }

    /// The number of the item that [`next`](Self::next) gives.
    pub fn due(&self) -> u64 {
        self.shared.lock().due
    }

    /// The next item; waits until it is there.
    ///
    /// # Errors
    /// What the panic said that ended the making of this item; the next call gives the same.
    pub fn next(&mut self) -> Result<T, String> {
        let mut state = self.shared.lock();
        loop {
            let place = (state.due % state.ring.len() as u64) as usize;
            match state.ring[place].take() {
                Some(Ok(item)) => {
                    state.due += 1;
                    self.shared.taken.notify_all();
                    return Ok(item);
                }
                Some(Err(reason)) => {
                    state.ring[place] = Some(Err(reason.clone()));
                    return Err(reason);
                }
                None => state = self.shared.made.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        {
            // Under the lock, so that no thread is between looking at the flag and going to sleep.
            let _state = self.shared.lock();
            self.shared.stop.store(true, Ordering::SeqCst);
            self.shared.taken.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A thread catches its panics; what else could end it has nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// What a thread does until it is stopped or fails.
fn work<T>(shared: &Shared<T>, make: &mut impl FnMut(u64, &AtomicBool) -> Option<T>) {
    loop {
        let mut state = shared.lock();
        while !shared.stop.load(Ordering::SeqCst) && state.next >= state.due + state.ring.len() as u64 {
            state = shared.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let number = state.next;
        state.next += 1;
        drop(state);
        let item = match catch_unwind(AssertUnwindSafe(|| make(number, &shared.stop))) {
            Ok(Some(item)) => Ok(item),
            Ok(None) => return,
            Err(panic) => Err(text_of(&*panic)),
        };
        let failed = item.is_err();
        let mut state = shared.lock();
        let place = (number % state.ring.len() as u64) as usize;
        state.ring[place] = Some(item);
        shared.made.notify_all();
        if failed {
            return;
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    #[test]
    fn items_come_in_order_whatever_the_number_of_threads() {
        for threads in [1, 2, 5] {
            for ahead in [1, 3, 8] {
                let mut queue = Queue::start(threads, ahead, 40, || {
                    |n: u64, _: &AtomicBool| {
                        // Later items are done first.
                        std::thread::sleep(Duration::from_micros(200 * (4 - n % 4)));
                        Some(n * n)
                    }
                })
                .unwrap();
                for n in 40..70 {
                    assert_eq!(queue.due(), n);
                    assert_eq!(queue.next(), Ok(n * n));
                }
            }
        }
    }

    #[test]
    fn no_more_than_asked_for_wait() {
        let made = Arc::new(AtomicU64::new(0));
        let mut queue = Queue::start(3, 4, 0, || {
            let made = Arc::clone(&made);
            move |n: u64, _: &AtomicBool| {
                made.fetch_add(1, Ordering::SeqCst);
                Some(n)
            }
        })
        .unwrap();
        for n in 0..50 {
            assert_eq!(queue.next(), Ok(n));
            assert!(made.load(Ordering::SeqCst) <= n + 1 + 4);
        }
    }

    #[test]
    fn a_panic_is_the_answer_to_its_item_and_the_items_before_it_are_whole() {
        let mut queue = Queue::start(2, 4, 0, || {
            |n: u64, _: &AtomicBool| {
                assert!(n != 3, "item {n} is broken");
                Some(n)
            }
        })
        .unwrap();
        assert_eq!([queue.next(), queue.next(), queue.next()], [Ok(0), Ok(1), Ok(2)]);
        for _ in 0..2 {
            assert_eq!(queue.next(), Err("item 3 is broken".to_owned()));
        }
    }

    #[test]
    fn dropping_stops_threads_that_wait_and_threads_that_work() {
        let alive = Arc::new(());
        let queue = Queue::start(2, 1, 0, || {
            let alive = Arc::clone(&alive);
            move |n: u64, stop: &AtomicBool| {
                let _alive = &alive;
                // The first item is made and fills the queue, the second takes for ever.
                while n > 0 && !stop.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                (n == 0).then_some(n)
            }
        })
        .unwrap();
        drop(queue);
        assert_eq!(Arc::strong_count(&alive), 1, "a thread is left");
    }
}
