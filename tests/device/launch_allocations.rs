//! A launch takes no memory of the host.
//!
//! Counted is what the Rust side allocates on the thread that launches: from a list of calls through the launch code
//! of every operator, `Launcher` and `Arguments` to the emulator's launch, and the replay of a recorded list; the same
//! to a card's `cuLaunchKernel` and `cuGraphLaunch`, on the stand-in driver, in builds that have images.
//! What C++ allocates is not counted, neither the emulator's nor a driver's, nor what a build with checks takes to check
//! a call.

use natv2::device::{Device, Emulator, Gpu, Memory, emulated};
use natv2::ops::{Threads, cases, halves::Format};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: passes everything on to the system's allocator; counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: passed on to the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: passed on to the caller.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `work`.
fn allocations<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATIONS.get();
    let result = work();
    (result, ALLOCATIONS.get() - before)
}

#[test]
fn allocations_are_counted() {
    assert_eq!(allocations(|| vec![1u8; 3]).1, 1);
    assert_eq!(allocations(|| [1u8; 3]).1, 0);
}

#[test]
fn no_operator_allocates_to_launch_its_kernels() {
    let Ok(emulator) = Emulator::new(emulated::ThreadOrder::Forward) else {
        assert!(emulated::kernels().is_empty(), "the emulator was built and cannot be opened");
        return;
    };
    count_launches(&Gpu::new(emulator));
}

#[cfg(all(feature = "cuda", target_os = "linux", natv2_emulator, natv2_fatbin))]
#[test]
fn no_operator_allocates_to_launch_its_kernels_on_a_card() {
    use crate::common::stand_in::alone;
    let Some(driver) = alone!() else { return };
    let card = natv2::device::open("cuda").expect("the card");
    let (_, launches) = driver.counted("cuLaunchKernel", || count_launches(&*card));
    assert!(launches > 100 && driver.count("cuGraphLaunch") > 30, "{launches}");
}

/// Launches the calls of networks, and checks that nothing is allocated for it.
fn count_launches(device: &dyn Device) {
    let network = cases::network(1, 32).into_iter().chain(cases::network_in(Format::Bf16, 1, 32));
    let (mut names, mut wrong) = (Vec::new(), Vec::new());
    for case in network {
        // A kernel a shape will do: how it is launched does not depend on the rest.
        if names.contains(&case.call.name()) && case.arena > 1 << 16 {
            continue;
        }
        names.push(case.call.name());
        let (host_weights, host_arena) = case.operands(1);
        let mut weights = device.allocate(case.weights).expect("weights");
        let mut arena = device.allocate(case.arena).expect("arena");
        device.upload(&mut weights, 0, &host_weights).expect("upload");
        device.upload(&mut arena, 0, &host_arena).expect("upload");
        let mut memory = Memory { weights: &weights, network: &weights, arena: &mut arena };
        let calls = std::slice::from_ref(&case.call);
        device.run(calls, memory.again(), Threads::One).expect("the first run");
        let (ran, count) = allocations(|| device.run(calls, memory.again(), Threads::One));
        ran.expect("the second run");
        let recording = device.record(calls, memory.again()).expect("record").expect("a recording");
        assert!(device.replay(&recording, memory.again(), Threads::One).expect("the first replay"));
        let (replayed, replay_count) = allocations(|| device.replay(&recording, memory, Threads::One));
        assert!(replayed.expect("the replay"), "{}", case.name);
        let (sound, checks) = allocations(|| case.call.is_launchable());
        assert!(sound, "{}", case.name);
        let checks = if cfg!(debug_assertions) { checks } else { 0 };
        if count != checks || replay_count != 0 {
            let (name, count) = (case.call.name(), count as i64 - checks as i64);
            wrong.push(format!("{name} {}: {count}, {replay_count} replayed", case.name));
        }
    }
    assert!(wrong.is_empty(), "allocations to launch:\n{}", wrong.join("\n"));
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 30, "{names:?}");
}

#[cfg(feature = "cuda")]
#[test]
fn a_card_finds_a_kernel_without_allocating() {
    let table = natv2::device::cuda::KernelTable::<[u64; 4]>::default();
    let ask = |name| table.get_or_load(name, |row| Ok::<_, ()>([row as u64; 4])).is_some();
    for &(name, _) in natv2::device::cuda::kernel_table() {
        assert!(ask(name));
        assert_eq!(allocations(|| ask(name)), (true, 0));
    }
    assert_eq!(allocations(|| ask("no_such_kernel")), (false, 0));
}
