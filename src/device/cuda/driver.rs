//! What the driver gives out: a context, streams, events, modules with their functions. Each is given back when dropped.
//!
//! cudarc has such types too. Theirs keep what goes wrong in a drop, or in a call that another one makes on the way, and
//! return it at some later call, which then is said to have failed and has not. Here every call goes by its own name.
//!
//! What fails while something is given back is not told: the object is gone for the program. A card that has failed for
//! good says so again at the next call, and results are there only when a call has waited for them.

use super::error::{Checked, CudaError};
use cudarc::driver::sys::{self, CUcontext, CUdevice, CUevent, CUfunction, CUmodule, CUresult, CUstream};
use cudarc::driver::sys::{CUevent_flags, CUfunction_attribute};
use cudarc::driver::{DriverError, result};
use std::ffi::CString;
use std::sync::Arc;

/// A card's primary context.
pub(super) struct Context {
    handle: CUcontext,
    device: CUdevice,
}

// SAFETY: a handle of the driver, which takes it from any thread.
unsafe impl Send for Context {}
// SAFETY: as above; the driver has locks of its own.
unsafe impl Sync for Context {}

impl Context {
    /// The context of card number `ordinal`, bound to this thread. The driver is initialised.
    pub fn new(ordinal: usize) -> Result<Arc<Context>, CudaError> {
        let ordinal = i32::try_from(ordinal).unwrap_or(i32::MAX);
        let device = result::device::get(ordinal).call("cuDeviceGet")?;
        // SAFETY: the device comes from cuDeviceGet.
        let handle = unsafe { result::primary_ctx::retain(device) }.call("cuDevicePrimaryCtxRetain")?;
        let context = Arc::new(Context { handle, device });
        context.bind()?;
        Ok(context)
    }

    /// Makes it the one that calls of this thread are about.
    pub fn bind(&self) -> Result<(), CudaError> {
        if result::ctx::get_current().call("cuCtxGetCurrent")? == Some(self.handle) {
            return Ok(());
        }
        // SAFETY: it is retained until the drop.
        unsafe { result::ctx::set_current(self.handle) }.call("cuCtxSetCurrent")
    }

    /// As [`bind`](Context::bind), for what is to be given back whether that succeeds or not: the thread may have the
    /// context all the same.
    pub fn bind_to_give_back(&self) {
        if self.bind().is_err() {
            // SAFETY: it is retained until the drop.
            let _ = unsafe { result::ctx::set_current(self.handle) };
        }
    }

