//! Launches put together as a graph, which the driver starts at once.
//!
//! The graph is built node by node, each behind the one before. Capturing a stream would give the same
//! one, but the card's stream belongs to all threads: what another happens to launch meanwhile would
//! be captured too, and nothing may load a kernel until the capture ends.

use super::LoadedKernels;
use super::driver::{Context, Function, Stream};
use super::error::{Checked, CudaError};
use crate::launch::RecordedLaunch;
use cudarc::driver::result;
use cudarc::driver::sys::{self, CUgraph, CUgraphExec, CUgraphNode};
use std::sync::{Arc, Mutex, PoisonError};

/// Launches that the driver starts at once. Freed when dropped.
pub struct CudaGraph {
    /// The driver wants calls on it one at a time.
    executable: Mutex<Executable>,
    context: Arc<Context>,
    /// Keeps the kernels loaded that it launches.
    _kernels: Arc<LoadedKernels>,
}

struct Executable(CUgraphExec);

// SAFETY: a handle of the driver, which takes it from any thread that has the context bound.
unsafe impl Send for Executable {}

/// A graph that is being built.
struct Template(CUgraph);

impl Drop for Template {
    fn drop(&mut self) {
        // SAFETY: made by cuGraphCreate, not used again. An error could only repeat an earlier one.
        let _ = unsafe { result::graph::destroy(self.0) };
    }
}

impl CudaGraph {
    /// Puts launches together, each with its kernel, one of `kernels`. The context is bound.
    pub(super) fn new(
        context: &Arc<Context>,
        kernels: &Arc<LoadedKernels>,
        launches: &[(&Function, &RecordedLaunch)],
    ) -> Result<CudaGraph, CudaError> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: writes one handle.
        unsafe { sys::cuGraphCreate(&mut graph, 0) }.result().call("cuGraphCreate")?;
        let graph = Template(graph);
        let mut last: Option<CUgraphNode> = None;
        for (function, launch) in launches {
            // The driver copies the values, and reads only.
            let mut arguments = launch.arguments();
            let (grid, block) = (launch.geometry.grid, launch.geometry.block);
            let node = sys::CUDA_KERNEL_NODE_PARAMS {
                func: function.handle(),
                gridDimX: grid[0],
                gridDimY: grid[1],
                gridDimZ: grid[2],
                blockDimX: block[0],
                blockDimY: block[1],
                blockDimZ: block[2],
                sharedMemBytes: launch.geometry.shared_bytes,
                kernelParams: arguments.pointers_mut().as_mut_ptr(),
                extra: std::ptr::null_mut(),
                kern: std::ptr::null_mut(),
                ctx: std::ptr::null_mut(),
            };
            let before = last.as_slice();
            let mut added = std::ptr::null_mut();
            // SAFETY: the graph is alive, `before` holds nodes of it, and the arguments have the sizes
            // of the kernel's, which the caller has checked where they are known.
            unsafe {
                sys::cuGraphAddKernelNode_v2(&mut added, graph.0, before.as_ptr(), before.len(), &node)
            }
            .result()
            .map_err(|failure| CudaError::node(launch.kernel, launch.geometry, failure))?;
            last = Some(added);
        }
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph is alive.
        let executable = unsafe { result::graph::instantiate(graph.0, flags) }.call_for_memory(
            "cuGraphInstantiateWithFlags",
            0,
            || context.memory_bytes().unwrap_or((0, 0)),
        )?;
        let executable = Mutex::new(Executable(executable));
        Ok(CudaGraph { executable, context: context.clone(), _kernels: kernels.clone() })
    }

    /// Starts the launches, behind everything on the stream. The context is bound.
    ///
    /// # Safety
    ///
    /// The pointers among the arguments are valid until the launches have ended.
    pub(super) unsafe fn launch(&self, stream: &Stream) -> Result<(), CudaError> {
        let executable = self.executable.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: both are alive and of the bound context; the rest is the caller's promise.
        unsafe { result::graph::launch(executable.0, stream.handle()) }.call("cuGraphLaunch")
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        self.context.bind_to_give_back();
        let executable = self.executable.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: made by `new`, not used again. The driver waits for launches under way itself.
        let _ = unsafe { result::graph::exec_destroy(executable.0) };
    }
}
