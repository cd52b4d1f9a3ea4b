//! An allocator that counts what the current thread does with it; a test binary installs it as
//! `#[global_allocator]`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting.
pub struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn count(calls: u64, bytes: i64) {
    // A thread that is being torn down counts no more.
    let _ = CALLS.try_with(|c| c.set(c.get() + calls));
    let _ = LIVE.try_with(|c| c.set(c.get() + bytes));
}

#[expect(unsafe_code, reason = "a global allocator has no safe form; this one only counts")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// How often `f` asks for memory.
pub fn calls(f: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    f();
    CALLS.get() - before
}

/// Bytes this thread holds: asked for, and not given back.
pub fn live() -> i64 {
    LIVE.get()
}

#[test]
fn the_allocator_counts() {
    let before = live();
    let mut held = None;
    assert_eq!(calls(|| held = Some(std::hint::black_box(Box::new([1_u8; 100])))), 1);
    assert_eq!(live(), before + 100);
    drop(held);
    assert_eq!(live(), before);
}