    /// Free and total memory of the card in bytes.
    pub fn memory_bytes(&self) -> Result<(usize, usize), CudaError> {
        self.bind()?;
        result::mem_get_info().call("cuMemGetInfo")
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained by `new`, and everything that belongs to it holds it.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// A queue of work of the card.
pub(super) struct Stream {
    handle: CUstream,
    context: Arc<Context>,
}

// SAFETY: a handle of the driver, which takes it from any thread that has the context bound.
unsafe impl Send for Stream {}
// SAFETY: as above; the driver has locks of its own.
unsafe impl Sync for Stream {}

impl Stream {
    /// A stream that waits for no other.
    pub fn new(context: &Arc<Context>) -> Result<Arc<Stream>, CudaError> {
        context.bind()?;
        let kind = result::stream::StreamKind::NonBlocking;
        let handle = result::stream::create(kind).call("cuStreamCreate")?;
        Ok(Arc::new(Stream { handle, context: context.clone() }))
    }

    /// The driver's handle, good as long as this is here.
    pub fn handle(&self) -> CUstream {
        self.handle
    }

    /// Waits until everything has ended.
    pub fn synchronise(&self) -> Result<(), CudaError> {
        self.context.bind()?;
        // SAFETY: the stream is of the bound context.
        unsafe { result::stream::synchronize(self.handle) }.call("cuStreamSynchronize")
    }

    /// As [`synchronise`](Stream::synchronise), before something is given back that work of the stream may be using.
    /// Another way is tried where the first fails.
    pub fn synchronise_to_give_back(&self) {
        if self.synchronise().is_err() {
            self.context.bind_to_give_back();
            // A card that has failed for good fails here too, and does no more work.
            let _ = result::ctx::synchronize();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.context.bind_to_give_back();
        // SAFETY: made by `new`, not used again.
        let _ = unsafe { result::stream::destroy(self.handle) };
    }
}

/// A point on a stream.
pub(super) struct Event {
    handle: CUevent,
    context: Arc<Context>,
}

// SAFETY: a handle of the driver, which takes it from any thread that has the context bound.
unsafe impl Send for Event {}
// SAFETY: as above; the driver has locks of its own.
unsafe impl Sync for Event {}

impl Event {
    /// A point that is on no stream yet; one of those without a time costs the card less.
    pub fn new(context: &Arc<Context>, timed: bool) -> Result<Event, CudaError> {
        let flags =
            if timed { CUevent_flags::CU_EVENT_DEFAULT } else { CUevent_flags::CU_EVENT_DISABLE_TIMING };
        context.bind()?;
        let handle = result::event::create(flags).call("cuEventCreate")?;
        Ok(Event { handle, context: context.clone() })
    }

    /// Puts it behind everything on a stream of its context.
    pub fn record(&self, stream: &Stream) -> Result<(), CudaError> {
        self.context.bind()?;
        // SAFETY: both are of the bound context: a program has one context a card, and events go with their card.
        unsafe { result::event::record(self.handle, stream.handle) }.call("cuEventRecord")
    }

    /// Waits until the stream has come by.
    pub fn synchronise(&self) -> Result<(), CudaError> {
        self.context.bind()?;
        // SAFETY: the event is of the bound context.
        unsafe { result::event::synchronize(self.handle) }.call("cuEventSynchronize")
    }

    /// Whether the stream has come by; not so where the driver does not say.
    pub fn is_complete(&self) -> bool {
        // SAFETY: the event is alive.
        unsafe { result::event::query(self.handle) }.is_ok()
    }

    /// Milliseconds from `earlier` to this one; waits for both.
    pub fn milliseconds_since(&self, earlier: &Event) -> Result<f32, CudaError> {
        earlier.synchronise()?;
        self.synchronise()?;
        // SAFETY: both are of the bound context.
        unsafe { result::event::elapsed(earlier.handle, self.handle) }.call("cuEventElapsedTime")
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.context.bind_to_give_back();
        // SAFETY: made by `new`, not used again.
        let _ = unsafe { result::event::destroy(self.handle) };
    }
}

/// A loaded image.
pub(super) struct Module {
    handle: CUmodule,
    context: Arc<Context>,
}

// SAFETY: a handle of the driver, which takes it from any thread that has the context bound.
unsafe impl Send for Module {}
// SAFETY: as above; the driver has locks of its own.
unsafe impl Sync for Module {}

impl Module {
    /// Loads an image, a fatbin or a cubin.
    pub fn load(context: &Arc<Context>, image: &[u8]) -> Result<Arc<Module>, LoadError> {
        context.bind().map_err(LoadError::Other)?;
        // SAFETY: the context is bound, and the image says itself how long it is: nvcc and NVRTC have made it.
        let loaded = unsafe { result::module::load_data(image.as_ptr().cast()) };
        let handle = loaded.map_err(LoadError::Image)?;
        Ok(Arc::new(Module { handle, context: context.clone() }))
    }
}

/// Why an image could not be loaded.
pub(super) enum LoadError {
    /// `cuModuleLoadData` has failed.
    Image(DriverError),
    /// It did not come to that.
    Other(CudaError),
}

impl Drop for Module {
    fn drop(&mut self) {
        self.context.bind_to_give_back();
        // SAFETY: loaded by `load`, not used again.
        let _ = unsafe { result::module::unload(self.handle) };
    }
}

/// A kernel of a module.
pub(super) struct Function {
    handle: CUfunction,
    /// Keeps it loaded.
    _module: Arc<Module>,
}

// SAFETY: a handle of the driver, which takes it from any thread that has the context bound.
unsafe impl Send for Function {}
// SAFETY: as above; the driver has locks of its own.
unsafe impl Sync for Function {}

impl Function {
    /// The kernel of that name, which holds no NUL. The context is bound.
    pub fn new(module: &Arc<Module>, name: &str) -> Result<Function, CudaError> {
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: the module is alive.
        let handle =
            unsafe { result::module::get_function(module.handle, name) }.call("cuModuleGetFunction")?;
        Ok(Function { handle, _module: module.clone() })
    }

    /// The driver's handle, good as long as this is here.
    pub fn handle(&self) -> CUfunction {
        self.handle
    }

    /// Bytes of shared memory that its blocks have of their own. The context is bound.
    pub fn shared_bytes(&self) -> Result<i32, CudaError> {
        let which = CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
        // SAFETY: the function is alive.
        unsafe { result::function::get_function_attribute(self.handle, which) }.call("cuFuncGetAttribute")
    }

    /// Sets an attribute. The context is bound.
    pub fn set(&self, which: CUfunction_attribute, value: i32) -> Result<(), CudaError> {
        // SAFETY: the function is alive.
        unsafe { result::function::set_function_attribute(self.handle, which, value) }
            .call("cuFuncSetAttribute")
    }

    /// Bytes of a parameter; what the driver says where there is no such one.
    pub fn parameter_bytes(&self, index: usize) -> Result<usize, CUresult> {
        let (mut offset, mut bytes) = (0, 0);
        // SAFETY: the function is loaded, and two numbers are written.
        match unsafe { sys::cuFuncGetParamInfo(self.handle, index, &mut offset, &mut bytes) } {
            CUresult::CUDA_SUCCESS => Ok(bytes),
            code => Err(code),
        }
    }
}
